"""`var gif` through its runner: every flag, every mistake, and what is left on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from animation_support import ar_events, mar_events, record, tune
from PIL import Image, ImageSequence
from typer.testing import CliRunner, Result

from varcli.animation.frames import save_frames
from varcli.cli.app import app

QUICK = ("--pixel-scale", "2")


def gif(*args: object) -> Result:
    return CliRunner().invoke(app, ["gif", *map(str, args)], prog_name="var")


def gif_json(*args: object) -> dict:
    result = gif(*args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def colours_of(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        pixels = [np.asarray(frame.convert("RGB")).reshape(-1, 3) for frame in ImageSequence.Iterator(image)]
    return set(map(tuple, np.unique(np.concatenate(pixels), axis=0).tolist()))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Short recordings as files: "ar" of levels 0 and 1, and "mar"."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("recordings")
    ar = record(ar_events(tune(16)))
    level = np.where(np.arange(len(ar)) % 2 == 1, 1, ar.level).astype(np.int32)
    save_frames(folder / "ar.npz", replace(ar, level=level))
    save_frames(folder / "mar.npz", record(mar_events(tune(16), batch_size=1)))
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def ar(recordings: dict[str, Path], tmp_path: Path) -> Path:
    """A recording alone in a folder."""
    path = tmp_path / "process_frames.npz"
    path.write_bytes(recordings["ar"].read_bytes())
    return path


def test_gif_appears_beside_its_recording(ar: Path) -> None:
    result = gif(ar, *QUICK)
    output = ar.with_name("process_frames.gif")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{output}  (9 frames, 1.8 s)\n"
    assert sorted(path.name for path in ar.parent.iterdir()) == ["process_frames.gif", "process_frames.npz"]
    with Image.open(output) as image:
        assert image.format == "GIF" and image.info["loop"] == 0
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(image)) == 1800


def test_json_is_one_document_about_all_that_was_written(ar: Path, recordings: dict[str, Path]) -> None:
    output, folder = ar.parent / "deep" / "both.webp", ar.parent / "png"
    document = gif_json(ar, recordings["mar"], *QUICK, "--fps", 4, "--output", output, "--png-dir", folder)
    width, height = size_of(output)
    assert document == {
        "output": str(output),
        "fps": 4.0,
        "frames": 9,
        "pictures": 9,
        "seconds": 2.25,
        "width": width,
        "height": height,
        "png": [str(folder / f"frame_{i:04d}.png") for i in range(9)],
        "inputs": [
            {"path": str(ar), "frames": 9, "shown": 9},
            {"path": str(recordings["mar"]), "frames": 9, "shown": 9},
        ],
    }
    assert all(size_of(Path(path)) == (width, height) for path in document["png"])


def test_every_and_levels_choose_frames(ar: Path) -> None:
    for flags, shown in (
        ((), 9),
        (("--every", 4), 3),
        (("--every", 100), 2),
        (("--levels", "0"), 5),
        (("--levels", "1"), 6),
        (("--levels", "0,1", "--every", 2), 5),
    ):
        document = gif_json(ar, *QUICK, "--overwrite", *flags)
        assert (document["frames"], document["inputs"][0]["shown"]) == (shown, shown), flags


def test_looks_change_with_their_flags(ar: Path, tmp_path: Path) -> None:
    seen = {}
    flags = (
        (),
        ("--no-bar",),
        ("--no-stats",),
        ("--font-size", 24),
        ("--background", "white"),
        ("--colormap", "magma"),
        ("--colors", 8),
        ("--pixel-scale", 5),
    )
    for number, flag in enumerate(flags):
        output = tmp_path / f"{number}.gif"
        gif_json(ar, *QUICK, "--every", 8, "--output", output, *flag)
        seen[flag] = output.read_bytes()
    assert len(set(seen.values())) == len(flags)
    assert size_of(tmp_path / "7.gif")[0] >= size_of(tmp_path / "0.gif")[0]
    assert len(colours_of(tmp_path / "6.gif")) <= 8
    assert (255, 255, 255) in colours_of(tmp_path / "4.gif")


def test_font_is_taken_from_its_path(ar: Path, tmp_path: Path) -> None:
    result = gif(ar, "--font", tmp_path / "none.ttf")
    assert result.exit_code == 2
    assert "none.ttf does not exist" in result.stderr
    from PIL import ImageFont

    built_in = ImageFont.load_default(12)
    assert isinstance(built_in, ImageFont.FreeTypeFont)
    (tmp_path / "copy.ttf").write_bytes(built_in.font_bytes)
    own = gif_json(ar, *QUICK, "--font", tmp_path / "copy.ttf", "--output", tmp_path / "own.gif")
    default = gif_json(ar, *QUICK, "--output", tmp_path / "default.gif")
    assert (own["width"], own["frames"]) == (default["width"], default["frames"])
    assert (tmp_path / "own.gif").read_bytes() == (tmp_path / "default.gif").read_bytes()


def test_recordings_of_one_title_are_told_apart(ar: Path, tmp_path: Path) -> None:
    document = gif_json(ar, ar, *QUICK, "--output", tmp_path / "two.gif")
    assert document["width"] > 2 * 380


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--colormap", "virids"), "viridis"),
        (("--background", "blurple"), "blurple"),
        (("--fps", "0"), "--fps"),
        (("--fps", "-3"), "--fps"),
        (("--fps", "nan"), "--fps"),
        (("--levels", "0,7"), "level 7"),
        (("--levels", "x"), "--levels"),
        (("--every", "0"), "--every"),
        (("--colors", "1"), "colors"),
        (("--colors", "300"), "colors"),
        (("--pixel-scale", "0"), "pixel scale"),
        (("--font-size", "-1"), "font size"),
        (("--output", "a.mp4"), ".webp"),
    ],
)
def test_wrong_options_are_refused_before_any_work(ar: Path, flags: tuple[str, str], said: str) -> None:
    result = gif(ar, *flags)
    assert result.exit_code == 2
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert said in result.stderr
    if not result.stderr.startswith("Usage"):
        assert len(result.stderr.splitlines()) == 2
    assert list(ar.parent.iterdir()) == [ar]


def test_missing_recording_is_a_usage_error(tmp_path: Path) -> None:
    result = gif(tmp_path / "none.npz")
    assert result.exit_code == 2 and "none.npz does not exist" in result.stderr
    assert gif().exit_code == 2


def test_what_cannot_be_read_exits_1_and_leaves_nothing(tmp_path: Path, ar: Path) -> None:
    np.savez(tmp_path / "objects.npz", frames=np.array([None]))
    np.savez(tmp_path / "other.npz", arrays=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(ar.read_bytes()[:500])
    before = sorted(tmp_path.iterdir())
    for name in ("objects", "other", "cut"):
        result = gif(ar, tmp_path / f"{name}.npz", "--png-dir", tmp_path / "png")
        assert result.exit_code == 1
        assert f"{name}.npz" in result.stderr and len(result.stderr.splitlines()) == 2
        assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_overwritten_unasked(ar: Path) -> None:
    output, folder = ar.with_suffix(".gif"), ar.parent / "png"
    output.write_bytes(b"mine")
    assert gif(ar, *QUICK).exit_code == 2
    assert output.read_bytes() == b"mine"
    assert gif(ar, *QUICK, "--overwrite", "--png-dir", folder).exit_code == 0
    assert output.read_bytes()[:3] == b"GIF"

    output.unlink()
    refused = gif(ar, *QUICK, "--png-dir", folder)
    assert refused.exit_code == 2 and "frame_0000.png exists" in refused.stderr
    assert not output.exists()
    assert gif(ar, *QUICK, "--png-dir", folder, "--overwrite", "--every", 8).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["frame_0000.png", "frame_0001.png"]
    output.unlink()
    assert gif(ar, *QUICK, "--png-dir", ar).exit_code == 2


def test_same_call_gives_the_same_bytes(ar: Path, tmp_path: Path) -> None:
    for name in ("a.webp", "b.webp"):
        gif_json(ar, *QUICK, "--output", tmp_path / name)
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()
