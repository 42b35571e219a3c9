"""Linking: localisations of one blink, in frames close to each other, become one row.

Frame by frame, nearest pairs first, each open track takes at most one localisation and each localisation at most one
track; a track stays open for `gap_frames` frames without one. A track lies at the weighted mean of what it holds.
Legend: E localisations (rows, by frame), K tracks.
"""

from dataclasses import dataclass, replace

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.post.checks import check_frames, check_positions, check_spreads
from varcli.emitters.table import EmitterTable
from varcli.errors import UsageError

_DOING = "linking"


@dataclass(frozen=True)
class Linked:
    """One row per track in order of first frames, and how many localisations each holds [K].

    `track_E` is the row of `table` that every row that came in belongs to.
    """

    table: EmitterTable
    localizations_K: np.ndarray
    track_E: np.ndarray


def link(table: EmitterTable, gap_frames: int = 1, radius_nm: float = 75.0) -> Linked:
    """Join localisations that lie within `radius_nm` of their track, with at most `gap_frames` dark frames between.

    Positions are weighted by 1 / sd^2 (equally where there are no uncertainties); photons are summed, and so is the
    background, so that it belongs to the summed photons (photons per pixel over all frames of the track). Uncertainties
    of positions combine as 1 / sqrt(sum 1/sd^2), those of sums as sqrt(sum sd^2). The frame is the first one, the
    probability the greatest, the width of the PSF the mean. Raises UsageError for a gap or radius that makes no sense,
    VarError for frames out of order, positions that are not finite, and uncertainties that are not finite and above 0.
    """
    if gap_frames < 0:
        raise UsageError(f"gap of {gap_frames} frames: it cannot be negative", "0 joins consecutive frames only")
    if not 0 < radius_nm < np.inf:
        raise UsageError(f"radius of {radius_nm:g} nm: not above 0", "for example 75: three uncertainties or so")
    if not len(table):
        none = np.empty(0, np.int64)
        return Linked(table, none, none)
    check_positions(table, _DOING)
    check_frames(table, _DOING)
    check_spreads(table, ("sd_x_nm", "sd_y_nm", "crlb_xy_nm"), _DOING)
    ones = np.ones(len(table))
    weight_x, weight_y = (ones if sd is None else 1 / sd**2 for sd in (table.sd_x_nm, table.sd_y_nm))
    edges_F = np.flatnonzero(np.diff(table.frame, prepend=-1, append=-1))
    x, y, weight_x, weight_y = (
        np.ascontiguousarray(column, np.float64) for column in (table.x_nm, table.y_nm, weight_x, weight_y)
    )
    track_E = _tracks(table.frame, edges_F, x, y, weight_x, weight_y, gap_frames, radius_nm)
    count_K = np.bincount(track_E)
    return Linked(_merged(table, track_E, count_K, weight_x, weight_y), count_K, track_E)


def _merged(
    table: EmitterTable, track_E: np.ndarray, count_K: np.ndarray, weight_x: np.ndarray, weight_y: np.ndarray
) -> EmitterTable:
    """The rows of every track as one."""

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(track_E, values, len(count_K))

    # Tracks are numbered as they begin, so the first row of each is the first place where its number appears.
    _, first_K = np.unique(track_E, return_index=True)
    merged = {
        "frame": table.frame[first_K],
        "x_nm": total(weight_x * table.x_nm) / total(weight_x),
        "y_nm": total(weight_y * table.y_nm) / total(weight_y),
    }
    for name in table.columns():
        values = getattr(table, name)
        if name in ("photons", "background"):
            merged[name] = total(values)
        elif name in ("sd_photons", "sd_background", "background_std"):
            merged[name] = np.sqrt(total(values**2))
        elif name in ("sd_x_nm", "sd_y_nm", "crlb_xy_nm"):
            merged[name] = 1 / np.sqrt(total(1 / values**2))
        elif name == "psf_sigma_nm":
            merged[name] = total(values) / count_K
        elif name == "probability":
            merged[name] = np.full(len(count_K), -np.inf)
            np.maximum.at(merged[name], track_E, values)
    assert set(merged) == set(table.columns())
    return replace(table, **merged)


@kernel()
def _tracks(frame, edges, x, y, weight_x, weight_y, gap, radius):  # pyright: ignore
    """The track of every row [E]; rows edges[i]:edges[i+1] are of one frame, frames ascend.

    Open tracks are swept in order of x, so a frame costs what it holds and what is near it.
    """
    rows = len(frame)
    track = np.empty(rows, np.int64)
    at_x, at_y = np.empty(rows), np.empty(rows)
    sum_x, sum_y = np.empty(rows), np.empty(rows)
    last = np.empty(rows, np.int64)
    open_tracks = np.empty(rows, np.int64)
    n_open = n_tracks = 0
    for group in range(len(edges) - 1):
        begin, end = edges[group], edges[group + 1]
        now = frame[begin]
        kept = 0
        for place in range(n_open):
            if now - last[open_tracks[place]] <= gap + 1:
                open_tracks[kept] = open_tracks[place]
                kept += 1
        n_open = kept
        swept = open_tracks[:n_open][np.argsort(at_x[open_tracks[:n_open]], kind="mergesort")]
        pair_row, pair_track, distance = _pairs(begin, end, x, y, at_x, at_y, swept, radius)
        track[begin:end] = -1
        for pair in np.argsort(distance, kind="mergesort"):
            row, one = pair_row[pair], pair_track[pair]
            if track[row] >= 0 or last[one] == now:
                continue
            track[row], last[one] = one, now
            sum_x[one] += weight_x[row]
            sum_y[one] += weight_y[row]
            at_x[one] += (x[row] - at_x[one]) * weight_x[row] / sum_x[one]
            at_y[one] += (y[row] - at_y[one]) * weight_y[row] / sum_y[one]
        for row in range(begin, end):
            if track[row] < 0:
                track[row], last[n_tracks] = n_tracks, now
                at_x[n_tracks], at_y[n_tracks] = x[row], y[row]
                sum_x[n_tracks], sum_y[n_tracks] = weight_x[row], weight_y[row]
                open_tracks[n_open] = n_tracks
                n_open += 1
                n_tracks += 1
    return track


@kernel()
def _pairs(begin, end, x, y, at_x, at_y, swept, radius):  # pyright: ignore
    """Rows, tracks and squared distances of all pairs within the radius; `swept` are open tracks by x."""
    sorted_x = at_x[swept]
    row_of, track_of, distance = np.empty(16, np.int64), np.empty(16, np.int64), np.empty(16)
    count = 0
    for row in range(begin, end):
        for place in range(np.searchsorted(sorted_x, x[row] - radius), len(swept)):
            if sorted_x[place] > x[row] + radius:
                break
            squared = (sorted_x[place] - x[row]) ** 2 + (at_y[swept[place]] - y[row]) ** 2
            if squared <= radius**2:
                if count == len(distance):
                    row_of, track_of = np.append(row_of, row_of), np.append(track_of, track_of)
                    distance = np.append(distance, distance)
                row_of[count], track_of[count], distance[count] = row, swept[place], squared
                count += 1
    return row_of[:count], track_of[:count], distance[:count]
