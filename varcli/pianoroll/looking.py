"""What nodes see of the canvas while music is written: the same as `FractalModel.look_at` and `Seeing`, compiled.

A look has few nodes, so that launching operations would cost more than what they do.

Shapes: N nodes, W cells of a window, C channels of a cell but "known", D width.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from varcli.pianoroll.fractal import Canvas, FractalModel
from varcli.pianoroll.level import GIVEN, UNKNOWN, View
from varcli.pianoroll.seeing import Seeing

FLAGS = {"cache": True, "nogil": True, "error_model": "numpy"}


class Window(NamedTuple):
    """A view: offsets i32 [W] in the flat memory, `follows` and `differs` [positions, W]."""

    offsets: np.ndarray
    follows: np.ndarray
    differs: np.ndarray


class Rules(NamedTuple):
    """How a model settles what is known: is_ar [levels], steps of a column and columns of a canvas, pitches that are
    settled together; `in_order` if level 0 knows the columns before its own; `past_only` if nothing but the past can be
    written so far, and so nothing needs to be hidden."""

    is_ar: np.ndarray
    masked: bool
    conditioning: bool
    in_order: bool
    past_only: bool
    column: int
    columns: int
    settled: int


class Memory(NamedTuple):
    """Codes u8 of all canvases, flat, and the masked levels that show them (the codes again if no level is masked)."""

    codes: np.ndarray
    reveal: np.ndarray


def window_of(view: View, canvas: Canvas) -> Window:
    """The window of a view on the memory of a canvas."""
    return Window(canvas.flat_offsets(view).numpy(), view.follows.numpy(), view.differs.numpy())


def rules_of(model: FractalModel, canvas: Canvas, *, past_only: bool = False) -> Rules:
    """The rules of a model for its canvas."""
    h, w = model.tree.shapes[0]
    return Rules(
        is_ar=model.is_ar.numpy(),
        masked=canvas.reveal is not None,
        conditioning=model.config.model.conditioning,
        in_order=canvas.in_order,
        past_only=past_only,
        column=w,
        columns=canvas.columns,
        settled=1 if w == 1 and model.level_models[0].kind == "ar" else h,
    )


def memory_of(canvas: Canvas) -> Memory:
    """The live memory of a canvas."""
    codes = canvas.codes.view(-1).numpy()
    return Memory(codes, codes if canvas.reveal is None else canvas.reveal.view(-1).numpy())


class Looking:
    """Looks at a canvas for the nodes of one level and embeds what they see, without gradients, on the CPU."""

    def __init__(self, model: FractalModel, view: View, canvas: Canvas, seeing: Seeing, *, past_only: bool) -> None:
        self._seeing, self._memory = seeing, memory_of(canvas)
        self._window, self._rules = window_of(view, canvas), rules_of(model, canvas, past_only=past_only)
        self._heard, self._rows = seeing.heard.numpy(), seeing.rows.numpy()

    def __call__(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Codes u8 [N, W] (UNKNOWN where hidden) and tokens [N, D]; `where` i64 [facts, N] are those of `Fixed`."""
        N = where.shape[1]
        codes = torch.empty(N, len(self._window.offsets), dtype=torch.uint8)
        sounding = (
            self._seeing.bias.repeat(N, 1) if self._seeing.known is None else torch.zeros(N, len(self._seeing.bias))
        )
        _see(
            where.contiguous().numpy(),
            self._memory,
            self._window,
            self._rules,
            self._heard,
            self._rows,
            codes.numpy(),
            sounding.numpy(),
        )
        return codes, self._seeing.add_known(sounding, codes)


@njit(**FLAGS)
def look_around(first: int, position: int, memory: Memory, window: Window, rules: Rules, seen: np.ndarray) -> None:
    """Write codes u8 [W] that a node sees around it, as `FractalModel.look_at`."""
    codes, reveal = memory
    for cell in range(len(seen)):
        at = first + window.offsets[cell]
        parted = window.differs[position, cell]
        shown_by_mask = rules.masked and not rules.is_ar[parted]
        veiled = reveal[at] > parted if shown_by_mask else window.follows[position, cell]
        seen[cell] = UNKNOWN if veiled and not (rules.conditioning and codes[at] >= GIVEN) else codes[at]


@njit(**FLAGS)
def _see(
    where: np.ndarray,
    memory: Memory,
    window: Window,
    rules: Rules,
    heard: np.ndarray,
    rows: np.ndarray,
    seen: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the codes seen, and add what they say in channels `heard` [256, C] by `rows` [W * C, D] to out [N, D]."""
    C = heard.shape[1]
    for node in range(where.shape[1]):
        if rules.past_only:
            for cell in range(seen.shape[1]):
                seen[node, cell] = memory.codes[where[0, node] + window.offsets[cell]]
        else:
            look_around(where[0, node], where[3, node], memory, window, rules, seen[node])
        token = out[node]
        for cell in range(seen.shape[1]):
            code = seen[node, cell]
            if code == 0 or code == UNKNOWN:
                continue
            for channel in range(C):
                share = heard[code, channel]
                if share != 0:
                    row = rows[cell * C + channel]
                    for i in range(len(token)):
                        token[i] += share * row[i]
