"""What tests of post-processing share: tables of a simulated structure, of which everything is known."""

from dataclasses import replace

import numpy as np

from varcli.emitters.post.drift import drift_events
from varcli.emitters.table import EmitterTable
from varcli.events import result_of

estimate_drift = result_of(drift_events)


def filaments(
    localizations: int,
    frames: int,
    *,
    size_nm: float = 10_000,
    sd_nm: float = 10.0,
    seed: int = 0,
    spacing_nm: float = 20.0,
) -> EmitterTable:
    """Random localisations of molecules along twelve gently bent filaments; rows by frame, uncertainties as they are.

    Filaments are straight lines with one harmonic of bend; molecules lie `spacing_nm` apart.
    """
    rng = np.random.default_rng(seed)
    sites = []
    for _ in range(12):
        start, end = rng.uniform(0.05, 0.95, (2, 2)) * size_nm
        along = np.linspace(0, 1, max(2, int(np.hypot(*(end - start)) / spacing_nm)))[:, None]
        across = np.array([start[1] - end[1], end[0] - start[0]]) * rng.uniform(-0.15, 0.15)
        sites.append(start + (end - start) * along + across * np.sin(np.pi * along))
    site = np.concatenate(sites)
    position = site[rng.integers(0, len(site), localizations)] + rng.normal(0, sd_nm, (localizations, 2))
    frame = np.sort(rng.integers(0, frames, localizations))
    spread = np.full(localizations, sd_nm)
    photons = rng.exponential(800, localizations) + 200
    return EmitterTable(frame, position[:, 0], position[:, 1], photons, sd_x_nm=spread, sd_y_nm=spread)


def drift_curve(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A drift of x and y in nm at every frame, from 0: 160 nm in all, and not straight."""
    time = np.arange(frames) / frames
    return 120 * time + 25 * np.sin(5 * time), -80 * time**2 + 20 * np.sin(4 * time)


def drifting(table: EmitterTable, frames: int) -> EmitterTable:
    """The table moved by `drift_curve`."""
    x_nm, y_nm = drift_curve(frames)
    return replace(table, x_nm=table.x_nm + x_nm[table.frame], y_nm=table.y_nm + y_nm[table.frame])


def blinks(
    count: int, frames: int, *, size_nm: float = 10_000, sd_nm: float = 10.0, seed: int = 0, mean_frames: float = 3.0
) -> EmitterTable:
    """Blinks at random places, each seen in consecutive frames (a geometric number of them); rows by frame."""
    rng = np.random.default_rng(seed)
    length = rng.geometric(1 / mean_frames, count)
    start = rng.integers(0, frames, count)
    place = rng.uniform(0, size_nm, (count, 2))
    blink = np.repeat(np.arange(count), length)
    frame = start[blink] + np.arange(len(blink)) - np.repeat(np.cumsum(length) - length, length)
    position = place[blink] + rng.normal(0, sd_nm, (len(blink), 2))
    chosen = np.argsort(frame, kind="stable")
    chosen = chosen[frame[chosen] < frames]
    spread = np.full(len(chosen), sd_nm)
    x_nm, y_nm = position[chosen].T
    return EmitterTable(frame[chosen], x_nm, y_nm, spread * 80, sd_x_nm=spread, sd_y_nm=spread)
