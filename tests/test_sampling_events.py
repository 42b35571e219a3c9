"""What sampling tells while it goes on: events as things are written, grids of any width, settings refused at once."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from fractal_support import samples, tiny, tiny_config, unmask_counts

from varcli.errors import UsageError
from varcli.pianoroll.events import LevelStarted, PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.generation.generate import SampleSettings, generate
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Vocabulary


def test_ar_events_tell_of_every_patch_and_the_canvas_only_grows() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True, velocity_bins=3)
    canvases: dict[int, list[np.ndarray]] = defaultdict(list)
    tops: dict[int, list[PatchDone]] = defaultdict(list)
    order: dict[int, list[type]] = defaultdict(list)
    for event in generate(model, SampleSettings(num_samples=3, batch_size=2, target_width=10)):
        assert isinstance(event, SampleStarted | LevelStarted | PatchDone | SampleDone)
        order[event.sample].append(type(event))
        if isinstance(event, SampleStarted):
            assert (event.total, event.canvas.shape) == (3, (8, 10))
            assert not event.canvas.any()
        elif isinstance(event, PatchDone):
            canvases[event.sample].append(event.canvas.copy())
            assert (event.kind, event.iteration, event.iterations, event.batch) == ("ar", 0, 0, 0)
            assert all(0 <= a < b <= 8 and 0 <= c < d <= 10 for a, b, c, d in event.bounds)
            if event.level == 0:
                tops[event.sample].append(event)
        elif isinstance(event, SampleDone):
            canvases[event.sample].append(event.roll.cells)
    assert sorted(order) == [0, 1, 2]
    for sample, kinds in order.items():
        assert kinds[0] is SampleStarted and kinds[-1] is SampleDone and kinds[1] is LevelStarted
        assert [event.index for event in tops[sample]] == [1, 2, 3, 4, 5, 6]
        assert {event.total for event in tops[sample]} == {6}
        assert [event.bounds[0] for event in tops[sample]][:3] == [(0, 4, 0, 4), (4, 8, 0, 4), (0, 4, 4, 8)]
        assert tops[sample][-1].bounds == ((4, 8, 8, 10),)
        assert_grows(canvases[sample])


def assert_grows(canvases: list[np.ndarray]) -> None:
    """What is written stays; the last canvas is the sample."""
    for before, after in itertools.pairwise(canvases):
        assert np.array_equal(after[before > 0], before[before > 0])
    assert np.array_equal(canvases[-1], canvases[-2])
    assert canvases[-1].any()


def test_an_ar_patch_is_complete_when_it_is_said_to_be_done() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True)
    final = samples(model, target_width=10)[0]
    for event in generate(model, SampleSettings(target_width=10)):
        if isinstance(event, PatchDone):
            for a, b, c, d in event.bounds:
                assert np.array_equal(event.canvas[a:b, c:d], final[a:b, c:d])


@pytest.mark.parametrize("iterations", [(3, 2, 2, 1), (50, 50, 50, 50), (1, 1, 1, 1)])
def test_masked_events_tell_of_iterations_and_batches(iterations) -> None:
    model = tiny("mar", "4x4>2x2>1x1", 8, notes=True, sample={"batch_generate_size": 2})
    canvases, tops, bounds = [], [], Counter()
    for event in generate(model, SampleSettings(target_width=10, num_iter_list=iterations)):
        if isinstance(event, LevelStarted) and event.level == 0:
            assert (event.kind, event.total, event.iterations) == ("mar", 6, len(unmask_counts(6, iterations[0])))
        elif isinstance(event, PatchDone):
            canvases.append(event.canvas.copy())
            if event.level == 0:
                tops.append(event)
                bounds.update(event.bounds)
                assert 1 <= len(event.bounds) <= 2
        elif isinstance(event, SampleDone):
            canvases.append(event.roll.cells)
            final = event.roll.cells
    assert_grows(canvases)
    assert len(bounds) == 6 and set(bounds.values()) == {1}
    assert tops[-1].index == tops[-1].total == 6
    assert all(a.index < b.index for a, b in itertools.pairwise(tops))
    assert [e.index for e in tops] == list(itertools.accumulate(len(e.bounds) for e in tops))
    per_iteration = Counter()
    for event in tops:
        per_iteration[event.iteration] += len(event.bounds)
        assert event.batch == -(-per_iteration[event.iteration] // 2)
    assert [per_iteration[i] for i in sorted(per_iteration)] == unmask_counts(6, iterations[0])
    for event in tops:
        for a, b, c, d in event.bounds:
            assert np.array_equal(event.canvas[a:b, c:d], final[a:b, c:d])


def test_unmasking_starts_slowly_and_leaves_nothing_out() -> None:
    for n, iterations in itertools.product(range(1, 70), (1, 2, 5, 12, 64, 1000)):
        counts = unmask_counts(n, iterations)
        assert sum(counts) == n and min(counts) >= 1 and len(counts) <= iterations
    counts = unmask_counts(128, 12)
    assert len(counts) == 12 and counts[0] < 3 < 16 <= counts[-1]
    assert unmask_counts(128, 1) == [128]
    assert unmask_counts(40, 10**6) == [1] * 40


@pytest.mark.parametrize("kind", ["ar", "mar"])
@pytest.mark.parametrize(("steps", "patches"), [(1, 8), (37, 24), (512, 256)])
def test_any_width_has_its_own_grid_of_patches(kind, steps, patches) -> None:
    torch.manual_seed(0)
    model = FractalModel(tiny_config(kind, "16x16>4x4>1x1", 128, notes=True)).eval()
    with torch.no_grad():
        model.level_models[0].head.bias.fill_(-4.0)
    boxes = set()
    for event in generate(model, SampleSettings(target_width=steps)):
        if isinstance(event, PatchDone) and event.level == 0:
            boxes.update(event.bounds)
            assert event.total == patches
        elif isinstance(event, SampleDone):
            assert event.roll.cells.shape == (128, steps)
    rows, columns = range(0, 128, 16), range(0, steps, 16)
    assert boxes == {(p, p + 16, t, min(t + 16, steps)) for p in rows for t in columns}


def test_rolls_carry_grid_tempo_and_vocabulary() -> None:
    model = tiny("ar", "2x2>1x1", 4, notes=True, velocity_bins=3, model={"steps_per_beat": 3, "steps_per_bar": 9})
    *_, done = generate(model, SampleSettings(target_width=6, tempo_bpm=90.0, seed=5))
    assert isinstance(done, SampleDone)
    roll = done.roll
    assert (roll.steps_per_beat, roll.steps_per_bar, roll.tempo_bpm) == (3, 9, 90.0)
    assert roll.vocabulary == Vocabulary(3)
    assert "seed 5" in roll.title and "sample 0" in roll.title
    assert Vocabulary.of(tiny("ar", "1x1", 2).config.model) == Vocabulary(binary=True)


@pytest.mark.parametrize(
    ("kinds", "settings", "said"),
    [
        ("ar", {"num_samples": 0}, "--num-samples is 0"),
        ("ar", {"batch_size": 0}, "--batch-size is 0"),
        ("ar", {"target_width": 0}, "--target-width is 0"),
        ("ar", {"seed": -1}, "--seed is -1"),
        ("ar", {"temperature": 0.0}, "--temperature 0: must be above 0"),
        ("ar", {"temperature": float("nan")}, "--temperature nan: must be above 0"),
        ("ar", {"top_p": 0.0}, "--top-p 0: must be above 0 and at most 1"),
        ("ar", {"top_p": 1.5}, "--top-p 1.5: must be above 0 and at most 1"),
        ("ar", {"top_p": (0.9, 0.0)}, "--top-p 0: must be above 0"),
        ("ar", {"top_p": (0.9, 0.9, 0.9)}, "--top-p has 3 numbers; the model has 2 levels"),
        ("ar", {"temperature": ()}, "--temperature has 0 numbers; the model has 2 levels"),
        ("ar", {"scan_order": "row_major"}, "trained for scan order column_major, not row_major"),
        ("ar", {"num_iter_list": (2, 2)}, "every level of this one is AR"),
        ("mar", {"scan_order": "row_major"}, "means nothing to a masked model"),
        ("mar", {"num_iter_list": (2,)}, "has 1 numbers; the model has 2 levels"),
        ("mar", {"num_iter_list": (2, 0)}, "--num-iter-list holds 0"),
        (("mar", "ar"), {"scan_order": "row_major"}, "trained for scan order column_major"),
    ],
)
def test_settings_a_model_cannot_honour_are_refused_before_any_work(kinds, settings, said) -> None:
    model = FractalModel(tiny_config(kinds, "2x2>1x1", 4))
    with pytest.raises(UsageError) as caught:
        generate(model, SampleSettings(**settings))
    assert said in caught.value.message
    assert caught.value.hint and "\n" not in caught.value.message


def test_settings_a_model_can_honour_are_taken() -> None:
    assert len(samples(tiny("ar", "2x2>1x1", 4), target_width=3, scan_order="column_major")) == 1
    mixed = tiny(("mar", "ar"), "2x2>1x1", 4)
    assert len(samples(mixed, target_width=3, scan_order="column_major", num_iter_list=(2, 1))) == 1
