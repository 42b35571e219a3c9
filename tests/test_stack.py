"""Camera stacks: every kind of TIFF gives its frames back, and what is none is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varcli.emitters.stack.stack import Stack, StackHealth, TruncatedStack
from varcli.errors import UsageError, VarError

GREY = {"photometric": "minisblack"}
KINDS = {
    "plain": {},
    "no description": {"metadata": None},
    "BigTIFF, big endian": {"bigtiff": True, "byteorder": ">"},
    "ImageJ": {"imagej": True, "metadata": {"axes": "TYX"}},
    "OME-TIFF": {"ome": True, "metadata": {"axes": "TYX"}},
    "deflated": {"compression": "zlib", "predictor": True},
    "in strips": {"rowsperstrip": 2},
    "in tiles": {"tile": (16, 16)},
}


def frames_of(shape: tuple[int, ...] = (7, 6, 9), dtype: str = "u2") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


def write(path: Path, frames: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, frames, **{**GREY, **options})
    return path


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    dtype=st.sampled_from(["u1", "u2", "i4", "f4"]),
    shape=st.tuples(st.integers(1, 9), st.integers(2, 20), st.integers(2, 20)),
    cut=st.integers(0, 9),
)
def test_every_kind_gives_its_frames(
    tmp_path: Path, kind: str, dtype: str, shape: tuple[int, int, int], cut: int
) -> None:
    if kind == "ImageJ" and dtype == "i4":
        return  # ImageJ has no such pixels
    frames = frames_of(shape, dtype)
    options = {key: value for key, value in KINDS[kind].items() if key != "predictor" or dtype[0] != "f"}
    stack = Stack.open([write(tmp_path / "a.tif", frames, **options)])
    cut = min(cut, len(frames))
    assert (stack.frames, stack.height, stack.width, stack.dtype) == (*shape, np.dtype(dtype))
    read = np.concatenate([stack.read(0, cut), stack.read(cut, len(frames))])
    assert read.dtype.isnative and np.array_equal(read, frames)
    assert stack.truncated is None and not stack.assumed


def test_files_are_put_one_behind_the_other(tmp_path: Path) -> None:
    frames = frames_of()
    paths = [write(tmp_path / "a.tif", frames[:3]), write(tmp_path / "b.tif", frames[3:], byteorder=">")]
    stack = Stack.open(paths)
    assert stack.frames == 7
    assert np.array_equal(stack.read(1, 6), frames[1:6])
    write(tmp_path / "c.tif", frames_of((2, 6, 8)))
    with pytest.raises(VarError, match="9x6 uint16 and 8x6"):
        Stack.open([*paths, tmp_path / "c.tif"])


def test_frames_written_one_by_one(tmp_path: Path) -> None:
    frames = frames_of()
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for frame in frames:
            writer.write(frame, **GREY)  # type: ignore[arg-type]
    assert np.array_equal(Stack.open([tmp_path / "a.tif"]).read(0, 7), frames)


def test_a_series_of_several_files_is_one_stack(tmp_path: Path) -> None:
    """An OME-TIFF whose description names each plane's file, as microscopes split long films."""
    frames = frames_of()
    names = ["a.ome.tif", "a_1.ome.tif"]
    planes = "".join(
        f'<TiffData FirstT="{t}" FirstC="0" FirstZ="0" IFD="{t % 4}" PlaneCount="1">'
        f'<UUID FileName="{names[t // 4]}">urn:uuid:{t // 4}</UUID></TiffData>'
        for t in range(7)
    )
    for number, part in enumerate((frames[:4], frames[4:])):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{number}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
            'SizeX="9" SizeY="6" SizeC="1" SizeZ="1" SizeT="7" '
            f'PhysicalSizeX="0.11">{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / names[number], part, description=xml, metadata=None, **GREY)  # type: ignore[arg-type]
    first, second = (tmp_path / name for name in names)
    for paths in ([first], [second], [first, second], [second, first]):
        stack = Stack.open(paths)
        assert stack.frames == 7
        assert np.array_equal(stack.read(2, 7), frames[2:])
    assert stack.metadata["pixel_size_nm"] == pytest.approx(110)
    second.unlink()
    stack = Stack.open([first])
    assert stack.truncated is not None and (stack.frames, stack.truncated.frames) == (4, 4)


def test_imagej_beyond_its_directories(tmp_path: Path) -> None:
    """Beyond 4 GB ImageJ describes the first frame alone; the others follow it."""
    frames = frames_of()
    text = "ImageJ=1.53t\nimages=7\nslices=7\nunit=micron\n"
    tifffile.imwrite(tmp_path / "a.tif", frames[0], description=text, metadata=None, byteorder=">", **GREY)  # type: ignore[arg-type]
    with (tmp_path / "a.tif").open("ab") as file:
        offset = tifffile.TiffFile(tmp_path / "a.tif").pages.first.dataoffsets[0]
        assert offset + frames[0].nbytes == (tmp_path / "a.tif").stat().st_size
        file.write(frames[1:].astype(">u2").tobytes())
    stack = Stack.open([tmp_path / "a.tif"])
    assert np.array_equal(stack.read(0, 7), frames)
    assert "taken as frames" in stack.assumed[0]


@pytest.mark.parametrize("kind", ["plain", "no description", "ImageJ", "OME-TIFF", "deflated", "in strips"])
def test_a_truncated_file_gives_the_frames_before_its_end(tmp_path: Path, kind: str) -> None:
    frames = frames_of((40, 30, 30))
    whole = write(tmp_path / "a.tif", frames, **KINDS[kind])
    with pytest.raises(VarError, match="truncated"):
        (tmp_path / "b.tif").write_bytes(whole.read_bytes()[:100])
        Stack.open([tmp_path / "b.tif"])
    (tmp_path / "b.tif").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    stack = Stack.open([tmp_path / "b.tif"])
    assert isinstance(stack.truncated, TruncatedStack)
    # The descriptions of all pages but the first stand at the end and are lost; frames in strips cannot be found then.
    assert stack.frames == 1 if kind == "in strips" else 20 < stack.frames < 28
    assert stack.truncated.frames == stack.frames
    assert f"page {stack.frames + 1} is not whole" in stack.truncated.message
    assert np.array_equal(stack.read(0, stack.frames), frames[: stack.frames])
    with pytest.raises(TruncatedStack):
        stack.read(stack.frames - 1, stack.frames + 1)


def test_channels_and_planes_have_to_be_chosen(tmp_path: Path) -> None:
    frames = frames_of((5, 2, 6, 9))
    for kind in ({"imagej": True}, {"ome": True}, {}):
        path = write(tmp_path / "a.tif", frames, metadata={"axes": "TCYX"}, **kind)
        with pytest.raises(VarError, match="2 channels") as caught:
            Stack.open([path])
        assert caught.value.hint and "--channel 0 to --channel 1" in caught.value.hint
        assert np.array_equal(Stack.open([path], channel=1).read(0, 5), frames[:, 1])
        with pytest.raises(UsageError, match="no channel 2"):
            Stack.open([path], channel=2)
        path = write(tmp_path / "a.tif", frames[:, 0], metadata={"axes": "ZYX"}, **kind)
        with pytest.raises(VarError, match="5 planes of a z-stack"):
            Stack.open([path])
    path = write(tmp_path / "a.tif", frames_of((3, 2, 4, 6, 9)), imagej=True, metadata={"axes": "TZCYX"})
    with pytest.raises(VarError, match="4 channels of 2 planes"):
        Stack.open([path], channel=0)
    with pytest.raises(UsageError, match="no channel 1"):
        Stack.open([write(tmp_path / "a.tif", frames[:, 0])], channel=1)
    with pytest.raises(VarError, match="more than one axis"):
        Stack.open([write(tmp_path / "a.tif", frames)])


def test_a_stack_whose_axis_was_not_named_is_taken_as_frames_and_says_so(tmp_path: Path) -> None:
    stack = Stack.open([write(tmp_path / "a.tif", frames_of((12, 6, 9)), imagej=True)])
    assert stack.frames == 12
    assert "12 channels were taken as frames" in stack.assumed[0]


def test_what_is_no_stack_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    cases = [
        (lambda: path.write_bytes(b"GIF89a" + bytes(100)), "not a TIFF"),
        (lambda: path.write_bytes(b""), "not a TIFF"),
        (lambda: path.write_bytes(b"II*\0" + bytes(4)), "without pages"),
        (lambda: tifffile.imwrite(path, frames_of((4, 6, 9, 3), "u1"), photometric="rgb"), "RGB"),
        (lambda: write(path, frames_of((4, 6, 9)).astype("c8")), "complex"),
        (lambda: write(path, frames_of((4, 6, 9)).astype("u8")), "64-bit"),
    ]
    for make, said in cases:
        make()
        with pytest.raises(VarError, match=said) as caught:
            Stack.open([path])
        assert "\n" not in caught.value.message
    with pytest.raises(UsageError, match="no such file"):
        Stack.open([tmp_path / "none.tif"])
    with tifffile.TiffWriter(path) as writer:
        for size in (9, 9, 8):
            writer.write(frames_of((6, size)), **GREY)  # type: ignore[arg-type]
    with pytest.raises(VarError, match="page 3 differs from the first: 9x6, 16 bit and 8x6"):
        Stack.open([path])


@pytest.mark.parametrize(("value", "said"), [(-1, "negative"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_what_no_camera_counts_is_refused_by_frame(tmp_path: Path, value: float, said: str) -> None:
    frames = frames_of(dtype="f4")
    frames[5, 2, 3] = value
    stack = Stack.open([write(tmp_path / "a.tif", frames)])
    stack.read(0, 5)
    with pytest.raises(VarError, match=f"frame 5 holds a.* number .*{said}|frame 5 holds a {said}"):
        stack.read(2, 7)


def test_pixel_sizes_and_hints(tmp_path: Path) -> None:
    options = [
        ({"resolution": (1e7 / 108, 1e7 / 108), "resolutionunit": "CENTIMETER"}, 108),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"imagej": True, "resolution": (10, 10), "metadata": {"axes": "TYX", "unit": "um"}}, 100),
        ({"ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 65.0, "PhysicalSizeXUnit": "nm"}}, 65),
        ({}, None),
    ]
    for kind, expected in options:
        found = Stack.open([write(tmp_path / "a.tif", frames_of(), **kind)]).metadata.get("pixel_size_nm")
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-3))


def test_health_and_fingerprint(tmp_path: Path) -> None:
    frames = frames_of()
    frames[2] = 5
    frames[4, 0, 0] = 65535
    stack = Stack.open([write(tmp_path / "a.tif", frames)])
    health = StackHealth.of(stack)
    for start in range(0, 7, 3):
        health.add(start, stack.read(start, min(start + 3, 7)))
    assert (health.saturated, health.first_saturated, health.constant, health.first_constant) == (1, 4, 1, 2)
    assert [sentence.split(" frames")[0] for sentence in health.warnings()] == ["1 of 7", "1 of 7"]
    before = stack.fingerprint()
    assert Stack.open([tmp_path / "a.tif"]).fingerprint() == before
    write(tmp_path / "a.tif", frames[:6])
    assert Stack.open([tmp_path / "a.tif"]).fingerprint() != before
