"""Figures of quality: they add up, say what is missing, and can be written as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
from post_support import blinks

from varcli.emitters.post.link import link
from varcli.emitters.post.quality import histogram, measure
from varcli.errors import VarError


def test_figures_add_up() -> None:
    table = blinks(8000, 3000, size_nm=4000, sd_nm=12)
    linked = link(table, gap_frames=1, radius_nm=60).table
    quality = measure(linked, unlinked=table)
    assert (quality.localizations, quality.first_frame, quality.last_frame) == (len(linked), 0, 2999)
    assert quality.over_time.mean() == pytest.approx(quality.localizations_per_frame) == len(linked) / 3000
    assert quality.nena is not None and quality.nena.precision_nm == pytest.approx(12, rel=0.02)
    for name, column in (("photons", linked.photons), ("uncertainty_xy_nm", linked.sd_x_nm)):
        assert column is not None
        shown = getattr(quality, name)
        assert shown.counts.sum() + shown.beyond == len(linked) and shown.not_finite == 0
        assert shown.median == pytest.approx(np.median(column))
    assert quality.background is None and quality.missing["background"] == "the table has no such column"
    document = json.loads(json.dumps(quality.document(), allow_nan=False))
    assert document["nena"]["precision_nm"] == quality.nena.precision_nm


def test_what_cannot_be_measured_is_said() -> None:
    table = blinks(30, 100)
    quality = measure(table)
    assert quality.nena is None and quality.frc is None
    assert "fewer than 500" in quality.missing["nena"] and "fewer than 1000" in quality.missing["frc"]
    nameless = measure(replace(table, photons=None, sd_x_nm=None))
    assert {"photons", "uncertainty_xy_nm"} <= set(nameless.missing)
    with pytest.raises(VarError, match="quality: the table is empty"):
        measure(table.rows(np.zeros(len(table), bool)))


def test_histograms_count_what_they_leave_out() -> None:
    shown = histogram(np.array([*np.arange(1000.0), np.nan, np.inf]))
    assert shown is not None and (shown.beyond, shown.not_finite) == (5, 2) and shown.edges[0] == 0
    equal = histogram(np.full(5, 7.0))
    assert equal is not None and equal.counts.sum() == 5
    assert histogram(np.full(3, np.nan)) is None
