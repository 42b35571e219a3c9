"""What a TIFF file describes of its pages: which are frames, which channels or planes, how large a pixel is.

Sources: OME-XML 2016-06; ImageJ's description (ij.io.FileInfo); tifffile's JSON description; Micro-Manager's tag 51123.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from varcli.errors import UsageError, VarError

if TYPE_CHECKING:
    import tifffile

_METRES = {"m": 1e9, "cm": 1e7, "mm": 1e6, "µm": 1e3, "μm": 1e3, "um": 1e3, "micron": 1e3, "microns": 1e3, "nm": 1.0}
_RESOLUTION_UNIT = {2: 25.4e6, 3: 1e7}  # nm per inch and per centimetre
_PIXEL_NM = (2.0, 5000.0)  # a pixel in the sample; beyond it the tag speaks of paper or of a screen
_MOST_CHANNELS = 7  # ImageJ composes no more; a "channel" axis longer than that is a stack whose axis was not named


@dataclass(frozen=True)
class Layout:
    """The order of pages: `axes` (a letter each, the last changes fastest) and their `sizes`.

    T frames, C channels, Z planes; `stacked` says that planes may well be frames, as ImageJ writes stacks, `contiguous`
    that pages that are not compressed lie one behind the other, whether they are described or not.
    `metadata` holds pixel_size_nm with pixel_size_from, camera hints by the file's own names, where the file has them.
    """

    kind: str
    axes: str
    sizes: tuple[int, ...]
    stacked: bool = False
    contiguous: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def pages(self) -> int:
        """Pages that the file announces."""
        return math.prod(self.sizes)


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep tifffile's own messages from the terminal: what matters in them stands in our errors."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def layout_of(tif: "tifffile.TiffFile", pages: int) -> Layout:
    """The description of the `pages` pages of an open file; raises VarError for kinds that hide frames."""
    page = tif.pages.first
    if tif.is_stk or tif.is_lsm or tif.is_fluoview:
        raise VarError(f"{tif.filename}: a file of another program's own kind", "save it as OME-TIFF or plain TIFF")
    metadata = {**_resolution(page), **_micromanager(tif)}
    if tif.is_imagej:
        return _imagej(tif.imagej_metadata or {}, pages, page, metadata)
    if tif.is_shaped:
        return _shaped((tif.shaped_metadata or ({},))[0], pages, metadata)
    return Layout("TIFF", "T", (pages,), metadata=metadata)


def ome_metadata(path: Path, text: str) -> dict[str, Any]:
    """Pixel size and hints of the camera in OME-XML, of its first image."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise VarError(f"{path}: its OME-XML cannot be read: {error}", "save it again, or as plain TIFF") from None
    found: dict[str, Any] = {}
    pixels = root.find(".//{*}Pixels")
    if pixels is not None and pixels.get("PhysicalSizeX"):
        unit = pixels.get("PhysicalSizeXUnit", "µm")
        found.update(_size(float(pixels.get("PhysicalSizeX", "nan")) * _METRES.get(unit, math.nan), "PhysicalSizeX"))
    if pixels is not None and pixels.get("SignificantBits"):
        found["significant_bits"] = int(pixels.get("SignificantBits", "0"))
    settings = root.find(".//{*}DetectorSettings")
    hints = {name: settings.get(name) for name in ("Gain", "Offset", "ReadOutRate")} if settings is not None else {}
    hints = {f"DetectorSettings {name}": value for name, value in hints.items() if value is not None}
    return {**found, **({"camera_hints": hints} if hints else {})}


def choose_planes(path: Path, layout: Layout, channel: int | None) -> tuple[np.ndarray, list[str]]:
    """Pages [n] that are the frames of a stack, in order, and what had to be assumed for it.

    Raises VarError where channels or planes leave more than one choice, UsageError where `channel` is none of them.
    """
    sizes = {axis: size for axis, size in zip(layout.axes, layout.sizes, strict=True) if size > 1}
    index = np.arange(layout.pages).reshape(layout.sizes)
    others = [axis for axis in sizes if axis in "CZ"]
    assumed: list[str] = []
    if len(sizes) == 1 and others and channel is None:
        axis = others[0]
        named = {"C": "channels", "Z": "slices"}[axis]
        if (axis == "C" and sizes[axis] > _MOST_CHANNELS) or (axis == "Z" and layout.stacked):
            return index.ravel(), [f"its {sizes[axis]} {named} were taken as frames, since it names none"]
    if sum(size > 1 for axis, size in zip(layout.axes, layout.sizes, strict=True) if axis not in "CZ") > 1:
        raise VarError(
            f"{path}: pages of shape {layout.sizes} have more than one axis of frames", "save it with the axes TYX"
        )
    if len(others) > 1:
        what = f"{sizes['C']} channels of {sizes['Z']} planes"
        raise VarError(f"{path}: {what}", "save one plane of one channel as a stack of its own")
    if others:
        axis = others[0]
        named = {"C": "channels", "Z": "planes of a z-stack"}[axis]
        count = sizes[axis]
        if channel is None:
            hint = f"--channel 0 to --channel {count - 1} takes one"
            more = "; if the planes are frames in time, save them as such (axes TYX)" if axis == "Z" else ""
            raise VarError(f"{path}: {count} {named}", hint + more)
        if not 0 <= channel < count:
            raise UsageError(f"{path}: there is no channel {channel}", f"it has {count}, counted from 0")
        return np.take(index, channel, layout.axes.index(axis)).ravel(), assumed
    if channel:
        raise UsageError(f"{path}: there is no channel {channel}", "it has one, channel 0")
    return index.ravel(), assumed


def _imagej(described: dict[str, Any], pages: int, page: Any, metadata: dict[str, Any]) -> Layout:
    images = int(described.get("images", 1))
    sizes = tuple(int(described.get(name, 1)) for name in ("frames", "slices", "channels"))
    if math.prod(sizes) != images or images < pages:
        # Plain stacks may give no more than "images", and some programs not even that.
        sizes = (max(images, pages), 1, 1)
    unit = str(described.get("unit", "")).replace("\\u00B5", "µ")
    if unit in _METRES and "XResolution" in page.tags:
        above, below = page.tags["XResolution"].value
        metadata.update(_size(_METRES[unit] * below / above if above else math.nan, "ImageJ's scale"))
    stacked = not described.get("hyperstack", False)
    return Layout("ImageJ TIFF", "TZC", sizes, stacked=stacked, contiguous=True, metadata=metadata)


def _shaped(described: dict[str, Any], pages: int, metadata: dict[str, Any]) -> Layout:
    """tifffile's own description: the shape of the array that was written, with axes where they were given."""
    sizes = tuple(int(size) for size in described.get("shape", ()))[:-2]
    axes = str(described.get("axes", ""))[:-2]
    if len(axes) != len(sizes):
        # Sizes of 1 do not matter; more than one other axis without names cannot be told apart, and is refused later.
        sizes = tuple(size for size in sizes if size > 1)
        axes = "T" * len(sizes)
    axes = "".join(axis if axis in "CZ" else "T" for axis in axes.upper())
    if not sizes or (len(sizes) == 1 and axes == "T") or math.prod(sizes) < pages:
        # A stack written bit by bit describes its first part alone.
        return Layout("TIFF", "T", (max(math.prod(sizes), pages),), contiguous=True, metadata=metadata)
    return Layout("TIFF", axes, sizes, contiguous=True, metadata=metadata)


def _resolution(page: Any) -> dict[str, Any]:
    unit = _RESOLUTION_UNIT.get(int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else 0)
    if unit is None or "XResolution" not in page.tags:
        return {}
    above, below = page.tags["XResolution"].value
    return _size(unit * below / above if above else math.nan, "resolution tags")


def _micromanager(tif: "tifffile.TiffFile") -> dict[str, Any]:
    tag = tif.pages.first.tags.get(51123)
    described = tag.value if tag is not None and isinstance(tag.value, dict) else {}
    hints = {key: value for key, value in described.items() if key.endswith(("Gain", "Offset", "Binning"))}
    size = described.get("PixelSizeUm")
    found = _size(float(size) * 1e3, "Micro-Manager's PixelSizeUm") if isinstance(size, int | float) else {}
    return {**found, **({"camera_hints": hints} if hints else {})}


def _size(pixel_nm: float, origin: str) -> dict[str, Any]:
    believable = math.isfinite(pixel_nm) and _PIXEL_NM[0] <= pixel_nm <= _PIXEL_NM[1]
    return {"pixel_size_nm": pixel_nm, "pixel_size_from": origin} if believable else {}
