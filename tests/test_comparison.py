"""Generated against real music: what the figures say of music that is alike, unlike, silent or copied."""

from dataclasses import replace

import numpy as np
import pytest
from music_support import QUICK, WINDOW, V, binary, compare, melody, piece, pieces

from varcli.pianoroll.evaluation import comparison
from varcli.pianoroll.evaluation.comparison import Options, compare_music
from varcli.pianoroll.evaluation.music_metrics import HISTOGRAMS, METRICS
from varcli.pianoroll.evaluation.shared_runs import Shared, SharedRun, Voices
from varcli.pianoroll.evaluation.summary import figures_of
from varcli.pianoroll.evaluation.windows import bar_windows, first_step_windows
from varcli.pianoroll.events import MetricCompared
from varcli.pianoroll.roll import Vocabulary

REAL = pieces(12, 100)


@pytest.fixture(autouse=True)
def _no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds, and has tests of its own."""
    monkeypatch.setattr(comparison, "classifiers_of", lambda *sides: ())


def overlaps(generated: list, reference: list) -> dict[str, float]:
    return {one.metric.name: one.overlap.value for one in compare(generated, reference).metrics}


def test_windows_of_generated_pieces_begin_at_their_first_step_and_may_be_short_or_silent() -> None:
    long, short = melody(0, 150), melody(1, 40)
    rest = np.zeros((128, 2 * WINDOW), np.uint8)
    found = first_step_windows([piece(long), piece(short), piece(rest)], V, WINDOW)
    assert [(window.start, window.cells.shape[1]) for window in found] == [
        (0, 64),
        (64, 64),
        (0, 40),
        (0, 64),
        (64, 64),
    ]
    assert np.array_equal(found[0].cells, long[:, :64])
    assert np.array_equal(found[2].cells, short)
    assert not found[3].cells.any()
    assert [window.start for window in bar_windows([piece(rest), piece(long)], V, WINDOW)] == [0, 64]


def test_the_same_music_overlaps_fully() -> None:
    found = compare(REAL, REAL)
    assert all(one.overlap.value == pytest.approx(1) for one in found.metrics)
    assert found.mean.value == pytest.approx(1) and found.mean_all.value == pytest.approx(1)
    assert {one.metric.name for one in found.metrics} == {metric.name for metric in (*METRICS, *HISTOGRAMS)}


def test_what_differs_says_so_and_what_does_not_does_not() -> None:
    similar = overlaps(pieces(12, 200), REAL)
    chromatic = overlaps([piece(melody(seed, scale=tuple(range(12)))) for seed in range(12)], REAL)
    soft = [replace(one, cells=np.where(one.cells > 2, 2, one.cells).astype(np.uint8)) for one in REAL]
    softened = overlaps(soft, REAL)
    assert np.mean(list(similar.values())) > 0.75
    assert chromatic["scale_consistency"] < 0.4 < similar["scale_consistency"]
    assert chromatic["durations"] > 0.8
    assert softened["velocities"] < 0.1 < similar["velocities"]
    assert softened["mean_velocity"] < 0.1
    assert softened["durations"] == softened["pitch_range"] == pytest.approx(1)


def test_the_mean_is_over_core_metrics_and_the_lowest_is_one_of_them() -> None:
    found = compare(pieces(6, 300), REAL)
    core = {one.metric.name: one.overlap.value for one in found.metrics if one.metric.core}
    assert set(core) == {
        *("pitch_range", "pitch_class_entropy", "scale_consistency", "polyphony", "note_density"),
        *("groove_consistency", "empty_bar_rate", "durations", "velocities"),
    }
    assert found.mean.value == pytest.approx(np.mean(list(core.values())))
    assert found.mean.low < found.mean.value < found.mean.high
    assert found.mean_all.value == pytest.approx(np.mean([one.overlap.value for one in found.metrics]))
    assert found.lowest and found.lowest.overlap.value == min(core.values())


def test_real_pieces_among_themselves() -> None:
    found = compare(pieces(30, 300), REAL)
    assert found.real_windows == len(REAL) // 2
    assert 0.6 < found.real < 1
    assert found.real == pytest.approx(np.mean([one.real for one in found.metrics if one.metric.core]))
    assert compare(pieces(2, 300), REAL).real_windows == 4
    few = compare(pieces(3, 300), REAL[:3])
    assert few.real_windows == 0
    assert np.isnan(few.real) and all(np.isnan(one.real) for one in few.metrics)


def test_real_pieces_are_compared_with_all_windows_of_others() -> None:
    # Softer in the first window, louder in the second: alike only if both are there.
    rising = [replace(one, cells=one.cells.copy()) for one in REAL]
    for one in rising:
        for half, code in ((one.cells[:, :WINDOW], 4), (one.cells[:, WINDOW:], 14)):
            half[half >= 2] = code
    by_name = {one.metric.name: one for one in compare(pieces(6, 300), rising).metrics}
    assert by_name["mean_velocity"].real > 0.7


def test_silent_windows_are_counted_and_have_no_pitches() -> None:
    silent = piece(np.zeros((128, WINDOW), np.uint8))
    found = compare([silent, *REAL], REAL)
    assert found.silent == 1
    assert len(found.generated) == 2 * len(REAL) + 1
    by_name = {one.metric.name: one for one in found.metrics}
    assert np.isnan(by_name["polyphony"].generated[0])
    assert by_name["polyphony"].overlap.value == pytest.approx(1)
    assert by_name["note_density"].overlap.value < 1


def test_nothing_but_silence_has_no_overlap_but_no_error_either() -> None:
    found = compare([piece(np.zeros((128, WINDOW), np.uint8))] * 3, REAL, pieces(2, 0, "train"))
    by_name = {one.metric.name: one.overlap.value for one in found.metrics}
    assert np.isnan(by_name["polyphony"]) and np.isnan(by_name["durations"])
    assert by_name["note_density"] == pytest.approx(0, abs=1e-6)
    assert found.lowest and np.isfinite(found.mean.value)
    assert found.copies[0].generated[0].longest.steps == 0


def test_a_copy_stands_out_among_held_out_pieces() -> None:
    training = pieces(10, 0, "train")
    copied = piece(np.roll(training[4].cells, 3, axis=0), "copied")
    for copies in compare([*pieces(5, 50), copied], REAL, training).copies:
        steps = [one.longest.steps for one in copies.generated]
        assert min(steps[-2:]) > 55  # the windows of the copy
        assert max(steps[:-2]) < 25
        assert copies.generated[-1].longest.found == 4
        assert copies.generated[-1].longest.transposition == 3
        assert max(one.longest.steps for one in copies.held_out) < 25
        assert 0 < copies.as_many <= max(one.longest.steps for one in copies.held_out)


def test_as_many_held_out_windows_as_there_are_are_all_of_them() -> None:
    for copies in compare(pieces(12, 50), REAL, pieces(6, 0, "train")).copies:
        assert len(copies.generated) == len(copies.held_out)
        assert copies.as_many == max(one.longest.steps for one in copies.held_out)


def test_training_pieces_are_not_held_out() -> None:
    training = pieces(4, 0, "train")
    found = compare(pieces(2, 50), [*training, *REAL], training)
    assert len(found.held_out) == 2 * len(REAL)
    assert len(found.reference) == 2 * (len(REAL) + len(training))
    nobody = compare(pieces(2, 50), training, training)
    assert nobody.held_out == ()
    assert all(np.isnan(copies.as_many) for copies in nobody.copies)
    assert figures_of(nobody)["copies"]["all_voices"]["held_out"] is None


def test_without_training_pieces_there_is_nothing_to_copy() -> None:
    found = compare(pieces(2, 50), REAL)
    assert found.copies == ()
    assert figures_of(found)["copies"] is None


def test_binary_music_has_no_velocities() -> None:
    vocabulary = Vocabulary(binary=True)
    found = compare(list(map(binary, pieces(4, 50))), list(map(binary, REAL)), vocabulary=vocabulary)
    assert not any("velocit" in one.metric.name for one in found.metrics)
    assert len(found.metrics) == len(METRICS) - 1


def test_an_event_per_metric_and_equal_figures_for_equal_seeds() -> None:
    ours, theirs = first_step_windows(pieces(3, 50), V, WINDOW), bar_windows(REAL, V, WINDOW)
    *events, one = compare_music(ours, theirs, pieces(2, 0, "train"), V, QUICK)
    total = len(METRICS) + len(HISTOGRAMS) + len(Voices)
    assert [event.done for event in events if isinstance(event, MetricCompared)] == list(range(1, total + 1))
    assert {event.total for event in events if isinstance(event, MetricCompared)} == {total}
    *_, again = compare_music(ours, theirs, pieces(2, 0, "train"), V, QUICK)
    *_, other = compare_music(ours, theirs, pieces(2, 0, "train"), V, Options(seed=1, resamples=30))
    assert figures_of(one) == figures_of(again)  # pyright: ignore[reportArgumentType]
    assert one.mean.value == other.mean.value and one.mean.low != other.mean.low  # pyright: ignore


def test_figures_of_a_comparison() -> None:
    found = compare(pieces(4, 50), REAL, pieces(3, 0, "train"))
    document = figures_of(found)
    assert document["windows"] == {"generated": 8, "reference": 24}
    assert document["pieces"] == {"generated": 4, "reference": 12}
    assert document["lowest_overlap"] == document["metrics"][document["lowest_metric"]]["overlap"]
    pitch_range = document["metrics"]["pitch_range"]
    assert set(pitch_range) == {"label", "unit", "core", "overlap", "interval", "real", "generated", "reference"}
    assert pitch_range["reference"]["windows"] == 24
    durations = document["metrics"]["durations"]
    assert sum(durations["generated"]) == pytest.approx(sum(durations["reference"])) == pytest.approx(1)
    shared = sum(map(min, durations["generated"], durations["reference"]))
    assert durations["overlap"] == pytest.approx(shared)
    copies = document["copies"]["top_line"]["generated"]
    assert copies["found_in"] in {"0.mid", "1.mid", "2.mid"} and copies["piece"] in {f"{n}.mid" for n in range(50, 54)}
    assert copies["median_steps"] <= copies["steps"]
    run = Shared(SharedRun(20, 3, 1, 2, 5, -2), SharedRun(4, 9, 30, 0, 7, 0))
    other = Shared(SharedRun(19, 8, 1, 1, 5, 0), SharedRun(19, 8, 1, 1, 5, 0))
    sides = replace(found.copies[0], generated=(*[other] * 7, run), as_many=12.0)
    said = figures_of(replace(found, copies=(sides,)))["copies"]["all_voices"]
    assert said["held_out_of_as_many"] == 12
    assert said["generated"] == {
        **{"windows": 8, "steps": 20, "notes": 3, "piece": "53.mid", "step": WINDOW + 1, "found_in": "2.mid"},
        **{"found_step": 5, "transposition": -2, "most_notes": 9, "median_steps": 19},
    }
