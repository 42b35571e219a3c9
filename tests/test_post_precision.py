"""NeNA: the precision that was put in, what Picasso says of the same tables, and tables that say nothing."""

from dataclasses import replace

import numpy as np
import pytest
from post_support import blinks

from varcli.emitters.post.nena import nena
from varcli.emitters.table import EmitterTable
from varcli.errors import VarError

# Picasso 0.11.3, picasso.postprocess.nena on these tables with pixels of 100 nm and their true lpx and lpy, in nm.
PICASSO_NM = {(5.0, 0): 4.966, (10.0, 3): 10.065, (20.0, 6): 20.144}


@pytest.mark.parametrize(("sd_nm", "seed"), PICASSO_NM)
def test_the_precision_that_was_put_in(sd_nm: float, seed: int) -> None:
    found = nena(blinks(20_000, 10_000, sd_nm=sd_nm, seed=seed))
    assert found.precision_nm == pytest.approx(sd_nm, rel=0.01)
    assert found.precision_nm == pytest.approx(PICASSO_NM[sd_nm, seed], rel=0.03)
    assert found.error_nm < 0.01 * sd_nm


def test_a_crowd_of_strangers_does_not_widen_it() -> None:
    assert nena(blinks(20_000, 2000, size_nm=5000, sd_nm=12)).precision_nm == pytest.approx(12, rel=0.01)


def test_molecules_that_move_between_frames_do_not_widen_it() -> None:
    table = blinks(20_000, 10_000, sd_nm=8, seed=5)
    rng = np.random.default_rng(5)
    jumps = rng.random(len(table)) < 0.1
    table.x_nm[jumps] += rng.normal(0, 30, jumps.sum())
    assert nena(table).precision_nm == pytest.approx(8, rel=0.03)


def test_tables_that_say_nothing_are_refused() -> None:
    rng = np.random.default_rng(1)
    strangers = EmitterTable(np.sort(rng.integers(0, 1000, 20_000)), *rng.uniform(0, 1e4, (2, 20_000)))
    with pytest.raises(VarError, match="no molecule lasts two frames"):
        nena(strangers)
    with pytest.raises(VarError, match="no nearer to each other"):
        nena(replace(strangers, x_nm=strangers.x_nm / 10, y_nm=strangers.y_nm / 10))
    few = blinks(100, 1000)
    with pytest.raises(VarError, match="fewer than 500"):
        nena(few)
    with pytest.raises(VarError, match="the table is empty"):
        nena(few.rows(np.zeros(len(few), bool)))
    with pytest.raises(VarError, match="frames out of order"):
        nena(few.rows(np.arange(len(few))[::-1]))
    few.y_nm[3] = np.nan
    with pytest.raises(VarError, match="row 4: y_nm is nan"):
        nena(few)
