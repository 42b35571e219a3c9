"""The frames of one TIFF file or OME-TIFF series: in which files they lie, and where."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from varcli.emitters.stack.tiff_layout import Layout, choose_planes, layout_of, ome_metadata, quiet_tifffile
from varcli.emitters.stack.tiff_pages import TiffPages, scan_pages
from varcli.errors import UsageError, VarError


@dataclass(frozen=True)
class Part:
    """Frames that lie in one file, [n] each: where plain numbers begin (-1: not plain), and where pages are described.

    `dtype` has the byte order of the file. Pages beyond the described ones have no directory (-1) but plain numbers.
    """

    path: Path
    dtype: np.dtype
    data: np.ndarray
    directory: np.ndarray

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True)
class Series:
    """The frames of a file, or of all files of an OME-TIFF series, in order.

    `truncated_at` is the page, from 0, that is missing or not whole where `parts` end; None where all is there.
    """

    path: Path
    files: tuple[Path, ...]
    height: int
    width: int
    dtype: np.dtype
    parts: tuple[Part, ...]
    metadata: dict[str, Any]
    assumed: tuple[str, ...]
    truncated_at: int | None

    @classmethod
    def of(
        cls,
        pages: TiffPages,
        files: tuple[Path, ...],
        parts: Sequence[Part],
        layout: Layout,
        assumed: Sequence[str],
        truncated_at: int | None,
    ) -> "Series":
        """The series of `pages.path` whose frames are all like `pages`."""
        metadata = {"kind": layout.kind, **layout.metadata}
        size = pages.height, pages.width, pages.dtype
        return cls(pages.path, files, *size, tuple(parts), metadata, tuple(assumed), truncated_at)


def open_series(path: Path, channel: int | None) -> Series:
    """The frames of the series that `path` belongs to.

    Raises UsageError for a missing file or channel, VarError for what is no stack of grey frames. A truncated file
    gives the frames before the first page that is not whole.
    """
    import tifffile

    if not path.is_file():
        raise UsageError(f"{path}: {'a folder, not a stack' if path.is_dir() else 'no such file'}")
    pages = scan_pages(path)
    if pages.samples > 1:
        kind = "RGB" if pages.samples in (3, 4) else f"{pages.samples} samples per pixel"
        raise VarError(f"{path}: {kind} images are not camera frames", "export one channel in grey")
    try:
        with quiet_tifffile(), tifffile.TiffFile(path) as tif:
            pages = _with_decoded_checked(pages, tif)
            if not tif.is_ome:
                return _one_file(pages, layout_of(tif, len(pages.directory)), channel)
            text = tif.ome_metadata or ""
            metadata = ome_metadata(path, text)
            simple = _simple_ome(text, metadata)
            if simple is not None:
                return _one_file(pages, simple, channel)
            return _many_files(path, tif.series[0], metadata, channel)
    except (tifffile.TiffFileError, IndexError, ElementTree.ParseError) as error:
        raise VarError(f"{path}: cannot be read as TIFF: {str(error).splitlines()[0]}", "save it again") from None


def _one_file(pages: TiffPages, layout: Layout, channel: int | None) -> Series:
    pages = _with_undescribed(pages, layout)
    if layout.kind == "TIFF" and layout.axes == "T" and layout.pages < len(pages.directory):
        layout = replace(layout, sizes=(len(pages.directory),))
    chosen, assumed = choose_planes(pages.path, layout, channel)
    if len(pages.directory) > layout.pages:
        assumed.append(f"{len(pages.directory) - layout.pages} pages that its description leaves out were left out")
    missing = chosen >= pages.whole
    truncated_at = None
    if missing.any():
        truncated_at = int(chosen[np.argmax(missing)])
        chosen = chosen[: np.argmax(missing)]
    elif pages.broken:
        truncated_at = pages.whole
    part = Part(pages.path, pages.dtype, pages.data[chosen], pages.directory[chosen])
    return Series.of(pages, (pages.path,), [part], layout, assumed, truncated_at)


def _with_decoded_checked(pages: TiffPages, tif: Any) -> TiffPages:
    """Pages in pieces or compressed end where their last piece does: find the first that ends beyond the file."""
    import tifffile

    if not (pages.data < 0).any():
        return pages

    def is_whole(number: int) -> bool:
        tif.filehandle.seek(int(pages.directory[number]))
        page = tifffile.TiffPage(tif, index=number)
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        return bool(ends) and max(ends) <= tif.filehandle.size

    # A file lacks its end, so the pages that are whole come first.
    whole = bisect.bisect_left(range(pages.whole), True, key=lambda number: not is_whole(number))
    return replace(pages, whole=whole, broken=pages.broken or whole < len(pages.directory))


def _with_undescribed(pages: TiffPages, layout: Layout) -> TiffPages:
    """Pages that are announced and lie one behind the other, but are described nowhere.

    ImageJ writes so beyond 4 GB; and in a truncated file the descriptions at its end are what is lost first.
    """
    described, announced = len(pages.directory), layout.pages if layout.contiguous else 0
    if described == 1 and announced <= 1 and pages.next_directory:
        # Room for a whole number of pages before the lost description of the second: they lie there.
        announced, rest = divmod(pages.next_directory - int(pages.data[0]), pages.page_bytes)
        announced = 0 if rest else announced
    if announced <= described or pages.data[0] < 0:
        return pages
    if described > 1 and (np.diff(pages.data) != pages.page_bytes).any():
        return pages
    data = pages.data[0] + np.arange(announced, dtype=np.int64) * pages.page_bytes
    whole = int(min(announced, (pages.path.stat().st_size - pages.data[0]) // pages.page_bytes))
    directory = np.concatenate([pages.directory, np.full(announced - described, -1, np.int64)])
    return replace(pages, directory=directory, data=data, whole=whole, broken=whole < announced)


def _simple_ome(text: str, metadata: dict[str, Any]) -> Layout | None:
    """The order of pages of an OME-TIFF whose planes follow each other in this very file; None where they may not."""
    root = ElementTree.fromstring(text)
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    places = pixels.findall("{*}TiffData")
    elsewhere = any(
        place.find("{*}UUID") is not None and root.get("UUID") != place.findtext("{*}UUID") for place in places
    )
    if (
        elsewhere
        or len(places) > 1
        or any(int(places[0].get(name, "0")) for name in ("IFD", "FirstC", "FirstT", "FirstZ"))
    ):
        return None
    axes = pixels.get("DimensionOrder", "XYCZT")[:1:-1]
    sizes = tuple(int(pixels.get(f"Size{axis}", "1")) for axis in axes)
    tifffile_wrote = str(root.get("Creator", "")).startswith("tifffile")
    return Layout("OME-TIFF", axes, sizes, contiguous=tifffile_wrote, metadata=metadata)


def _many_files(path: Path, series: Any, metadata: dict[str, Any], channel: int | None) -> Series:
    """The frames of an OME-TIFF series as tifffile finds them: which page of which file each is."""
    axes = "".join(axis if axis in "CZ" else "T" for axis in series.axes[:-2])
    layout = Layout("OME-TIFF", axes, tuple(series.shape[:-2]), metadata=metadata)
    chosen, assumed = choose_planes(path, layout, channel)
    places = [series.pages[int(plane)] for plane in chosen]
    found = [(Path(page.parent.filehandle.path), page.offset) if page is not None else None for page in places]
    scanned = {file: scan_pages(file) for file in dict.fromkeys(place[0] for place in found if place)}
    if not scanned:
        raise VarError(f"{path}: none of the files of its OME-TIFF series is there", "put them in one folder")
    first = next(iter(scanned.values()))
    for pages in scanned.values():
        if (pages.height, pages.width, pages.dtype) != (first.height, first.width, first.dtype):
            raise VarError(f"{pages.path}: its frames differ from those of {first.path}", "save the series again")
    parts, truncated_at = _runs(found, scanned)
    return Series.of(replace(first, path=path), tuple(scanned), parts, layout, assumed, truncated_at)


def _runs(found: Sequence[tuple[Path, int] | None], scanned: dict[Path, TiffPages]) -> tuple[list[Part], int | None]:
    """Parts of frames that follow each other in one file, up to the first that is missing, and which that is."""
    place_of = {file: {int(at): place for place, at in enumerate(pages.directory)} for file, pages in scanned.items()}
    parts: list[Part] = []
    run: list[int] = []
    for number, place in enumerate([*found, None]):
        file = place[0] if place else None
        page = place_of[place[0]].get(place[1]) if place else None
        whole = page is not None and file is not None and page < scanned[file].whole
        last = found[number - 1] if number else None
        if run and last and (not whole or file != last[0]):
            pages = scanned[last[0]]
            parts.append(Part(pages.path, pages.dtype, pages.data[run], pages.directory[run]))
            run = []
        if not whole:
            return parts, number if number < len(found) else None
        assert page is not None
        run.append(page)
    return parts, None
