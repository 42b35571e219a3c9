"""Sampling: the frequencies the model says, and the same sample whatever its company."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from fractal_support import all_canvases, codes_of, follow, follow_with, price, samples, tiny

from varcli.pianoroll.generation.batch import Batch
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.sampling.policy import Policy


def frequencies(model: FractalModel, steps: int, count: int, batch: int, **options: Any) -> np.ndarray:
    """How often each canvas of `all_canvases` is drawn at temperature 1 [canvases]."""
    codes = codes_of(model)
    found = np.zeros(codes ** (model.tree.pitches * steps))
    places = codes ** np.arange(model.tree.pitches * steps)[::-1]
    for first in range(0, count, batch):
        policies = [Policy.drawn(model.tree, steps, (7, first + i)) for i in range(batch)]
        run = Batch(model, policies, range(batch), steps, **options)
        for _ in run.events():
            pass
        for sheet in run.samples:
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
    ("shapes", "pitches", "steps", "batch", "options"),
    [
        ("2x2>1x1", 2, 3, 300, {}),
        ("2x1>1x1", 4, 2, 300, {"scan_order": "row_major"}),
        ("2x2>1x1", 2, 2, 300, {"notes": True}),
    ],
)
def test_ar_samples_come_as_often_as_their_probability_says(shapes, pitches, steps, batch, options) -> None:
    model = softer(tiny("ar", shapes, pitches, **options))
    probability = np.exp(-price(model, all_canvases(pitches, steps, codes_of(model))))
    assert_drawn_from(frequencies(model, steps, 3000, batch), probability)


def softer(model: FractalModel) -> FractalModel:
    """Smaller output weights, so that many canvases are likely."""
    with torch.no_grad():
        for level in model.level_models:
            level.head.weight.mul_(0.3)
    return model


def in_orders(model: FractalModel, codes: np.ndarray, orders: tuple[tuple[int, ...], ...]) -> Policy:
    """A policy that follows a canvas of two patches with two cells each, in given orders of patches and of cells."""
    followed = Policy.following(model.tree, codes)
    nodes = 6
    followed.draws[nodes : 2 * nodes] = np.argsort(orders[0]).tolist() + list(
        np.stack([np.argsort(x) for x in orders[1:]], 1).flat
    )
    return followed


@pytest.mark.parametrize("kinds", [("mar", "mar"), ("ar", "mar"), ("mar", "ar")], ids="-".join)
@pytest.mark.parametrize("notes", [False, True])
def test_masked_samples_come_as_often_as_the_mean_over_all_orders_says(kinds, notes) -> None:
    model = softer(tiny(kinds, "2x1>1x1", 2, notes=notes))
    canvases = all_canvases(2, 2, codes_of(model)).numpy()
    # Two patches and two cells in each: two orders of each.
    probability = np.zeros(len(canvases))
    for orders in itertools.product(((0, 1), (1, 0)), repeat=3):
        policies = [in_orders(model, canvas, orders) for canvas in canvases]
        probability += np.exp(-follow_with(model, canvases, policies)) / 8
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    assert_drawn_from(frequencies(model, 2, 1500, 500, order=Order(together=1)), probability)


@pytest.mark.parametrize("notes", [False, True])
def test_cells_unmasked_together_come_as_often_as_they_are_priced(notes) -> None:
    model = softer(tiny("mar", "2x2>1x1", 2, notes=notes))
    canvases = all_canvases(2, 2 if notes else 3, codes_of(model)).numpy()
    together: dict[str, Any] = {"order": Order((1, 1, 1))}
    # Decided at once, cells of one patch are independent but for the one that must be there.
    probability = np.exp(-follow(model, canvases, **together))
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    assert_drawn_from(frequencies(model, canvases.shape[2], 3000, 500, **together), probability)


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_a_sample_does_not_depend_on_how_many_follow_it(kind) -> None:
    model = tiny(kind, "4x4>2x2>1x1", 8, notes=True, velocity_bins=3)
    common = {"batch_size": 2, "target_width": 10, "seed": 3}
    one, three, five = (samples(model, num_samples=n, **common) for n in (1, 3, 5))
    assert [len(one), len(three), len(five)] == [1, 3, 5]
    for few, more in ((one, three), (three, five)):
        assert all(np.array_equal(a, b) for a, b in zip(few, more, strict=False))
    assert all(np.array_equal(a, b) for a, b in zip(three, samples(model, num_samples=3, **common), strict=True))
    assert len({cells.tobytes() for cells in five}) == 5
    others = samples(model, num_samples=3, **common | {"seed": 4})
    assert not any(np.array_equal(a, b) for a, b in itertools.product(three, others))


@pytest.mark.parametrize("kind", ["ar", "mar"])
@pytest.mark.parametrize("top_p", [1.0, 0.6])
@pytest.mark.parametrize("network", ["transformer", "mlp"])
def test_a_sample_is_the_same_alone_and_in_company(kind, top_p, network) -> None:
    # More children are decided in one look alone than in company.
    level = {"network": network}
    model = tiny(kind, "8x8>2x2>1x1", 16, notes=True, velocity_bins=3, level=level)
    common = {"num_samples": 3, "target_width": 20, "top_p": top_p}
    together = samples(model, batch_size=3, **common)
    assert all(np.array_equal(a, b) for a, b in zip(samples(model, batch_size=1, **common), together, strict=True))


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


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_one_number_for_all_levels_is_the_same_as_that_number_for_each(kind) -> None:
    model = tiny(kind, "4x4>1x1", 8, notes=True, velocity_bins=3)
    each = samples(model, target_width=12, temperature=(0.9,) * 3, top_p=(0.95,) * 3)[0]
    assert np.array_equal(each, samples(model, target_width=12, temperature=0.9, top_p=0.95)[0])


@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_a_level_is_sharpened_alone(name) -> None:
    model = softer(tiny("ar", "4x4>1x1", 8, notes=True, velocity_bins=3))
    with torch.no_grad():
        model.level_models[0].head.bias.fill_(2.0)
    for level, cold in enumerate([(1e-3, 1.0, 1.0), (1.0, 1e-3, 1.0), (1.0, 1.0, 1e-3)]):
        drawn = [samples(model, target_width=4, seed=seed, **{name: cold})[0] for seed in range(12)]
        patches = {(cells > 0).reshape(2, 4, 4).any((1, 2)).tobytes() for cells in drawn}
        assert (len(patches) == 1) == (level == 0)
        assert len({(cells > 0).tobytes() for cells in drawn}) > 1


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
