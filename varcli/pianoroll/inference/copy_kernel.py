"""Copy attention in sampling, compiled: the same as `CopyAttention`, for steps of few nodes.

Shapes: N nodes, B canvases, C columns of level 0, K candidates, M cells of a window, H hidden scoring units, D width.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from varcli.compiled import kernel
from varcli.pianoroll.inference.window_kernel import (
    CanvasArrays,
    Visibility,
    WindowArrays,
    arrays_of,
    read_window,
    visibility_of,
    window_of,
)
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.context import Context
from varcli.pianoroll.model.copy_attention import COUNTS, ROW, CopyAttention
from varcli.pianoroll.model.level import GIVEN, UNKNOWN

HIDDEN, SILENT, SOUNDING = range(3)


class _View(NamedTuple):
    """The window of a level's copy attention, and its scoring network; channels f32 [256, C].

    `later` [M] are the steps of its cells from a node, `centre` [M] says which lie in it. `logs` [n] is log1p(n) / 2.
    """

    window: WindowArrays
    later: np.ndarray
    centre: np.ndarray
    channels: np.ndarray
    traits: np.ndarray
    counts: np.ndarray
    bias: np.ndarray
    last: np.ndarray
    last_bias: float
    logs: np.ndarray
    plan_rows: int


class CopyKernel:
    """Copy attention of the nodes of one level over the candidates of a canvas, without gradients, on the CPU."""

    def __init__(self, echo: CopyAttention, context: Context) -> None:
        self._context, canvas = context, context.canvas
        self._weight = torch.cat([echo.show.weight, echo.tell.weight], 1).detach().t().contiguous()
        self._arrays, self._view, self._visibility = arrays_of(canvas), _view(echo, canvas), visibility_of(canvas)

    def __call__(self, where: Tensor) -> Tensor:
        """Copied vectors of nodes [N, D]; `where` i64 [6, N] as in `SiblingTokens`."""
        candidates = self._context.candidates
        assert candidates is not None
        shift, traits, below = (
            x.flatten(0, 1).contiguous().numpy() for x in (candidates.shift, candidates.traits, candidates.below)
        )
        copied = torch.empty(where.shape[1], len(self._weight))
        _copy(
            where.contiguous().numpy(),
            self._arrays,
            shift,
            traits,
            below,
            self._view,
            self._visibility,
            copied.numpy(),
        )
        return copied @ self._weight


def _view(echo: CopyAttention, canvas: Canvas) -> _View:
    hidden, _, last = echo.judge
    assert isinstance(hidden, torch.nn.Linear) and isinstance(last, torch.nn.Linear)
    M = len(echo.offsets)
    centre = np.zeros(M, bool)
    centre[echo.centre] = True
    weight_FH = hidden.weight.detach().t().contiguous().numpy()
    return _View(
        window=window_of(echo, canvas),
        later=echo.offsets[:, 1].contiguous().numpy(),
        centre=centre,
        channels=echo.channels.numpy(),
        traits=weight_FH[:-COUNTS],
        counts=weight_FH[-COUNTS:],
        bias=hidden.bias.detach().numpy(),
        last=last.weight.detach().view(-1).numpy(),
        last_bias=float(last.bias),
        logs=(torch.arange(max(M, UNKNOWN) + 1).float().log1p() / 2).numpy(),
        plan_rows=echo.plan_rows,
    )


@kernel()
def _copy(
    where: np.ndarray,
    arrays: CanvasArrays,
    shift: np.ndarray,
    traits: np.ndarray,
    below: np.ndarray,
    view: _View,
    visibility: Visibility,
    out: np.ndarray,
) -> None:
    """Write into out f32 [N, M * C + 3 K] the weighted cells and the weights of nodes `where` i64 [6, N]."""
    K, M, C = shift.shape[1], len(view.later), view.channels.shape[1]
    own, there, score = np.empty(M, np.uint8), np.empty((K, M), np.uint8), np.empty(K, np.float32)
    hidden = np.empty(len(view.bias), np.float32)
    out[:] = 0
    for node in range(where.shape[1]):
        first, step, position, pitch = where[0, node], where[2, node], where[3, node], where[4, node]
        column = where[5, node] * visibility.columns + step // visibility.column
        if pitch < view.plan_rows:
            continue
        row = (pitch // visibility.rows_together * visibility.rows_together - view.plan_rows) // ROW
        read_window(first, position, arrays, view.window, visibility, own)
        weights = out[node, M * C :]
        most = np.float32(0)
        for k in range(K):
            if shift[column, k] == 0:
                continue
            _read_window_there(first, step % visibility.column, shift[column, k], arrays, view, visibility, there[k])
            counts = _compare(own, there[k])
            for h in range(len(hidden)):
                hidden[h] = view.bias[h]
            for trait in range(traits.shape[2]):
                _add_row(traits[column, k, trait], view.traits, trait, hidden)
            for i in range(3):
                _add_row(view.logs[counts[i]], view.counts, i, hidden)
                _add_row(view.logs[below[column, k, row, i]], view.counts, 3 + i, hidden)
            score[k] = np.float32(view.last_bias)
            for i in range(len(hidden)):
                score[k] += view.last[i] * hidden[i] / (np.float32(1) + np.exp(-hidden[i]))
            most = max(most, score[k])
        total = np.exp(-most)  # leading nowhere has a score of zero
        for k in range(K):
            if shift[column, k] != 0:
                total += np.exp(score[k] - most)
        for k in range(K):
            if shift[column, k] == 0:
                continue
            weight = np.exp(score[k] - most) / total
            _add_cells(weight, there[k], view, out[node])
            weights[k] = weight
            for m in range(M):
                if view.centre[m] and _kind_of(there[k, m]) == SOUNDING:
                    weights[K + k], weights[2 * K + k] = 1, 4 * weight


@kernel()
def _add_row(factor: float | np.ndarray, rows: np.ndarray, row: int, out: np.ndarray) -> None:
    """Add a row of an array, times a factor, to out: a loop, which compiles in a fraction of the time of slices."""
    for i in range(len(out)):
        out[i] += factor * rows[row, i]


@kernel()
def _kind_of(code: int) -> int:
    return HIDDEN if code == UNKNOWN else SOUNDING if code & (GIVEN - 1) else SILENT


@kernel()
def _read_window_there(
    first: int,
    inside: int,
    shift: int,
    arrays: CanvasArrays,
    view: _View,
    visibility: Visibility,
    window_codes: np.ndarray,
) -> None:
    """Codes u8 [M] around a candidate's place, of nodes that stand `inside` a column, as `CopyAttention`."""
    codes, reveal = arrays
    for m in range(len(window_codes)):
        at = first + shift + view.window.offsets[m]
        hidden = view.later[m] >= -inside - shift if visibility.in_order else reveal[at] != 0
        window_codes[m] = UNKNOWN if hidden and not (visibility.conditioning and codes[at] >= GIVEN) else codes[at]


@kernel()
def _compare(own: np.ndarray, there: np.ndarray) -> tuple[int, int, int]:
    """How many cells sound in both, in one's own alone, and there alone, among those known in both."""
    both, here_only, there_only = 0, 0, 0
    for m in range(len(own)):
        here, far = _kind_of(own[m]), _kind_of(there[m])
        both += here == SOUNDING and far == SOUNDING
        here_only += here == SOUNDING and far == SILENT
        there_only += here == SILENT and far == SOUNDING
    return both, here_only, there_only


@kernel()
def _add_cells(weight: float, there: np.ndarray, view: _View, out: np.ndarray) -> None:
    """Add the channels of cells, weighted, to out [M * C]."""
    C = view.channels.shape[1]
    for m in range(len(there)):
        if there[m] == UNKNOWN:
            continue
        for channel in range(C):
            out[m * C + channel] += weight * view.channels[there[m], channel]
