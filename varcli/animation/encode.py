"""Animations as files: GIF and WebP of the right length, PNG frames, and one palette for all frames."""

import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

from varcli.animation.draw import AnimationOptions, Film
from varcli.animation.frames import Recording
from varcli.errors import UsageError, VarError
from varcli.events import FrameDrawn
from varcli.files import explain_os_error, write_bytes

LONGEST_MS = {".gif": 655_350, ".webp": 16_777_215}
LARGEST_PX = {".gif": 65_535, ".webp": 16_383}
TICK_MS = {".gif": 10, ".webp": 1}
SHORTEST_MS = {".gif": 20, ".webp": 1}  # players slow a GIF frame of less than two hundredths to a tenth of a second
MOST_PIXELS = {".gif": 1_500_000_000, ".webp": 400_000_000}  # held until all are drawn; WebP takes three bytes each
PALETTE_FRAMES = 12


@dataclass(frozen=True)
class Animation:
    """A written animation: frames shown, distinct pictures stored, duration in seconds, size in pixels."""

    path: Path
    frames: int
    pictures: int
    seconds: float
    width: int
    height: int


def animate(
    recordings: Sequence[Recording], path: Path | str, fps: float, options: AnimationOptions | None = None
) -> Iterator[FrameDrawn | Animation]:
    """Draw recordings side by side and write them as .gif or .webp, `fps` frames a second; the last item is the file.

    Neighbouring equal frames are stored once with their joint duration, so that the whole lasts frames / fps seconds
    within the format's rounding (GIF 1/100 s, WebP 1/1000 s; a WebP of one picture is a still). It loops for ever.
    The file appears whole or not at all. Raises UsageError for a suffix, speed or option that cannot be, VarError for
    what memory, the format or the disk cannot hold.
    """
    path, options = Path(path), options or AnimationOptions()
    check_output(path, fps)
    suffix, film = path.suffix.lower(), Film(recordings, options)
    reel = _Reel(MOST_PIXELS[suffix])
    if max(film.size) > LARGEST_PX[suffix]:
        size = f"{film.size[0]}x{film.size[1]} pixels"
        raise VarError(
            f"{path}: {size} are more than the {LARGEST_PX[suffix]} that fit", "choose a smaller --pixel-scale"
        )
    palette = shared_palette(film, options.colors)
    for done, picture in enumerate(in_palette(film, palette), 1):
        reel.add(picture)
        yield FrameDrawn(done, len(film))
    durations = durations_of(reel.spans, fps, suffix)
    pictures = [picture for picture, length in zip(reel.pictures, durations, strict=True) if length]
    durations = [length for length in durations if length]
    if max(durations) > LONGEST_MS[suffix]:
        raise VarError(f"{path}: a picture would stand for {max(durations) / 1000:g} s, more than fits", "raise --fps")
    write_bytes(path, _encoded(pictures, palette, durations, suffix))
    yield Animation(path, len(film), len(pictures), sum(durations) / 1000, *film.size)


def check_output(path: Path, fps: float) -> None:
    """Raise UsageError for a file that is neither .gif nor .webp, or an impossible speed."""
    if path.suffix.lower() not in TICK_MS:
        raise UsageError(f"{path} is neither .gif nor .webp", "--output ends with one of them; --png-dir writes PNG")
    if not 0 < fps <= 1000:
        raise UsageError(f"{fps:g} frames a second cannot be shown", "--fps takes a number above 0, up to 1000")


class _Reel:
    """Distinct neighbours among pictures u8 [Y, X], and how many frames each of them stands for."""

    def __init__(self, most_pixels: int) -> None:
        self.pictures: list[np.ndarray] = []
        self.spans: list[int] = []
        self._most_pixels = most_pixels

    def add(self, picture: np.ndarray) -> None:
        if self.pictures and np.array_equal(picture, self.pictures[-1]):
            self.spans[-1] += 1
            return
        if (len(self.pictures) + 1) * picture.size > self._most_pixels:
            size = f"{picture.shape[1]}x{picture.shape[0]}"
            raise VarError(
                f"more than {len(self.pictures)} frames of {size} are too many for memory",
                "choose a larger --every or a smaller --pixel-scale",
            )
        self.pictures.append(picture)
        self.spans.append(1)


def durations_of(spans: Sequence[int], fps: float, suffix: str) -> list[int]:
    """Milliseconds of every picture, in ticks of the format, that add up to the whole length; 0 leaves one out.

    Each picture ends at the tick nearest to its true end, so rounding never adds up. One that would be too short to be
    shown gives its time to the next; the last one always stays.
    """
    tick = TICK_MS[suffix]
    ends = np.rint(np.cumsum(spans) * 1000 / fps / tick).astype(np.int64) * tick
    total, shown, begin = max(int(ends[-1]), tick), [0] * len(spans), 0
    for index, end in enumerate(ends[:-1].tolist()):
        if end - begin >= SHORTEST_MS[suffix] and total - end >= SHORTEST_MS[suffix]:
            shown[index], begin = end - begin, end
    shown[-1] = total - begin
    return shown


def _encoded(pictures: Sequence[np.ndarray], palette: np.ndarray, shown: Sequence[int], suffix: str) -> bytes:
    """Pictures u8 [Y, X] of colours u8 [n, 3] as a file that loops for ever, each shown for so many milliseconds."""
    # One picture has one duration: a list is for animations only.
    duration = list(shown) if len(pictures) > 1 else shown[0]
    # In memory, because imageio tries a write that failed again, loudly, when it is collected.
    buffer = io.BytesIO()
    file = iio.imopen(buffer, "w", plugin="pillow", extension=suffix)
    with file:
        for picture in pictures:
            if suffix == ".webp":
                file.write(palette[picture], is_batch=False, duration=duration, loop=0, lossless=True, method=4)
            else:
                # `optimize` stores only what changes from frame to frame; it needs one free entry in the palette.
                settings = {"palette": palette.tobytes(), "optimize": True}
                file.write(picture, mode="P", is_batch=False, duration=duration, loop=0, **settings)
    return buffer.getvalue()


def in_palette(film: Film, palette: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures of a film as numbers of the nearest colours of a palette u8 [n, 3], u8 [Y, X] each."""
    table = np.full(1 << 24, -1, np.int16)
    for picture in film:
        codes = _codes(picture)
        indices = table[codes]
        if (indices < 0).any():
            new = np.unique(codes[indices < 0])
            table[new] = _nearest(new, palette.astype(np.int32))
            indices = table[codes]
        yield indices.astype(np.uint8)


def _codes(picture: Image.Image) -> np.ndarray:
    """Colours as one number 0xRRGGBB each, i32 [height, width]."""
    channels = np.asarray(picture).astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


def _split(codes: np.ndarray) -> np.ndarray:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)


def _nearest(codes: np.ndarray, palette: np.ndarray) -> np.ndarray:
    chunks = [
        np.square(_split(part)[:, None] - palette[None]).sum(axis=-1).argmin(axis=1)
        for part in np.array_split(codes, len(codes) // 4096 + 1)
    ]
    return np.concatenate(chunks).astype(np.int16)


def shared_palette(film: Film, colors: int) -> np.ndarray:
    """At most `colors` colours u8 [n, 3] for all pictures: theirs if so few, else representatives by median cut."""
    sample = np.unique(np.linspace(0, len(film) - 1, PALETTE_FRAMES).round().astype(int)).tolist()
    counts: dict[int, int] = {}
    for picture in film.draw(sample):
        for code, count in zip(*np.unique(_codes(picture), return_counts=True), strict=True):
            counts[int(code)] = counts.get(int(code), 0) + int(count)
    codes = np.array(sorted(counts), np.int32)
    if len(codes) <= colors:
        return _split(codes).astype(np.uint8)
    # Roots keep large plain areas from taking all the colours; vivid ones, which mean something, count for more.
    vividness = np.ptp(_split(codes), axis=1) / 255
    weights = np.array([counts[int(code)] for code in codes]) ** 0.25 * (1 + 4 * vividness)
    repeats = np.ceil(weights * min(1.0, 200_000 / weights.sum())).astype(int)
    pixels = _split(np.repeat(codes, repeats)).astype(np.uint8)
    reduced = Image.fromarray(pixels[None]).quantize(colors, Image.Quantize.MEDIANCUT, kmeans=2)
    found = np.array(reduced.getpalette(), np.int32).reshape(-1, 3)[: len(reduced.getcolors() or ())]
    ground = _split(
        codes[[np.argmax([counts[int(code)] for code in codes])]]
    )  # the background stays what was asked for
    found[np.square(found - ground).sum(axis=1).argmin()] = ground
    return np.unique(found, axis=0).astype(np.uint8)


def refuse_existing_frames(folder: Path, overwrite: bool) -> None:
    """Raise UsageError where `folder` is a file, or holds PNG frames of an earlier call that may not be replaced."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder for frames", "choose another --png-dir")
    there = _earlier_frames(folder)
    if there and not overwrite:
        raise UsageError(f"{there[0]} exists", "--overwrite replaces all frames there, or choose another --png-dir")


def _earlier_frames(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("frame_*.png") if path.stem.removeprefix("frame_").isdecimal())


def draw_png_frames(
    recordings: Sequence[Recording], folder: Path | str, options: AnimationOptions | None = None
) -> Iterator[FrameDrawn | list[Path]]:
    """Write every frame as frame_0000.png and so on in `folder`, which is made if need be; the last item is the list.

    All frames appear or none, and earlier ones go. Raises VarError where the folder cannot be written.
    """
    options = options or AnimationOptions()
    folder, film, names = Path(folder), Film(recordings, options), []
    with _staging(folder) as stage:
        palette = shared_palette(film, options.colors)
        for number, picture in enumerate(in_palette(film, palette)):
            names.append(f"frame_{number:04d}.png")
            data = iio.imwrite("<bytes>", palette[picture], extension=".png", plugin="pillow")
            (stage / names[-1]).write_bytes(data)
            yield FrameDrawn(number + 1, len(film))
        for path in _earlier_frames(folder):
            path.unlink()
        for name in names:
            (stage / name).replace(folder / name)
    yield [folder / name for name in names]


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` to prepare files in; after a failure nothing of either is left that was not there."""
    made = not folder.exists()
    stage = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".frames-", dir=folder))
        yield stage
    except OSError as error:
        raise explain_os_error(error, folder) from error
    finally:
        if stage:
            shutil.rmtree(stage, ignore_errors=True)
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
