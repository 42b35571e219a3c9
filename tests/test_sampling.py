"""Sampling: the frequencies the model says, the same sample whatever its company, events as they happen."""

import itertools
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, codes_of, follow, follow_with, price, tiny, tiny_config

from varcli.errors import UsageError
from varcli.events import LevelStarted, PatchDone, SampleDone, SampleStarted
from varcli.pianoroll.choose import Sampler, Scorer
from varcli.pianoroll.fractal import FractalModel, build
from varcli.pianoroll.generate import SampleSettings, generate, vocabulary_of, warm_up
from varcli.pianoroll.mar import unmask_counts
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.run import Run


def samples(model: FractalModel, **settings: Any) -> list[np.ndarray]:
    """Cells u8 [P, T] of all samples."""
    done = [event for event in generate(model, SampleSettings(**settings)) if isinstance(event, SampleDone)]
    return [event.roll.cells for event in done]


def frequencies(model: FractalModel, steps: int, count: int, batch: int, **options: Any) -> np.ndarray:
    """How often each canvas of `all_canvases` is drawn at temperature 1 [canvases]."""
    codes = codes_of(model)
    found = np.zeros(codes ** (model.tree.pitches * steps))
    places = codes ** np.arange(model.tree.pitches * steps)[::-1]
    for first in range(0, count, batch):
        choosers = [Sampler(model.tree, steps, (7, first + i), 1.0, 1.0) for i in range(batch)]
        run = Run(model, choosers, range(batch), steps, **options)
        for _ in run.events():
            pass
        for sheet in run.sheets:
            found[int(sheet.visible.astype(int).ravel() @ places)] += 1
    return found


def assert_drawn_from(found: np.ndarray, probability: np.ndarray) -> None:
    """A chi-square test: rare canvases share a bin; fails by chance once in 10,000."""
    import scipy.stats

    count = found.sum()
    rare = probability * count < 5
    expected = np.append(probability[~rare], probability[rare].sum()) * count
    drawn = np.append(found[~rare], found[rare].sum())
    kept = expected > 0
    assert not drawn[~kept].any()
    statistic = ((drawn[kept] - expected[kept]) ** 2 / expected[kept]).sum()
    assert kept.sum() > 8
    assert statistic < scipy.stats.chi2.ppf(1 - 1e-4, kept.sum() - 1)


@pytest.mark.parametrize(
    ("shapes", "pitches", "steps", "options"),
    [
        ("2x2>1x1", 2, 3, {}),
        ("2x1>1x1", 4, 2, {"scan_order": "row_major"}),
        ("2x2>1x1", 2, 2, {"notes": True, "velocity_bins": 1}),
    ],
)
@pytest.mark.parametrize("batch", [1, 300])
def test_ar_samples_come_as_often_as_their_probability_says(shapes, pitches, steps, options, batch) -> None:
    model = softer(tiny("ar", shapes, pitches, **options))
    probability = np.exp(-price(model, all_canvases(pitches, steps, codes_of(model))))
    assert_drawn_from(frequencies(model, steps, 400 if batch == 1 else 3000, batch), probability)


def softer(model: FractalModel) -> FractalModel:
    """Smaller output weights, so that many canvases are likely."""
    with torch.no_grad():
        for level in model.level_models:
            level.head.weight.mul_(0.3)
    return model


class InOrder(Scorer):
    """Follows a canvas in one given order of every family."""

    def __init__(self, model: FractalModel, codes: np.ndarray, orders: dict[int, tuple[int, ...]]) -> None:
        super().__init__(model.tree, codes)
        self._orders = orders

    def order(self, level: int, p: np.ndarray, t: np.ndarray) -> np.ndarray:
        return np.array(self._orders[level * 100 + int(p[0] + 10 * t[0])])


@pytest.mark.parametrize("kinds", [("mar", "mar"), ("ar", "mar"), ("mar", "ar")], ids="-".join)
@pytest.mark.parametrize("notes", [False, True])
def test_masked_samples_come_as_often_as_the_mean_over_all_orders_says(kinds, notes) -> None:
    model = softer(tiny(kinds, "2x1>1x1", 2, notes=notes))
    canvases = all_canvases(2, 2, codes_of(model)).numpy()
    # Two patches and two cells in each: two orders per family.
    keys = (0, 100, 110)
    probability = np.zeros(len(canvases))
    for orders in itertools.product(((0, 1), (1, 0)), repeat=3):
        scorers = [InOrder(model, canvas, dict(zip(keys, orders, strict=True))) for canvas in canvases]
        probability += np.exp(-follow_with(model, canvases, scorers)) / 8
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    assert_drawn_from(frequencies(model, 2, 3000, 500, batch_generate_size=1), probability)


@pytest.mark.parametrize("notes", [False, True])
def test_cells_unmasked_together_come_as_often_as_they_are_priced(notes) -> None:
    model = softer(tiny("mar", "2x2>1x1", 2, notes=notes))
    canvases = all_canvases(2, 2 if notes else 3, codes_of(model)).numpy()
    together: dict[str, Any] = {"iterations": (1, 1, 1), "batch_generate_size": 16}
    # Decided at once, cells of one patch are independent but for the one that must be there.
    probability = np.exp(-follow(model, canvases, **together))
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    assert_drawn_from(frequencies(model, canvases.shape[2], 3000, 500, **together), probability)


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_a_sample_does_not_depend_on_how_many_follow_it(kind, monkeypatch) -> None:
    sizes = []

    def counted(model: FractalModel, choosers: list[Sampler], *rest: Any, **options: Any) -> Run:
        sizes.append(len(choosers))
        return Run(model, choosers, *rest, **options)

    # Rows of a smaller batch may be rounded in another way, so the last one is filled up.
    monkeypatch.setattr("varcli.pianoroll.generate.Run", counted)
    model = tiny(kind, "4x4>2x2>1x1", 8, notes=True, velocity_bins=3)
    common = {"batch_size": 2, "target_width": 10, "seed": 3}
    one, three, five = (samples(model, num_samples=n, **common) for n in (1, 3, 5))
    assert [len(one), len(three), len(five)] == [1, 3, 5]
    for few, more in ((one, three), (three, five)):
        assert all(np.array_equal(a, b) for a, b in zip(few, more, strict=False))
    assert all(np.array_equal(a, b) for a, b in zip(three, samples(model, num_samples=3, **common), strict=True))
    assert len({cells.tobytes() for cells in five}) == 5
    assert sizes == [2, 2, 2, 2, 2, 2, 2, 2]
    others = samples(model, num_samples=3, **common | {"seed": 4})
    assert not any(np.array_equal(a, b) for a, b in itertools.product(three, others))


@pytest.mark.parametrize("kind", ["ar", "mar"])
@pytest.mark.parametrize("cold", [{"temperature": 1e-4}, {"top_p": 1e-6}])
def test_cold_sampling_takes_the_likeliest_whatever_the_seed(kind, cold) -> None:
    model = tiny(kind, "2x2>1x1", 2, notes=True, velocity_bins=3)
    # Masked cells decided all at once depend on no order.
    how = {"num_iter_list": (1, 1, 1)} if kind == "mar" else {}
    with torch.no_grad():
        for level in model.level_models[:2]:
            level.head.bias.add_(1.5)
    steps = 2 if kind == "mar" else 6
    assert len({samples(model, target_width=steps, seed=s, **how)[0].tobytes() for s in range(8)}) > 4
    found = {samples(model, target_width=steps, seed=s, **how, **cold)[0].tobytes() for s in range(8)}
    assert len(found) == 1


def test_cold_ar_samples_follow_the_likeliest_decision_at_every_turn() -> None:
    model = tiny("ar", "1x1", 3, seed=2)
    cells = samples(model, target_width=4, top_p=0.5)[0]
    greedy = np.zeros((3, 4), np.uint8)
    for t, p in itertools.product(range(4), range(3)):
        on = greedy.copy()
        on[p, t] = 1
        # With one level, the price of the rest does not matter: compare what this decision costs.
        nats = [decision_nats(model, canvas, p, t) for canvas in (greedy, on)]
        greedy[p, t] = int(nats[1] < nats[0])
    assert np.array_equal(cells, greedy)


def decision_nats(model: FractalModel, canvas: np.ndarray, p: int, t: int) -> float:
    from varcli.pianoroll.fractal import Draw

    with torch.inference_mode():
        (decisions,) = model.walk(torch.from_numpy(canvas)[None], Draw(torch.Generator()))
    return float(decisions.nats[(decisions.pitch == p) & (decisions.step == t)])


def test_temperature_and_top_p_default_to_what_the_checkpoint_says() -> None:
    plain = tiny("ar", "2x2>1x1", 4)
    cold = tiny("ar", "2x2>1x1", 4, sample={"temperature": 0.2, "top_p": 0.9})
    said = samples(plain, target_width=8, temperature=0.2, top_p=0.9)
    assert np.array_equal(samples(cold, target_width=8)[0], said[0])
    assert np.array_equal(
        samples(cold, target_width=8, temperature=1.0, top_p=1.0)[0], samples(plain, target_width=8)[0]
    )
    assert not np.array_equal(said[0], samples(plain, target_width=8)[0])


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
    model = build(tiny_config(kind, "16x16>4x4>1x1", 128, notes=True)).eval()
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


def test_held_cells_follow_a_sounding_one_where_the_model_sees_it() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True)
    with torch.no_grad():
        for level in model.level_models:
            level.head.bias[0] += 2.0
    held = 0
    for cells in samples(model, num_samples=4, batch_size=4, target_width=20):
        before = np.concatenate([np.zeros((8, 1), np.uint8), cells[:, :-1]], 1)
        held += int((cells == 1).sum())
        assert (before[cells == 1] > 0).all()
    assert held > 20


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_no_note_is_held_from_before_the_first_step(kind) -> None:
    model = tiny(kind, "4x4>1x1", 8, notes=True)
    with torch.no_grad():
        for level in model.level_models:
            level.head.bias[0] += 4.0
    cells = np.stack(samples(model, num_samples=8, batch_size=8, target_width=6))
    assert (cells[:, :, 0] > 0).sum() > 20 and (cells == 1).sum() > 20
    assert not (cells[:, :, 0] == 1).any()


def test_rolls_carry_grid_tempo_and_vocabulary() -> None:
    model = tiny("ar", "2x2>1x1", 4, notes=True, velocity_bins=3, model={"steps_per_beat": 3, "steps_per_bar": 9})
    *_, done = generate(model, SampleSettings(target_width=6, tempo_bpm=90.0, seed=5))
    assert isinstance(done, SampleDone)
    roll = done.roll
    assert (roll.steps_per_beat, roll.steps_per_bar, roll.tempo_bpm) == (3, 9, 90.0)
    assert roll.vocabulary == vocabulary_of(model) == Vocabulary(3)
    assert "seed 5" in roll.title and "sample 0" in roll.title
    assert vocabulary_of(tiny("ar", "1x1", 2)) == Vocabulary(binary=True)


def test_warming_up_leaves_samples_as_they_are() -> None:
    model = tiny("ar", "2x2>1x1", 4)
    before = samples(model, target_width=6)[0]
    warm_up(model)
    assert np.array_equal(samples(model, target_width=6)[0], before)


@pytest.mark.parametrize(
    ("kinds", "settings", "said"),
    [
        ("ar", {"num_samples": 0}, "--num-samples is 0"),
        ("ar", {"batch_size": 0}, "--batch-size is 0"),
        ("ar", {"target_width": 0}, "--target-width is 0"),
        ("ar", {"seed": -1}, "--seed is -1"),
        ("ar", {"temperature": 0.0}, "--temperature is 0.0"),
        ("ar", {"temperature": float("nan")}, "--temperature is nan"),
        ("ar", {"top_p": 0.0}, "--top-p is 0.0"),
        ("ar", {"top_p": 1.5}, "--top-p is 1.5"),
        ("ar", {"scan_order": "row_major"}, "trained for scan order column_major, not row_major"),
        ("ar", {"num_iter_list": (2, 2)}, "every level of this one is AR"),
        ("mar", {"scan_order": "row_major"}, "means nothing to a masked model"),
        ("mar", {"num_iter_list": (2,)}, "has 1 numbers; the model has 2 levels"),
        ("mar", {"num_iter_list": (2, 0)}, "--num-iter-list holds 0"),
        (("mar", "ar"), {"scan_order": "row_major"}, "trained for scan order column_major"),
    ],
)
def test_settings_a_model_cannot_honour_are_refused_before_any_work(kinds, settings, said) -> None:
    model = build(tiny_config(kinds, "2x2>1x1", 4))
    with pytest.raises(UsageError, match=said) as caught:
        generate(model, SampleSettings(**settings))
    assert caught.value.hint and "\n" not in caught.value.message


def test_settings_a_model_can_honour_are_taken() -> None:
    assert len(samples(tiny("ar", "2x2>1x1", 4), target_width=3, scan_order="column_major")) == 1
    mixed = tiny(("mar", "ar"), "2x2>1x1", 4)
    assert len(samples(mixed, target_width=3, scan_order="column_major", num_iter_list=(2, 1))) == 1
