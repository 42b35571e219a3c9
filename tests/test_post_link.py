"""Linking: who joins whom, what a joined row says, and that no photon is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varcli.emitters.post.link import link
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError, VarError


def table(frame: list[int], x: list[float], y: list[float] | None = None, sd: list[float] | None = None):
    column, spread = np.asarray(x, float), None if sd is None else np.asarray(sd, float)
    return EmitterTable(
        np.asarray(frame, np.int64), column, 0 * column if y is None else np.asarray(y, float), sd_x_nm=spread,
        sd_y_nm=spread,
    )  # fmt: skip


def test_what_a_joined_row_says() -> None:
    columns = np.array([[4.0, 3.0], [2.0, 4.0]])
    one = EmitterTable(
        np.array([5, 6]), np.array([100.0, 110.0]), np.array([50.0, 45.0]), np.array([300.0, 200.0]),
        np.array([8.0, 9.0]), background_std=columns[0], psf_sigma_nm=np.array([130.0, 140.0]),
        sd_x_nm=np.array([10.0, 5.0]), sd_y_nm=np.array([3.0, 4.0]), sd_photons=np.array([12.0, 5.0]),
        sd_background=columns[0], crlb_xy_nm=np.array([3.0, 4.0]), probability=np.array([0.6, 0.9]),
    )  # fmt: skip
    joined = link(one, gap_frames=0, radius_nm=20)
    assert (joined.localizations_K.tolist(), joined.track_E.tolist()) == ([2], [0, 0])
    row = {name: float(getattr(joined.table, name)[0]) for name in joined.table.columns()}
    assert row.pop("frame") == 5 and joined.table.frame.dtype == np.int64
    assert row == pytest.approx(
        {
            **{"x_nm": 108, "y_nm": 50 - 5 * 9 / 25, "photons": 500, "background": 17, "background_std": 5},
            **{"psf_sigma_nm": 135, "sd_x_nm": np.sqrt(20), "sd_y_nm": 2.4, "sd_photons": 13, "sd_background": 5},
            **{"crlb_xy_nm": 2.4, "probability": 0.9},
        }
    )


@pytest.mark.parametrize(("gap", "tracks"), [(0, 3), (1, 2), (2, 1), (9, 1)])
def test_dark_frames_allowed(gap: int, tracks: int) -> None:
    assert len(link(table([0, 2, 5], [0, 0, 0]), gap_frames=gap, radius_nm=10).table) == tracks


def test_the_nearest_pair_comes_first_and_nobody_joins_twice() -> None:
    # The first localisation of frame 1 is near both tracks, but the second track is nearer to it.
    joined = link(table([0, 0, 1, 1], [0, 10, 8, 14]), gap_frames=0, radius_nm=9)
    assert joined.track_E.tolist() == [0, 1, 1, 2]
    # Two rows of one frame never join each other, however near.
    assert link(table([3, 3], [7, 7]), radius_nm=50).track_E.tolist() == [0, 1]


def test_a_track_stays_at_its_mean() -> None:
    # Each step is within the radius of the one before, but the third is too far from the mean of the first two.
    assert link(table([0, 1, 2], [0, 9, 18]), gap_frames=0, radius_nm=10).track_E.tolist() == [0, 0, 1]
    # The well-known first position holds the mean back.
    assert link(table([0, 1, 2], [0, 9, 12], sd=[1, 9, 9]), gap_frames=0, radius_nm=10).track_E.tolist() == [0, 0, 1]


def test_far_apart_blinks_are_found_as_they_were_made() -> None:
    rng = np.random.default_rng(11)
    # Sites on a grid of 300 nm, each with blinks of 1 to 5 frames, 20 frames or more apart.
    site_x, site_y = (side.ravel() * 300.0 for side in np.mgrid[:12, :12])
    rows = []
    for site in range(len(site_x)):
        start = rng.integers(0, 20)
        for _ in range(6):
            length = rng.integers(1, 6)
            rows += [(start + i, site_x[site], site_y[site], start * 1000 + site) for i in range(length)]
            start += length + rng.integers(20, 30)
    frame, x, y, blink = np.array(sorted(rows)).T
    x, y = x + rng.normal(0, 10, len(x)), y + rng.normal(0, 10, len(y))
    joined = link(EmitterTable(frame.astype(np.int64), x, y, np.ones(len(x))), gap_frames=2, radius_nm=100)
    pairs = set(zip(blink.tolist(), joined.track_E.tolist(), strict=True))
    assert len(pairs) == len(np.unique(blink)) == len(joined.table) == 144 * 6


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60),
    st.integers(0, 3),
    st.integers(1, 5),
)
def test_nothing_is_lost_and_tracks_are_what_was_asked(rows: list[tuple], gap: int, radius: int) -> None:
    frame, x, y = np.array(sorted(rows), float).T
    joined = link(EmitterTable(frame.astype(np.int64), x, y, x + 1), gap, radius)
    assert joined.table.photons is not None and joined.table.photons.sum() == (x + 1).sum()
    assert joined.localizations_K.sum() == len(x) and np.all(np.diff(joined.table.frame) >= 0)
    for track in range(len(joined.table)):
        frames = frame[joined.track_E == track]
        assert np.all(np.diff(frames) >= 1) and np.all(np.diff(frames) <= gap + 1)
    again = link(EmitterTable(frame.astype(np.int64), x, y, x + 1), gap, radius)
    np.testing.assert_array_equal(joined.track_E, again.track_E)


def test_bad_input_is_said_in_a_line() -> None:
    with pytest.raises(VarError, match="linking: frames out of order: row 3 is of frame 1, the one before of 4"):
        link(table([0, 4, 1], [0, 0, 0]))
    with pytest.raises(VarError, match="linking: row 2: x_nm is nan"):
        link(table([0, 1], [0, np.nan]))
    with pytest.raises(VarError, match=r"linking: row 1: sd_x_nm is 0 \(and 1 more rows\)"):
        link(table([0, 1], [0, 0], sd=[0, np.nan]))
    for gap, radius in ((-1, 10.0), (0, 0.0), (0, np.inf), (0, np.nan)):
        with pytest.raises(UsageError):
            link(table([0], [0]), gap, radius)
    assert len(link(table([], [])).table) == 0
