"""Rendered images: light is kept, Gaussians are integrated over pixels, files say how large a pixel is."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.special import ndtr

from varcli.emitters.figures import render
from varcli.emitters.figures.render import Renderer, draw_scale_bar, length_text, scale_bar_nm
from varcli.emitters.table import EmitterTable


def table_of(x: object, y: object, sd_x: object, sd_y: object) -> EmitterTable:
    x, y, sd_x, sd_y = (np.atleast_1d(np.asarray(column, float)) for column in (x, y, sd_x, sd_y))
    return EmitterTable(np.zeros(len(x), np.int64), x, y, sd_x_nm=sd_x, sd_y_nm=sd_y)


@pytest.mark.parametrize(("sd_x", "sd_y"), [(1.0, 5.0), (12.0, 30.0), (25.0, 25.0)])
def test_an_emitter_is_the_integral_of_its_gaussian(sd_x: float, sd_y: float) -> None:
    renderer = Renderer(400, 500, 10)
    renderer.add(table_of(203.0, 187.0, sd_x, sd_y))

    def share(edges_nm: np.ndarray, at: float, sd: float) -> np.ndarray:
        # Drawn to 3.5 standard deviations; what lies beyond is shared out, so that nothing is lost.
        return np.diff(ndtr(np.clip((edges_nm - at) / sd, -3.5, 3.5))) / (1 - 2 * ndtr(-3.5))

    expected = np.outer(share(np.arange(41) * 10, 187.0, sd_y), share(np.arange(51) * 10, 203.0, sd_x))
    assert renderer.image_HW.shape == (40, 50)
    np.testing.assert_allclose(renderer.image_HW, expected, atol=1e-6)
    assert renderer.image_HW.sum() == pytest.approx(1, abs=1e-5)


def test_light_outside_the_image_is_lost_and_nothing_else() -> None:
    renderer = Renderer(100, 100, 10)
    renderer.add(table_of([0, 50, 200, -40, 50], [50, 50, 50, 50, 50], [20, 20, 20, 20, np.nan], 5 * [20]))
    inside = np.array([0.5, ndtr(2.5) - ndtr(-2.5), 0.0, ndtr(-2.0)]) * (ndtr(2.5) - ndtr(-2.5))
    assert renderer.image_HW.sum() == pytest.approx(inside.sum(), abs=2e-3)
    assert renderer.left_out == 1


def test_bytes_do_not_depend_on_how_emitters_are_shared_out() -> None:
    rng = np.random.default_rng(0)
    table = table_of(*rng.uniform(0, 1000, (2, 5000)), *rng.uniform(2, 20, (2, 5000)))
    once, often = Renderer(1000, 1000, 10), Renderer(1000, 1000, 10)
    once.add(table)
    for start in range(0, 5000, 777):
        often.add(table.rows(np.arange(start, min(start + 777, 5000))))
    assert np.array_equal(once.image_HW, often.image_HW)


def test_bands_and_threads_leave_the_bytes_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "_BAND_BYTES", 2**17)  # eleven bands
    rng = np.random.default_rng(0)
    table = table_of(*rng.uniform(-50, 6050, (2, 30_000)), *rng.uniform(2, 60, (2, 30_000)))
    banded, whole = Renderer(6000, 6000, 10), Renderer(6000, 6000, 10)
    assert len(table) >= render._WORTH_THREADS
    banded.add(table)
    assert table.sd_x_nm is not None and table.sd_y_nm is not None
    x, y, sd_x, sd_y = (column / 10 for column in (table.x_nm, table.y_nm, table.sd_x_nm, table.sd_y_nm))
    render._add_gaussians(whole.image_HW, 0, 600, x, y, sd_x, sd_y, whole._normal)
    assert np.array_equal(banded.image_HW, whole.image_HW)


def test_places_that_are_no_numbers_are_counted_as_left_out() -> None:
    drawn, counted = Renderer(100, 100, 10), Renderer(100, 100, 10)
    table = table_of([50, np.nan, 50, np.inf], [50, 50, np.nan, 50], 4 * [10], 4 * [10])
    drawn.add(table)
    counted.count(table)
    assert drawn.left_out == counted.left_out == 3
    assert drawn.image_HW.sum() == pytest.approx(1, abs=1e-5) and counted.image_HW.sum() == 1


def test_memory_does_not_grow_with_the_table() -> None:
    rows = 6 * render._ROWS_AT_ONCE
    place = np.linspace(0, 1000, rows)
    table = EmitterTable(np.zeros(rows, np.int64), place, place, sd_x_nm=place + 1, sd_y_nm=place + 1)
    renderer = Renderer(1000, 1000, 100)
    tracemalloc.start()
    renderer.count(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 8 * render._ROWS_AT_ONCE  # two columns of two parts, of twelve that the whole table has


def test_a_large_tiff_is_written_a_few_tiles_at_a_time(tmp_path: Path) -> None:
    renderer = Renderer(30_010, 41_020, 10)
    rng = np.random.default_rng(0)
    renderer.count(table_of(*rng.uniform(0, 41_020, (2, 1000)), *np.ones((2, 1000))))
    renderer.save_tiff(tmp_path / "first.tif", sixteen_bit=True)  # what is imported stays in memory
    tracemalloc.start()
    renderer.save_tiff(tmp_path / "a.tif", sixteen_bit=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < renderer.image_HW.nbytes / 2
    expected = np.round(renderer.image_HW * (65535 / renderer.image_HW.max())).astype(np.uint16)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), expected)


def test_a_histogram_counts() -> None:
    renderer = Renderer(95, 105, 10)
    assert renderer.image_HW.shape == (10, 11)
    renderer.count(table_of([5, 5, 104.9, 200, -1], [5, 6, 94.9, 5, 5], 5 * [1], 5 * [1]))
    assert renderer.image_HW[0, 0] == 2 and renderer.image_HW[9, 10] == 1 and renderer.image_HW.sum() == 3


@pytest.mark.parametrize("side_nm", [400, 22_000])
def test_files_say_how_large_a_pixel_is(tmp_path: Path, side_nm: int) -> None:
    renderer = Renderer(side_nm, side_nm, 10)
    renderer.add(table_of(side_nm / 2, side_nm / 2, 10, 10))
    renderer.save_tiff(tmp_path / "a.tif")
    renderer.save_tiff(tmp_path / "b.tif", sixteen_bit=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages.first
        above, below = page.tags["XResolution"].value
        assert 1e7 * below / above == pytest.approx(10)
        assert page.tags["ResolutionUnit"].value == 3
        assert page.is_tiled == (side_nm > 20_480)
        assert np.array_equal(page.asarray(), renderer.image_HW)
    sixteen = tifffile.imread(tmp_path / "b.tif")
    assert sixteen.dtype == np.uint16 and sixteen.max() == 65535
    renderer.save_png(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "RGB" and picture.width >= 240
        pixels = np.asarray(picture)
    assert (pixels == 255).all(axis=2).any()  # the bar


def test_an_empty_image_is_a_picture_too(tmp_path: Path) -> None:
    Renderer(1000, 500, 10).save_png(tmp_path / "a.png", "viridis")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (150, 300)


def test_micro_has_a_stem_below_the_line() -> None:
    bars = [Image.new("RGB", (400, 120)) for _ in range(2)]
    draw_scale_bar(bars[0], 20)  # 2 µm
    draw_scale_bar(bars[1], 2)  # 200 nm
    lowest = []
    for bar in bars:
        text = np.asarray(bar)[: 120 - 10 - 3 - 3].max(axis=(1, 2))  # above the bar
        lowest.append(np.flatnonzero(text == 255).max())
    assert lowest[0] > lowest[1] + 1


def test_scale_bars_are_round() -> None:
    assert [scale_bar_nm(width) for width in (4000, 7999, 8000, 51_200)] == [1000, 1000, 2000, 10_000]
    assert (length_text(200.0), length_text(5000.0)) == ("200 nm", "5 µm")
