"""The point spread function (PSF): what every kind of it does, in Python and in compiled code.

Which compiled function answers is chosen by the type of the PSF when the caller is compiled. So a further kind is one
file with its class and its functions, and one registration.

Legend: E emitters, Y X camera pixels of a window or frame, P pixels of a window in rows. Positions are px from the
corner of pixel (0, 0), depths in nm.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numba.extending import overload

if TYPE_CHECKING:
    from torch import Tensor


class Psf(Protocol):
    """The image of a point: a value that does not change.

    Compiled code takes those kinds that are NamedTuples of numbers, of which `sigma_x_px` and `sigma_y_px` are the
    widths of the core, and are registered (`register`).
    """

    @property
    def sigma_px(self) -> float:
        """Mean width of its core."""
        ...

    @property
    def reach_px(self) -> float:
        """How far from its centre it shines."""
        ...

    def evaluate(
        self, x_px: "Tensor", y_px: "Tensor", z_nm: "Tensor | None" = None, *, size: tuple[int, int]
    ) -> "Tensor":
        """Share of the light of emitters at x, y, z [E] in every pixel of a window of `size` (Y, X): [E, Y, X].

        Integrated over the area of each pixel; z is 0 where it is left out.
        """
        ...

    def derivatives(
        self, x_px: "Tensor", y_px: "Tensor", z_nm: "Tensor | None" = None, *, size: tuple[int, int]
    ) -> "Tensor":
        """Derivatives of `evaluate` by x, y (per px) and z (per nm): [3, E, Y, X]."""
        ...


class PsfKernels(NamedTuple):
    """The compiled functions of one kind of PSF, with the arguments of `half_width`, `add_spot` and `add_slopes`.

    They make no arrays: what stands between goes into `memory`.
    """

    half_width: Callable[..., Any]
    add_spot: Callable[..., Any]
    add_slopes: Callable[..., Any]


KINDS: dict[type, PsfKernels] = {}


def register(kind: type, kernels: PsfKernels) -> None:
    """Let compiled code take a kind of PSF."""
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
