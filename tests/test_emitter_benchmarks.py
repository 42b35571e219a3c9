"""The sets that emitters are measured on hold what their laws say, and the limit is the one of theory."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from emitter_oracle import oracle, score_set, truth_table  # pyright: ignore[reportMissingImports]
from emitter_sets import LAWS, make_set, spots  # pyright: ignore[reportMissingImports]


def test_names_are_families_and_numbers_are_those_of_the_benchmark() -> None:
    families = [law.family for law in LAWS.values()]
    assert all(name.startswith(law.family + "/") for name, law in LAWS.items())
    filled = [law for law in LAWS.values() if law.family == "mismatch" and law.density > 0]
    assert (len(filled), families.count("mismatch")) == (33, 38)


@pytest.mark.parametrize("name", ["mismatch/emccd_d0.5", "mismatch/gradbg_d0.5", "classical/scmos_d2"])
def test_counts_carry_the_light_of_background_and_emitters(name: str) -> None:
    law = replace(LAWS[name], frames=40)
    counts, truth = make_set(law, 1)
    light = truth.background_FYX.mean() + law.density * law.electrons * (law.pixel_size_nm / 1000) ** 2
    # Counting in whole steps loses half a step.
    seen = law.told.to_electrons(counts).mean() + 0.5 * law.told.e_per_adu / law.told.gain
    assert seen == pytest.approx(light, rel=0.08)
    again, _ = make_set(law, 1)
    other, _ = make_set(law, 2)
    assert np.array_equal(counts, again) and not np.array_equal(counts, other)


@pytest.mark.parametrize("name", ["mismatch/tail20_d0.5", "held-out/airy_d0.5", "held-out/defocus_d0.5"])
def test_spots_hold_one_unit_of_light(name: str) -> None:
    image = spots(LAWS[name], np.array([20.2, -60.0]), np.array([19.7, 20.0]))
    assert image[0].sum() == pytest.approx(1, abs=0.03)
    assert image[1].sum() < 0.01
    centre = (image[0].sum(0) @ (np.arange(40) + 0.5)) / image[0].sum()
    assert centre == pytest.approx(20.2, abs=0.02)


def test_limit_of_isolated_emitters_is_that_of_theory() -> None:
    law = replace(LAWS["classical/grid_20000"], frames=40, background=0.01)
    _, truth = make_set(law, 1)
    scores, bound_nm = oracle(law, truth)
    # Without background and read noise: sigma / sqrt(N), with the width of a pixel added.
    ideal = 100 * math.sqrt(1.3**2 + 1 / 12) / math.sqrt(20000)
    assert ideal < bound_nm < 1.1 * ideal
    assert scores.rmse_axis_nm == pytest.approx(bound_nm, rel=0.1)
    assert scores.jaccard == 100


def test_truth_scores_perfectly() -> None:
    law = replace(LAWS["mismatch/sigma1.3_d2"], frames=5)
    _, truth = make_set(law, 1)
    scores = score_set(law, truth_table(law, truth), truth)
    assert (scores.efficiency, scores.false_positives, scores.missed) == (100, 0, 0)
