"""Camera stacks written a few frames at a time, as TIFF that ImageJ and others read with its pixel size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from varcli.files import atomic_write

_CLASSIC_BYTES = 3_900_000_000  # above, offsets of a classic TIFF overflow


def tiff_tags(pixel_nm: float) -> dict[str, Any]:
    """What tifffile writes of a grey image with pixels of this size, and nothing that it would add by itself."""
    per_cm = 1e7 / pixel_nm
    size = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    return {"photometric": "minisblack", "metadata": None, **size}


@contextmanager
def stack_writer(
    path: Path, frames: int, height: int, width: int, pixel_size_nm: float
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a stack of `frames` frames; what comes out of it appends some, [n, Y, X] u16.

    The stack is there when the `with` block ends; an error in it leaves nothing behind. Raises VarError when the disk
    is full.
    """
    import tifffile

    big = 2 * frames * height * width > _CLASSIC_BYTES
    with atomic_write(path) as part, tifffile.TiffWriter(part, bigtiff=big) as file:

        def append(frames_adu: np.ndarray) -> None:
            for frame in frames_adu:
                file.write(frame, contiguous=True, software="varcli", **tiff_tags(pixel_size_nm))

        yield append
