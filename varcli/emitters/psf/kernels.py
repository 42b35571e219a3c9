"""What compiled code asks of a PSF; which function answers is chosen by the type of the PSF when it is compiled.

Legend: Y X camera pixels, P pixels of a window in rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numba.extending import overload


class PsfKernels(NamedTuple):
    """The compiled functions of one kind of PSF, with the arguments of `half_width`, `add_spot` and `add_slopes`."""

    half_width: Callable[..., Any]
    add_spot: Callable[..., Any]
    add_slopes: Callable[..., Any]


KINDS: dict[type, PsfKernels] = {}


def register(kind: type, kernels: PsfKernels) -> None:
    """Let compiled code take a kind of PSF: a NamedTuple of numbers, see `Psf`."""
    KINDS[kind] = kernels


def half_width(psf, electrons, noise):
    """Pixels from the centre pixel beyond which a spot is lost in a background of standard deviation `noise`."""
    return KINDS[type(psf)].half_width(psf, electrons, noise)


def add_spot(psf, x, y, electrons, y0, y1, x0, x1, mean, memory):
    """Add the expected electrons of a spot to rows y0..y1-1 and columns x0..x1-1 of `mean` [Y, X].

    `memory` [8, 256] is for what stands between.
    """
    KINDS[type(psf)].add_spot(psf, x, y, electrons, y0, y1, x0, x1, mean, memory)


def add_slopes(psf, x, y, electrons, y0, y1, x0, x1, first, width, mean, slopes, row, memory):
    """The same for `mean` [P], where (y0, x0) is pixel `first` and a row has `width` of them, and the derivatives by x,
    y and log electrons for `slopes` [row..row+2, P]."""
    KINDS[type(psf)].add_slopes(psf, x, y, electrons, y0, y1, x0, x1, first, width, mean, slopes, row, memory)


def _choose(name: str) -> Callable[..., Any]:
    def chosen(psf: Any, *_: Any) -> Callable[..., Any] | None:
        kernels = KINDS.get(getattr(psf, "instance_class", None))  # type: ignore[arg-type]
        return kernels and getattr(kernels, name).py_func

    return chosen


for _stub in (half_width, add_spot, add_slopes):
    _options: Any = {"fastmath": True, "nogil": True, "error_model": "numpy"}  # as `kernel` has them
    overload(_stub, jit_options=_options, strict=False)(_choose(_stub.__name__))
