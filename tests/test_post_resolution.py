"""FRC: against what can be worked out for molecules at random, its seed, and tables that say nothing."""

import numpy as np
import pytest
from post_support import filaments

from varcli.emitters.post.frc import THRESHOLD, frc
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError

FRAMES = 2000


def molecules(sites: int, times: float, sd_nm: float, seed: int = 0, size_nm: float = 6000) -> EmitterTable:
    """Molecules at random, each seen a Poisson number of times on average `times`, at any frame."""
    rng = np.random.default_rng(seed)
    site = np.repeat(rng.uniform(0, size_nm, (sites, 2)), rng.poisson(times, sites), 0)
    place = site + rng.normal(0, sd_nm, site.shape)
    return EmitterTable(np.sort(rng.integers(0, FRAMES, len(site))), *rng.permutation(place).T)


@pytest.mark.parametrize(("times", "sd_nm"), [(4.0, 20.0), (10.0, 25.0)])
def test_molecules_at_random_are_resolved_as_far_as_theory_says(times: float, sd_nm: float) -> None:
    # A half sees a molecule m = times / 2 times: at frequency q, FRC = m e / (1 + m e) with e = exp(-(2 pi q sd)^2).
    expected_nm = 2 * np.pi * sd_nm / np.sqrt(np.log(times / 2 * (1 - THRESHOLD) / THRESHOLD))
    found = frc(molecules(8000, times, sd_nm))
    assert found.resolution_nm == pytest.approx(expected_nm, rel=0.03)
    assert found.spread_nm is not None and found.spread_nm < 0.05 * expected_nm
    theory = times / 2 * np.exp(-((2 * np.pi * found.frequency_per_nm * sd_nm) ** 2))
    # The slowest waves belong to the window that fades the edges.
    np.testing.assert_allclose(found.smooth[12:], (theory / (1 + theory))[12:], atol=0.08)


def test_blinks_of_one_molecule_do_not_pretend_to_be_two() -> None:
    # Each molecule is seen five frames in a row, once: halves share next to nothing.
    rng = np.random.default_rng(1)
    site = np.repeat(rng.uniform(0, 6000, (4000, 2)), 5, 0)
    frame = np.repeat(rng.integers(0, FRAMES - 5, 4000), 5) + np.tile(np.arange(5), 4000)
    place = (site + rng.normal(0, 15, site.shape))[np.argsort(frame)]
    try:
        found = frc(EmitterTable(np.sort(frame), *place.T))
    except VarError as error:
        assert "share no structure" in error.message
    else:
        assert found.resolution_nm is None or found.resolution_nm > 300


def test_the_seed_decides() -> None:
    table = filaments(20_000, FRAMES, size_nm=4000)
    one, two, other = frc(table), frc(table), frc(table, seed=1)
    assert one.resolution_nm == two.resolution_nm != other.resolution_nm
    assert one.resolution_nm == pytest.approx(other.resolution_nm, rel=0.05)


def test_pixels_too_large_for_the_detail_are_said() -> None:
    found = frc(filaments(20_000, FRAMES, size_nm=4000, sd_nm=5), pixel_nm=40)
    assert found.resolution_nm is None and found.spread_nm is None
    assert found.reason == "the curve stays above 1/7 down to 80 nm: take smaller pixels"


def test_what_says_nothing_is_refused() -> None:
    table = molecules(1000, 4.0, 20.0)
    with pytest.raises(VarError, match="FRC: 500 localisations, fewer than 1000"):
        frc(table.rows(np.arange(500)))
    with pytest.raises(VarError, match="FRC: a single frame"):
        frc(EmitterTable(table.frame * 0, table.x_nm, table.y_nm))
    with pytest.raises(VarError, match="frames out of order"):
        frc(table.rows(np.arange(len(table))[::-1]))
    for pixel_nm in (0.0, -1.0, 5000.0, np.nan):
        with pytest.raises(UsageError, match="pixels of"):
            frc(table, pixel_nm)
