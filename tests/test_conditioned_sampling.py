"""Sampling under constraints: kept cells stay, limits hold, and what is kept is felt at every level.

Shapes: P pitches, T steps.
"""

from typing import Any

import numpy as np
import pytest
from fractal_support import decisions, samples, some_canvas, tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_constraints import CONDITIONED, draw_constraints

from varcli.errors import UsageError
from varcli.pianoroll.events import PatchDone
from varcli.pianoroll.generation.generate import SampleSettings, generate
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

KINDS = [("ar", "ar", "ar"), ("mar", "mar", "mar"), ("ar", "mar", "ar"), ("mar", "ar", "mar")]
STEPS = 10


def model_of(kinds: Any, **options: Any) -> FractalModel:
    return tiny(kinds, "4x4>2x2>1x1", 8, **{"notes": True, "velocity_bins": 2, "model": CONDITIONED} | options)


def masks(mode: str, canvas: np.ndarray) -> np.ndarray:
    """The cells of a canvas that a mode keeps, bool [P, T]."""
    kept = np.ones(canvas.shape, bool)
    if mode == "continuation":
        kept[:, 5:] = False
    elif mode == "inpainting":
        kept[2:6, 3:7] = kept[:, 9:] = False
    else:
        kept = canvas > 0
        kept[:3] = False
    return kept


def constraints_of(mode: str, seed: int = 0, **options: Any) -> CanvasConstraints:
    """The constraints of a mode on a random canvas of the models here."""
    canvas = some_canvas(model_of("ar"), STEPS, seed=seed, density=0.5)
    kept = masks(mode, canvas)
    return CanvasConstraints(kept, np.where(kept, canvas, 0).astype(np.uint8), np.ones(canvas.shape, bool), **options)


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
@pytest.mark.parametrize("mode", ["continuation", "inpainting", "harmonise"])
def test_kept_cells_come_back_as_they_were(kinds, mode) -> None:
    model, constraints = model_of(kinds), constraints_of(mode)
    common = {"num_samples": 4, "target_width": STEPS, "constraints": constraints}
    found = samples(model, batch_size=4, **common)
    for cells in found:
        assert constraints.violation(cells) is None
        assert np.array_equal(cells[constraints.given], constraints.codes[constraints.given])
    assert len({cells.tobytes() for cells in found}) == 4
    # Batches of another size are rounded in another way; of the same size, they are the same.
    one = samples(model, batch_size=4, **common | {"num_samples": 1})
    assert np.array_equal(one[0], found[0])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(KINDS), st.booleans(), st.integers(0, 2**32), st.sampled_from([None, 1, 2, 3]), st.integers(1, 3)
)
def test_limits_hold_in_every_roll(kinds, notes, seed, polyphony, batch) -> None:
    model = tiny(kinds, "4x4>2x2>1x1", 8, notes=notes, model=CONDITIONED, seed=seed % 5)
    constraints = draw_constraints(np.random.default_rng(seed), model, 7, polyphony=polyphony)
    how = {"num_iter_list": (3, 2, 2, 1)[: len(model.levels)]} if model.masked else {}
    for cells in samples(
        model, num_samples=batch, batch_size=batch, target_width=7, seed=seed, constraints=constraints, **how
    ):
        assert constraints.violation(cells) is None


def prices_under(model: FractalModel, given: np.ndarray, codes: np.ndarray) -> dict[tuple[int, int, int], float]:
    """What the decisions about a canvas cost whose free cells all sound, by (level, pitch, step)."""
    canvas = np.where(given, codes, 2).astype(np.uint8)
    constraints = CanvasConstraints(given, codes, np.ones(given.shape, bool))
    (written,) = decisions(model, canvas[None], [Policy.following(model.tree, canvas, None)], constraints=constraints)
    return {(level, p, t): nats for level, p, t, nats in written.prices}


@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_another_context_changes_what_every_level_says(kinds) -> None:
    # Given cells lie after the free ones in time, where only conditioning can show them.
    model = model_of(kinds)
    kept = np.zeros((8, STEPS), bool)
    kept[:, 4:] = True
    codes = np.where(kept, 2, 0).astype(np.uint8)
    other = codes.copy()
    other[:, 4:][::2] = 3
    silent = np.where(kept & (np.arange(8) % 3 > 0)[:, None], codes, 0).astype(np.uint8)
    base = prices_under(model, kept, codes)
    for context in (other, silent):
        changed = prices_under(model, kept, context)
        for level in range(model.tree.depth + 1):
            both = [node for node in base.keys() & changed.keys() if node[0] == level]
            moved = [node for node in both if not np.isclose(base[node], changed[node], rtol=1e-4, atol=1e-5)]
            assert moved, f"level {level} of {kinds} says the same in another context"


@pytest.mark.parametrize("kinds", [("ar",) * 3, ("mar",) * 3], ids="-".join)
def test_what_was_known_beforehand_is_no_frame(kinds) -> None:
    model, constraints = model_of(kinds), constraints_of("continuation")
    how = SampleSettings(target_width=STEPS, constraints=constraints)
    patches = [event for event in generate(model, how) if isinstance(event, PatchDone) and event.level == 0]
    assert all(
        not constraints.given[low:high, start:stop].all() for e in patches for low, high, start, stop in e.bounds
    )
    assert {event.total for event in patches} == {6}
    assert patches[-1].index == 6


def test_only_models_that_learned_it_are_conditioned() -> None:
    model = tiny("ar", "4x4>2x2>1x1", 8, notes=True, velocity_bins=2, name="plain")
    with pytest.raises(UsageError, match="plain was not trained to take a prompt"):
        samples(model, target_width=STEPS, constraints=constraints_of("inpainting"))
    limits = CanvasConstraints.limits((np.arange(8) < 4)[:, None].repeat(STEPS, 1), 1)
    cells = samples(model, target_width=STEPS, constraints=limits)[0]
    assert not cells[4:].any() and (cells > 0).sum(0).max() == 1


def bad(given: list[tuple[int, int, int]], allowed: Any = slice(None), **options: Any) -> CanvasConstraints:
    """Constraints on 4 pitches and 3 steps with cells (pitch, step, code) given, and pitches that are allowed."""
    mask, codes, may = np.zeros((4, 3), bool), np.zeros((4, 3), np.uint8), np.zeros((4, 3), bool)
    for pitch, step, code in given:
        mask[pitch, step], codes[pitch, step] = True, code
    may[allowed] = True
    return CanvasConstraints(mask, codes, may, **options)


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ([(1, 2, 1)], {"allowed": 2}, "pitch 1 must sound at step 1"),
        ([(1, 2, 1), (2, 1, 2), (3, 1, 2)], {"max_polyphony": 2}, "3 kept notes sound at step 1"),
        ([(1, 0, 2), (2, 0, 2)], {"max_polyphony": 1}, "2 kept notes sound at step 0"),
        ([], {"max_polyphony": 0}, "--max-polyphony is 0"),
        ([], {"allowed": []}, "nothing may sound"),
        ([(1, t, 2) for t in range(3)], {"max_polyphony": 1}, "nothing may sound"),
        ([(1, t, 2) for t in range(3)], {"allowed": 1}, "nothing may sound"),
    ],
)
def test_constraints_that_contradict_one_another(given, options, said) -> None:
    with pytest.raises(UsageError) as caught:
        bad(given, **options)
    assert said in caught.value.message


def test_a_held_cell_asks_for_one_before_it_in_canvases_that_know_held_cells() -> None:
    assert bad([(1, 2, 1)]).tied[1].tolist() == [False, True, False]
    assert not bad([(1, 2, 1)], binary=True).tied.any()
    assert not bad([(1, 2, 1), (1, 1, 0)]).tied.any()
    assert not bad([(1, 0, 1), (2, 2, 2)]).tied.any()
