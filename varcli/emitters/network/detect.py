"""From expected counts and positions of the finest cells to a list of emitters, each count spent once.

Legend: L cells, E emitters.
"""

import math
from dataclasses import dataclass

import numpy as np

from varcli.compiled import kernel
from varcli.emitters.table import Emitters, Record

_WEAKEST = 0.004
"""Expected count below which a cell is ignored; what is dropped adds up to well under one emitter in a hundred."""
_BLUR_PX = 0.2
_REACH_PX = 1.5
_GATE = 3.0


_FOUND = np.dtype(
    [
        ("frame", "<i8"),
        *((name, "<f8") for name in ("x_px", "y_px", "log_electrons", "sd_x_px", "sd_y_px", "sd_log_electrons")),
        ("probability", "<f8"),
    ]
)


@dataclass(frozen=True)
class FinestCells(Record):
    """Cells of the finest scale [L], sorted by frame: expected count, where an emitter of it lies (px), its log
    photoelectrons, and their standard deviations."""

    count: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray
    log_electrons: np.ndarray
    sd_x_px: np.ndarray
    sd_y_px: np.ndarray
    sd_log_electrons: np.ndarray


def detect(cells: FinestCells, threshold: float) -> Emitters:
    """Take the heaviest cluster of expected count, spend up to one emitter of it, and go on while `threshold` is met.

    A cluster is what lies within a few standard deviations of one place. Its weight is the probability of the emitter,
    its weighted mean the position.
    """
    kept = cells.count > _WEAKEST
    frame = cells.frame[kept].astype(np.int64)
    order = np.argsort(frame, kind="stable")
    count, x, y, log_electrons, sd_x, sd_y, sd_log = (
        np.ascontiguousarray(column[kept][order], np.float64)
        for column in (
            cells.count,
            cells.x_px,
            cells.y_px,
            cells.log_electrons,
            cells.sd_x_px,
            cells.sd_y_px,
            cells.sd_log_electrons,
        )
    )
    rows = _detect_all(frame[order], count, x, y, log_electrons, sd_x, sd_y, sd_log, threshold)
    columns = {name: rows[name] for name in ("frame", "x_px", "y_px", "sd_x_px", "sd_y_px", "probability")}
    electrons = np.exp(rows["log_electrons"])
    return Emitters(**columns, electrons=electrons, sd_electrons=electrons * rows["sd_log_electrons"])


@kernel()
def _detect_all(frame, count, x, y, log_electrons, sd_x, sd_y, sd_log, threshold):  # pragma: no cover - compiled
    found = np.empty(len(frame) + 1, _FOUND)
    total = 0
    start = 0
    while start < len(frame):
        stop = start
        while stop < len(frame) and frame[stop] == frame[start]:
            stop += 1
        part = slice(start, stop)
        total += _detect_frame(
            frame[start], count[part].copy(), x[part], y[part], log_electrons[part], sd_x[part], sd_y[part],
            sd_log[part], threshold, found[total:],
        )  # fmt: skip
        start = stop
    return found[:total].copy()


@kernel()
def _buckets(x, y, side):  # pragma: no cover - compiled
    """Cells of one frame by squares of `side` px: first cell of each square, next cell in the same square."""
    right = bottom = 0.0
    for i in range(len(x)):
        right, bottom = max(right, x[i]), max(bottom, y[i])
    head = np.full((int(bottom / side) + 1, int(right / side) + 1), -1)
    following = np.empty(len(x), np.int64)
    for i in range(len(x) - 1, -1, -1):
        row, column = int(max(0.0, y[i]) / side), int(max(0.0, x[i]) / side)
        following[i] = head[row, column]
        head[row, column] = i
    return head, following


@kernel()
def _near(i, x, y, head, following, near, distance):  # pragma: no cover - compiled
    """Fill `near` with the cells within _REACH_PX of cell i, nearest bucket order; returns how many."""
    rows, columns = head.shape
    row, column = int(max(0.0, y[i]) / _REACH_PX), int(max(0.0, x[i]) / _REACH_PX)
    n = 0
    for r in range(max(0, row - 1), min(rows, row + 2)):
        for c in range(max(0, column - 1), min(columns, column + 2)):
            j = head[r, c]
            while j >= 0:
                d = (x[j] - x[i]) ** 2 + (y[j] - y[i]) ** 2
                if d < _REACH_PX**2 and n < len(near):
                    near[n], distance[n] = j, d
                    n += 1
                j = following[j]
    return n


@kernel()
def _detect_frame(
    frame, count, x, y, log_electrons, sd_x, sd_y, sd_log, threshold, found
):  # pragma: no cover - compiled
    """Write the emitters of one frame to the first rows of `found`; returns how many."""
    total = 0
    head, following = _buckets(x, y, _REACH_PX)
    size = len(x)
    near, distance = np.empty(size, np.int64), np.empty(size)
    blur, weight = np.empty(size), np.zeros(size)
    for i in range(size):
        blur[i] = sd_x[i] * sd_y[i] + _BLUR_PX**2
    for i in range(size):
        for a in range(_near(i, x, y, head, following, near, distance)):
            weight[i] += math.exp(-0.5 * distance[a] / blur[i]) * count[near[a]]
    for _ in range(4 * size):
        i = _heaviest(weight)
        if weight[i] < 0.5 * threshold:
            break
        n = _near(i, x, y, head, following, near, distance)
        cx = cy = norm = 0.0
        for a in range(n):
            j = near[a]
            w = math.exp(-0.5 * distance[a] / blur[i]) * count[j] / blur[j]
            cx, cy, norm = cx + w * x[j], cy + w * y[j], norm + w
        cx, cy = cx / norm, cy / norm
        gate = min(_GATE * math.sqrt(blur[i]), _REACH_PX)
        for a in range(n):
            j = near[a]
            distance[a] = (x[j] - cx) ** 2 + (y[j] - cy) ** 2
        taken = np.zeros(n)
        mass = 0.0
        for _ in range(n):
            a = 0  # the nearest that is left
            for b in range(1, n):
                if distance[b] < distance[a]:
                    a = b
            if distance[a] > gate**2 or mass >= 1:
                break
            taken[a] = min(1 - mass, count[near[a]])
            mass += taken[a]
            distance[a] = np.inf
        if mass < 1e-3:
            weight[i] = 0.0
            continue
        if mass >= threshold:
            _emit(frame, mass, near, taken, x, y, log_electrons, sd_x, sd_y, sd_log, found[total])
            total += 1
        for a in range(n):
            if taken[a] > 0:
                j = near[a]
                count[j] -= taken[a]
                # Whoever counted this cell in its weight loses what was taken.
                _spend(j, taken[a], x, y, blur, head, following, weight)
    return total


@kernel()
def _heaviest(weight):  # pragma: no cover - compiled
    best = 0
    for i in range(1, len(weight)):
        if weight[i] > weight[best]:
            best = i
    return best


@kernel()
def _spend(j, taken, x, y, blur, head, following, weight):  # pragma: no cover - compiled
    rows, columns = head.shape
    row, column = int(max(0.0, y[j]) / _REACH_PX), int(max(0.0, x[j]) / _REACH_PX)
    for r in range(max(0, row - 1), min(rows, row + 2)):
        for c in range(max(0, column - 1), min(columns, column + 2)):
            k = head[r, c]
            while k >= 0:
                d = (x[j] - x[k]) ** 2 + (y[j] - y[k]) ** 2
                if d < _REACH_PX**2:
                    weight[k] -= math.exp(-0.5 * d / blur[k]) * taken
                k = following[k]


@kernel()
def _emit(frame, mass, near, taken, x, y, log_electrons, sd_x, sd_y, sd_log, row):  # pragma: no cover - compiled
    """Write the mean of a cluster, weighted by count and precision, with its spread."""
    norm = mx = my = 0.0
    for a in range(len(taken)):
        j = near[a]
        w = taken[a] / (sd_x[j] * sd_y[j] + 1e-4)
        norm, mx, my = norm + w, mx + w * x[j], my + w * y[j]
    mx, my = mx / norm, my / norm
    ml = vx = vy = vl = 0.0
    for a in range(len(taken)):
        j, w = near[a], taken[a] / mass
        ml += w * log_electrons[j]
        vx += w * (sd_x[j] ** 2 + (x[j] - mx) ** 2)
        vy += w * (sd_y[j] ** 2 + (y[j] - my) ** 2)
    for a in range(len(taken)):
        j, w = near[a], taken[a] / mass
        vl += w * (sd_log[j] ** 2 + (log_electrons[j] - ml) ** 2)
    row.frame, row.x_px, row.y_px, row.log_electrons = frame, mx, my, ml
    row.sd_x_px, row.sd_y_px, row.sd_log_electrons = math.sqrt(vx), math.sqrt(vy), math.sqrt(vl)
    row.probability = min(mass, 1.0)
