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
"""Nodes that one thread looks for at a time."""
STRETCH = np.uint64(16)
"""Cells that are looked at side by side."""


class WindowArrays(NamedTuple):
    """A view: offsets i32 [W] in the flat arrays, `follows` and `differs` [positions, W].

    `runs` i64 [runs, 3] are stretches of cells that lie side by side: first cell, first offset, how many.
    """

    offsets: np.ndarray
    follows: np.ndarray
    differs: np.ndarray
    runs: np.ndarray


class Visibility(NamedTuple):
    """How a model settles what is known: is_causal [levels], steps of a column and columns of a canvas, pitches that
    are settled together; `in_order` if level 0 knows the columns before its own; `past_only` if nothing but the past
    can be written so far, and so nothing needs to be hidden."""

    is_causal: np.ndarray
    masked: bool
    conditioning: bool
    in_order: bool
    past_only: bool
    column: int
    columns: int
    settled: int


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
        settled=1 if layout.knows_column_below else layout.patch[0],
    )


def arrays_of(canvas: Canvas) -> CanvasArrays:
    """The live arrays of a canvas."""
    codes = canvas.codes.view(-1).numpy()
    return CanvasArrays(codes, codes if canvas.reveal is None else canvas.reveal.view(-1).numpy())


class WindowKernel:
    """Looks at a canvas for the nodes of one level and embeds what they see, without gradients, on the CPU."""

    def __init__(self, view: View, canvas: Canvas, seeing: WindowEmbedding, *, past_only: bool) -> None:
        self._seeing, self._arrays = seeing, arrays_of(canvas)
        self._window, self._visibility = window_of(view, canvas), visibility_of(canvas, past_only=past_only)
        self._workers = Workers()
        self._heard, self._rows = seeing.heard.numpy(), seeing.rows.numpy()

    def __call__(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Codes u8 [N, W] (UNKNOWN where hidden) and tokens [N, D]; `where` as in `SiblingTokens`."""
        N = where.shape[1]
        codes = torch.empty(N, len(self._window.offsets), dtype=torch.uint8)
        sounding = (
            self._seeing.bias.repeat(N, 1) if self._seeing.known is None else torch.zeros(N, len(self._seeing.bias))
        )
        place, seen, out = where.contiguous().numpy(), codes.numpy(), sounding.numpy()

        def see(part: int) -> None:
            nodes = slice(part * NODES, (part + 1) * NODES)
            _see(
                place,
                part * NODES,
                self._arrays,
                self._window,
                self._visibility,
                self._heard,
                self._rows,
                seen[nodes],
                out[nodes],
            )

        self._workers(see, -(-N // NODES))
        return codes, self._seeing.add_known(sounding, codes)


@kernel()
def look_around(
    first: int, position: int, arrays: CanvasArrays, window: WindowArrays, visibility: Visibility, seen: np.ndarray
) -> None:
    """Write codes u8 [W] that a node sees around it, as `Canvas.windows`."""
    codes, reveal = arrays
    for cell in range(len(seen)):
        at = first + window.offsets[cell]
        parted = window.differs[position, cell]
        shown_by_mask = visibility.masked and not visibility.is_causal[parted]
        veiled = reveal[at] > parted if shown_by_mask else window.follows[position, cell]
        seen[cell] = UNKNOWN if veiled and not (visibility.conditioning and codes[at] >= GIVEN) else codes[at]


@kernel()
def _see(
    where: np.ndarray,
    begin: int,
    arrays: CanvasArrays,
    window: WindowArrays,
    visibility: Visibility,
    heard: np.ndarray,
    rows: np.ndarray,
    seen: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the codes seen, and add what they say in channels `heard` [256, C] by `rows` [W * C, D] to out [N, D].

    The nodes stand in `where` from `begin` on.
    """
    C, W = heard.shape[1], seen.shape[1]
    # Cells that sound, eight of them to a word, since in most words none does.
    sounding = np.zeros(-(-W // 8) * 8, np.uint8)
    words = sounding.view(np.uint64)
    plainly = visibility.past_only or (
        visibility.masked and not visibility.conditioning and not visibility.is_causal.any()
    )
    for node in range(len(seen)):
        first, position = where[0, begin + node], where[3, begin + node]
        if plainly:
            _look_along_runs(first, position, arrays, window, visibility.past_only, seen[node])
        else:
            look_around(first, position, arrays, window, visibility, seen[node])
        for cell in range(W):
            sounding[cell] = 0 if seen[node, cell] == UNKNOWN else seen[node, cell]
        token = out[node]
        for word in range(len(words)):
            if words[word] == 0:
                continue
            for cell in range(8 * word, min(8 * word + 8, W)):
                code = sounding[cell]
                if code == 0:
                    continue
                for channel in range(C):
                    share = heard[code, channel]
                    if share != 0:
                        row = rows[cell * C + channel]
                        for i in range(len(token)):
                            token[i] += share * row[i]


@kernel()
def _look_along_runs(
    first: int, position: int, arrays: CanvasArrays, window: WindowArrays, past_only: bool, seen: np.ndarray
) -> None:
    """The same as `look_around` where nothing is hidden (`past_only`), or all that no mask shows."""
    codes, reveal = arrays
    differs = window.differs[position]
    for run in range(len(window.runs)):
        # Numbers without a sign need no check for places counted from the end.
        cell, length = np.uint64(window.runs[run, 0]), np.uint64(window.runs[run, 2])
        at = np.uint64(first + window.runs[run, 1])
        if past_only:
            for i in range(length):
                seen[cell + i] = codes[at + i]
            continue
        if length < STRETCH:
            for i in range(length):
                seen[cell + i] = UNKNOWN if reveal[at + i] > differs[cell + i] else codes[at + i]
            continue
        # Stretches of a fixed length become vector instructions; the last overlaps the one before.
        for start in range(np.uint64(0), length, STRETCH):
            start = min(start, length - STRETCH)
            for i in range(STRETCH):
                k, j = cell + start + i, at + start + i
                seen[k] = UNKNOWN if reveal[j] > differs[k] else codes[j]
