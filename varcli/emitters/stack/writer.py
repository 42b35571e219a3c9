"""Camera stacks written a few frames at a time, as TIFF that ImageJ and others read with its pixel size."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from varcli.errors import VarError
from varcli.files import atomic_write, explain_os_error

_CLASSIC_BYTES = 3_900_000_000  # above, offsets of a classic TIFF overflow


class StackWriter:
    """Writes `frames` frames of u16 to `path`; nothing is there before `finish`.

    Leaving a `with` block without `finish` leaves nothing behind. Raises VarError when the disk is full.
    """

    def __init__(self, path: Path, frames: int, height: int, width: int, pixel_size_nm: float) -> None:
        import tifffile

        self.path = path
        self._stack = ExitStack()
        per_cm = 1e7 / pixel_size_nm
        self._options = {
            "photometric": "minisblack",
            "contiguous": True,
            "resolution": (per_cm, per_cm),
            "resolutionunit": "CENTIMETER",
            "software": "varcli",
            "metadata": None,
        }
        try:
            temporary = self._stack.enter_context(atomic_write(path))
            big = 2 * frames * height * width > _CLASSIC_BYTES
            self._file = tifffile.TiffWriter(temporary, bigtiff=big)
        except OSError as error:
            raise explain_os_error(error, path) from error

    def append(self, frames_adu: np.ndarray) -> None:
        """Add frames [n, Y, X] u16."""
        try:
            for frame in frames_adu:
                self._file.write(frame, **self._options)
        except OSError as error:
            raise explain_os_error(error, self.path) from error

    def finish(self) -> None:
        """Put the stack in its place."""
        try:
            self._file.close()
        except OSError as error:
            raise explain_os_error(error, self.path) from error
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind; after `finish`, do nothing."""
        self._file.close()
        self._stack.__exit__(VarError, VarError(f"{self.path}: not finished"), None)
