"""Windows of nodes in sampling, gathered and embedded by compiled code: `Canvas.windows` and `WindowEmbedding`.

A request has few nodes, so that launching operations would cost more than what they do.

Shapes: N nodes, W cells of a window, C channels of a cell but "known", D width.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from varcli.compiled import kernel
from varcli.pianoroll.inference.window_embedding import WindowEmbedding
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.level import GIVEN, UNKNOWN, View
from varcli.threads import Workers

NODES = 128
"""Nodes that one thread works on at a time."""
RUN = np.uint64(16)
"""Cells that are read side by side."""


class WindowArrays(NamedTuple):
    """A view: offsets i32 [W] in the flat arrays, `follows` and `differs` [positions, W].

    `runs` i64 [runs, 3] are cells that lie side by side: first cell, first offset, how many.
    """

    offsets: np.ndarray
    follows: np.ndarray
    differs: np.ndarray
    runs: np.ndarray


class Visibility(NamedTuple):
    """What decides which cells are known: is_causal [levels], steps of a column and columns of a canvas, rows that
    are known together; `in_order` if level 0 knows the columns before its own; `past_only` if nothing but the past
    can be written so far, and so nothing needs to be hidden."""

    is_causal: np.ndarray
    masked: bool
    conditioning: bool
    in_order: bool
    past_only: bool
    column: int
    columns: int
    rows_together: int


class CanvasArrays(NamedTuple):
    """Codes u8 of all canvases, flat, and the masked levels that show them (the codes again if no level is masked)."""

    codes: np.ndarray
    reveal: np.ndarray


def window_of(view: View, canvas: Canvas) -> WindowArrays:
    """The window of a view on the arrays of a canvas."""
    offsets = canvas.flat_offsets(view).numpy()
    first = np.flatnonzero(np.diff(offsets, prepend=offsets[0] - 2) != 1)
    runs = np.stack([first, offsets[first], np.diff(first, append=len(offsets))], 1).astype(np.int64)
    return WindowArrays(offsets, view.follows.numpy(), view.differs.numpy(), runs)


def visibility_of(canvas: Canvas, *, past_only: bool = False) -> Visibility:
    """The visibility of cells of a canvas."""
    layout = canvas.layout
    return Visibility(
        is_causal=np.array(layout.is_causal),
        masked=canvas.reveal is not None,
        conditioning=layout.conditioning,
        in_order=canvas.columns_in_order,
        past_only=past_only,
        column=layout.patch[1],
        columns=canvas.columns,
        rows_together=1 if layout.knows_column_below else layout.patch[0],
    )


def arrays_of(canvas: Canvas) -> CanvasArrays:
    """The live arrays of a canvas."""
    codes = canvas.codes.view(-1).numpy()
    return CanvasArrays(codes, codes if canvas.reveal is None else canvas.reveal.view(-1).numpy())


class WindowKernel:
    """Reads the windows of nodes of one level from a canvas and embeds them, without gradients, on the CPU."""

    def __init__(self, view: View, canvas: Canvas, embedding: WindowEmbedding, *, past_only: bool) -> None:
        self._embedding, self._arrays = embedding, arrays_of(canvas)
        self._window, self._visibility = window_of(view, canvas), visibility_of(canvas, past_only=past_only)
        self._workers = Workers()
        self._channels, self._rows = embedding.channels.numpy(), embedding.rows.numpy()

    def __call__(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Codes u8 [N, W] (UNKNOWN where hidden) and tokens [N, D]; `where` as in `SiblingTokens`."""
        N = where.shape[1]
        codes = torch.empty(N, len(self._window.offsets), dtype=torch.uint8)
        sounding = (
            self._embedding.bias.repeat(N, 1)
            if self._embedding.known is None
            else torch.zeros(N, len(self._embedding.bias))
        )
        place, window_codes, out = where.contiguous().numpy(), codes.numpy(), sounding.numpy()

        def embed(part: int) -> None:
            nodes = slice(part * NODES, (part + 1) * NODES)
            _embed(
                place,
                part * NODES,
                self._arrays,
                self._window,
                self._visibility,
                self._channels,
                self._rows,
                window_codes[nodes],
                out[nodes],
            )

        self._workers(embed, -(-N // NODES))
        return codes, self._embedding.add_known(sounding, codes)


@kernel()
def read_window(
    first: int,
    position: int,
    arrays: CanvasArrays,
    window: WindowArrays,
    visibility: Visibility,
    window_codes: np.ndarray,
) -> None:
    """Write the codes u8 [W] in a node's window, as `Canvas.windows`."""
    codes, reveal = arrays
    for cell in range(len(window_codes)):
        at = first + window.offsets[cell]
        level = window.differs[position, cell]
        shown_by_mask = visibility.masked and not visibility.is_causal[level]
        hidden = reveal[at] > level if shown_by_mask else window.follows[position, cell]
        window_codes[cell] = UNKNOWN if hidden and not (visibility.conditioning and codes[at] >= GIVEN) else codes[at]


@kernel()
def _embed(
    where: np.ndarray,
    begin: int,
    arrays: CanvasArrays,
    window: WindowArrays,
    visibility: Visibility,
    channels: np.ndarray,
    rows: np.ndarray,
    window_codes: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the codes of windows, and add to out [N, D] their embedding: `channels` [256, C] by `rows` [W * C, D].

    The nodes stand in `where` from `begin` on.
    """
    C, W = channels.shape[1], window_codes.shape[1]
    # Cells that sound, eight of them to a word, since in most words none does.
    sounding = np.zeros(-(-W // 8) * 8, np.uint8)
    words = sounding.view(np.uint64)
    plainly = visibility.past_only or (
        visibility.masked and not visibility.conditioning and not visibility.is_causal.any()
    )
    for node in range(len(window_codes)):
        first, position = where[0, begin + node], where[3, begin + node]
        if plainly:
            _read_runs(first, position, arrays, window, visibility.past_only, window_codes[node])
        else:
            read_window(first, position, arrays, window, visibility, window_codes[node])
        for cell in range(W):
            sounding[cell] = 0 if window_codes[node, cell] == UNKNOWN else window_codes[node, cell]
        token = out[node]
        for word in range(len(words)):
            if words[word] == 0:
                continue
            for cell in range(8 * word, min(8 * word + 8, W)):
                code = sounding[cell]
                if code == 0:
                    continue
                for channel in range(C):
                    share = channels[code, channel]
                    if share != 0:
                        row = rows[cell * C + channel]
                        for i in range(len(token)):
                            token[i] += share * row[i]


@kernel()
def _read_runs(
    first: int, position: int, arrays: CanvasArrays, window: WindowArrays, past_only: bool, window_codes: np.ndarray
) -> None:
    """The same as `read_window` where nothing is hidden (`past_only`), or all that no mask shows."""
    codes, reveal = arrays
    differs = window.differs[position]
    for run in range(len(window.runs)):
        # Numbers without a sign need no check for places counted from the end.
        cell, length = np.uint64(window.runs[run, 0]), np.uint64(window.runs[run, 2])
        at = np.uint64(first + window.runs[run, 1])
        if past_only:
            for i in range(length):
                window_codes[cell + i] = codes[at + i]
            continue
        if length < RUN:
            for i in range(length):
                window_codes[cell + i] = UNKNOWN if reveal[at + i] > differs[cell + i] else codes[at + i]
            continue
        # Runs of a fixed length become vector instructions; the last overlaps the one before.
        for start in range(np.uint64(0), length, RUN):
            start = min(start, length - RUN)
            for i in range(RUN):
                k, j = cell + start + i, at + start + i
                window_codes[k] = UNKNOWN if reveal[j] > differs[k] else codes[j]
