"""Animations: right length, one palette, the same bytes, nothing half-written, and what a frame shows."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from animation_support import ar_events, mar_events, record, tune
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from varcli.animation.draw import AnimationOptions, Film, in_step, statistics
from varcli.animation.encode import SHORTEST_MS, TICK_MS, Animation, animate, draw_png_frames, durations_of
from varcli.animation.frames import FramesMeta, Recording
from varcli.colours import make_theme
from varcli.errors import UsageError, VarError
from varcli.events import FrameDrawn, result_of

write_animation = result_of(animate)
CELLS = tune(32)
SMALL = AnimationOptions(pixel_scale=2, stats=False)


def bare(frames: np.ndarray, **meta) -> Recording:
    """A recording from elsewhere: frames and nothing else."""
    count = len(frames)
    zeros = np.zeros(count, np.int32)
    return Recording(frames, ("",) * count, zeros, zeros, zeros, np.zeros(count), FramesMeta(**meta))


def pulses(*values: int) -> Recording:
    """Plain images of one value each, drawn without bar and label, so that equal values are equal pictures."""
    frames = np.array(values, np.uint8)[:, None, None] * np.ones((1, 6, 6), np.uint8)
    return bare(frames, kind="image")


PLAIN = AnimationOptions(bar=False, stats=False, pixel_scale=1)


def durations_in(path: Path) -> list[float]:
    with Image.open(path) as image:
        found = []
        for frame in ImageSequence.Iterator(image):
            frame.load()
            found.append(frame.info["duration"])
        return found


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("fps", [0.5, 2, 3, 5, 7, 30, 60, 100, 240])
def test_file_lasts_as_long_as_its_frames(tmp_path: Path, suffix: str, fps: float) -> None:
    values = [1, 1, 1, 9, 9, 200, 30, 30, 30, 30, 7, 1, 1]
    path = tmp_path / f"a{suffix}"
    said = write_animation([pulses(*values)], path, fps, PLAIN)
    assert sum(durations_in(path)) / 1000 == pytest.approx(len(values) / fps, abs=0.011)
    assert said.seconds == pytest.approx(len(values) / fps, abs=0.011)
    assert said.frames == 13
    if fps <= 30:
        assert len(durations_in(path)) == said.pictures == 6
        assert durations_in(path)[0] == pytest.approx(3000 / fps, abs=10)


def test_a_gif_of_equal_frames_keeps_its_length(tmp_path: Path) -> None:
    write_animation([pulses(5, 5, 5)], tmp_path / "a.gif", 2, PLAIN)
    assert durations_in(tmp_path / "a.gif") == [1500]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.floats(0.5, 1000), st.sampled_from([".gif", ".webp"]))
def test_rounding_never_adds_up(spans: list[int], fps: float, suffix: str) -> None:
    shown = durations_of(spans, fps, suffix)
    tick = TICK_MS[suffix]
    assert abs(sum(shown) - sum(spans) * 1000 / fps) <= tick / 2 + 1e-6 or sum(shown) == tick
    assert all(length % tick == 0 for length in shown)
    assert all(length == 0 or length >= SHORTEST_MS[suffix] for length in shown[:-1])
    assert shown[-1] > 0


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_pictures_in_the_file_are_the_drawn_ones(tmp_path: Path, suffix: str) -> None:
    recording, path = record(mar_events(CELLS)), tmp_path / f"a{suffix}"
    write_animation([recording], path, 5, AnimationOptions())
    with Image.open(path) as image:
        found = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(image)]
    drawn = [np.asarray(picture).astype(int) for picture in Film([recording], AnimationOptions())]
    assert len(found) == len(drawn) == len(recording)
    assert max(np.abs(a - b).max() for a, b in zip(found, drawn, strict=True)) <= 12


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_same_input_gives_the_same_bytes_whatever_the_clock_said(tmp_path: Path, suffix: str) -> None:
    recording = record(ar_events(CELLS))
    later = replace(recording, seconds=recording.seconds + 5)
    for name, one in (("a", recording), ("b", later)):
        write_animation([one], tmp_path / f"{name}{suffix}", 5, SMALL)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("colors", [2, 8, 64, 256])
def test_all_frames_share_so_many_colours(tmp_path: Path, colors: int) -> None:
    options = replace(SMALL, colors=colors)
    write_animation([record(ar_events(CELLS), max_frames=9)], tmp_path / "a.gif", 5, options)
    with Image.open(tmp_path / "a.gif") as image:
        pictures = [np.asarray(frame.convert("RGB")).reshape(-1, 3) for frame in ImageSequence.Iterator(image)]
    assert len(np.unique(np.concatenate(pictures), axis=0)) <= colors
    assert (pictures[0][0] == make_theme().background).all()  # the background is exactly what was asked for


def test_a_whole_process_is_small(tmp_path: Path) -> None:
    said = write_animation([record(ar_events(tune(256), size=8))], tmp_path / "a.gif", 5)
    assert 30 < said.frames <= 48 and said.width >= 1000
    assert (tmp_path / "a.gif").stat().st_size < 1_000_000


def test_drawing_says_how_far_it_is(tmp_path: Path) -> None:
    drawn = [FrameDrawn(1, 3), FrameDrawn(2, 3), FrameDrawn(3, 3)]
    *steps, said = animate([pulses(1, 2, 3)], tmp_path / "a.gif", 5, PLAIN)
    assert steps == drawn and isinstance(said, Animation)
    assert said.path.exists() and said.frames == 3
    *steps, files = draw_png_frames([pulses(1, 2, 3)], tmp_path / "frames", PLAIN)
    assert steps == drawn
    assert files == [tmp_path / "frames" / name for name in ("frame_0000.png", "frame_0001.png", "frame_0002.png")]


def test_png_frames_are_one_per_frame_and_replace_earlier_ones(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    list(draw_png_frames([pulses(1, 1, 1, 2)], folder, PLAIN))
    (folder / "mine.png").write_bytes(b"")
    list(draw_png_frames([pulses(1, 2)], folder, PLAIN))
    assert sorted(path.name for path in folder.iterdir()) == ["frame_0000.png", "frame_0001.png", "mine.png"]


def test_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> None:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(VarError, match="disk is full"):
        write_animation([pulses(1, 2)], tmp_path / "a.gif", 5, PLAIN)
    with pytest.raises(VarError, match="disk is full"):
        list(draw_png_frames([pulses(1, 2)], tmp_path / "frames", PLAIN))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fps", "said"),
    [
        ("a.png", 5, ".gif"),
        ("a", 5, ".webp"),
        ("a.gif", 0, "--fps"),
        ("a.gif", -1, "--fps"),
        ("a.gif", float("nan"), "--fps"),
    ],
)
def test_impossible_outputs_are_usage_errors(tmp_path: Path, name: str, fps: float, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        write_animation([pulses(1)], tmp_path / name, fps, PLAIN)
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixel_scale": 0},
        {"font_size": 1000},
        {"font_size": float("nan")},
        {"colors": 1},
        {"colors": 257},
        {"background": "blurple"},
        {"colormap": "rainbow"},
        {"font": Path("none.ttf")},
    ],
)
def test_impossible_options_are_usage_errors(wrong: dict) -> None:
    with pytest.raises(UsageError):
        AnimationOptions(**wrong)


def test_what_no_file_can_hold_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VarError, match="pixels"):
        write_animation([bare(np.zeros((1, 1, 20_000), np.uint8), kind="image")], tmp_path / "a.webp", 5, PLAIN)
    with pytest.raises(VarError, match="stand for"):
        write_animation([pulses(*[1] * 8, 2)], tmp_path / "a.gif", 0.01, PLAIN)
    monkeypatch.setattr("varcli.animation.encode.MOST_PIXELS", {".gif": 100_000})
    with pytest.raises(VarError, match="memory"):
        write_animation([record(ar_events(CELLS))], tmp_path / "a.gif", 5)
    assert not list(tmp_path.iterdir())


def test_recordings_side_by_side_go_in_step() -> None:
    short, long = pulses(*range(3)), pulses(*range(9))
    assert in_step([short, long]) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6), (1, 7), (2, 8)]
    assert in_step([pulses(1), pulses(1, 2)]) == [(0, 0), (0, 1)]
    late = replace(short, meta=FramesMeta(kind="image", progress=(0, 0.9, 1)))
    assert [frame for frame, _ in in_step([late, long])] == [0] * 8 + [2]


def test_side_by_side_is_as_wide_as_both() -> None:
    first, second = record(ar_events(CELLS)), record(mar_events(CELLS))
    films = [Film([first], SMALL), Film([second], SMALL), Film([first, second], SMALL)]
    assert films[2].size[0] == films[0].size[0] + films[1].size[0]
    assert len(films[2]) == max(len(first), len(second))
    assert next(iter(films[2])).size == films[2].size


def test_bar_statistics_and_outline_are_drawn_when_asked() -> None:
    recording = record(mar_events(CELLS))
    pictures = {
        name: np.asarray(list(Film([one], options))[5])
        for name, one, options in (
            ("all", recording, AnimationOptions()),
            ("no bar", recording, AnimationOptions(bar=False)),
            ("no stats", recording, AnimationOptions(stats=False)),
            (
                "no outline",
                replace(recording, meta=recording.meta.model_copy(update={"bounds": ()})),
                AnimationOptions(),
            ),
        )
    }
    assert pictures["no bar"].shape[0] < pictures["all"].shape[0]
    assert not np.array_equal(pictures["no stats"], pictures["all"])
    ink = make_theme().mix(0.95)
    framed = [np.count_nonzero((pictures[name][60:] == ink).all(axis=2)) for name in ("all", "no outline")]
    assert framed[0] > framed[1] + 100


def test_statistics_count_notes_cells_and_voices() -> None:
    values = np.array([[5, 4, 0, 5], [5, 4, 4, 0]], np.uint8)
    counts = statistics(values, (values & 1).astype(bool))
    assert (counts.notes, counts.cells, counts.most) == (3, 6, 2)
    assert counts.polyphony == pytest.approx(6 / 4)
    assert statistics(np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)).polyphony == 0


def test_row_0_is_the_lowest_pitch_and_the_top_of_an_image() -> None:
    theme = make_theme(colormap="gray")
    frames = np.zeros((1, 36, 40), np.uint8)
    frames[0, 2] = 250
    rows = {}
    for kind, table in (("roll", theme.notes), ("image", theme.image)):
        options = AnimationOptions(bar=False, stats=False, colormap="gray", pixel_scale=8)
        picture = np.asarray(next(iter(Film([bare(frames, kind=kind)], options))))
        rows[kind] = np.argwhere((picture == table[250]).all(axis=2))[:, 0].mean() / picture.shape[0]
    assert rows["image"] < 0.3 and rows["roll"] > 0.7


@pytest.mark.parametrize("shape", [(1, 128, 1), (2, 128, 3), (2, 1, 1), (3, 7, 300), (1, 60, 700)])
@pytest.mark.parametrize("kind", ["roll", "image"])
def test_any_shape_can_be_drawn(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    said = write_animation([bare(frames, kind=kind)], tmp_path / "a.gif", 5)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.size == (said.width, said.height)
