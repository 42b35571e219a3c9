"""The page of a table: ticks are round and fit, what is there is drawn, and what is missing is said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from post_support import drifting, estimate_drift, filaments

from varcli import charts
from varcli.charts import Canvas, tick_text, ticks, wrapped
from varcli.colours import load_font
from varcli.emitters.figures.page import BLUE, ORANGE, TableSummary, draw_page, page_image
from varcli.emitters.figures.render import Renderer
from varcli.emitters.figures.views import draw_views
from varcli.emitters.post.quality import Quality, measure
from varcli.emitters.table import EmitterTable
from varcli.errors import VarError


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that canvases write from now on."""
    texts: list[str] = []
    write = Canvas.write

    def kept(self: Canvas, at: tuple[float, float], text: str, *rest: object) -> None:
        texts.append(text)
        write(self, at, text, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(charts.Canvas, "write", kept)
    return texts


def bare() -> tuple[Quality, Renderer]:
    """Thirty localisations that have positions alone."""
    rng = np.random.default_rng(0)
    table = EmitterTable(np.arange(30), *rng.uniform(0, 2000, (2, 30)))
    renderer = Renderer(2000, 2000, 50)
    renderer.count(table)
    return measure(table), renderer


def has(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(axis=2).any())


@pytest.mark.parametrize(
    ("shown", "most", "expected"),
    [
        ((0, 10), 5, [0, 2, 4, 6, 8, 10]),
        ((-93, 78), 4, [-50, 0, 50]),
        ((0, 0.07), 8, [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]),
        ((12, 13), 3, [12, 12.5, 13]),
    ],
)
def test_ticks_are_round_numbers_within_the_axis(shown: tuple[float, float], most: int, expected: list[float]) -> None:
    assert ticks(shown, most) == pytest.approx(expected)


def test_tick_texts_are_short() -> None:
    values = (0.0, 0.1 * 3, 9000, 10_000, 250_000, 1_500_000, -20_000)
    assert [tick_text(value) for value in values] == ["0", "0.3", "9000", "10k", "250k", "1.5M", "-20k"]


def test_words_are_wrapped_within_their_room() -> None:
    font = load_font(17)
    lines = wrapped("NeNA: 484 neighbours in consecutive frames, fewer than 500", font, 200)
    assert len(lines) > 1 and all(font.width(line) <= 200 for line in lines)
    assert " ".join(lines) == "NeNA: 484 neighbours in consecutive frames, fewer than 500"


def test_what_is_missing_is_said(written: list[str]) -> None:
    quality, renderer = bare()
    image = page_image(quality, TableSummary("bare.csv"), renderer, None)
    assert image.size == (1600, 1100)
    assert written.count("the table has no such column") == 2
    assert "no drift correction" in written and "FRC: 30 localisations, fewer than 1000" in written
    assert not has(image, ORANGE)


def test_a_whole_page_is_written(tmp_path: Path, written: list[str]) -> None:
    moved = drifting(filaments(12_000, 1000, size_nm=4000), 1000)
    drift = estimate_drift(moved, 4)
    table = drift.apply(moved)
    quality = measure(table)
    renderer = Renderer(4000, 4000, 10)
    renderer.add(table)
    draw_page(quality, TableSummary("cell.csv", 100.0, ("drift corrected",)), renderer, drift, tmp_path / "page.png")
    heading = (
        "12,000 localisations  ·  frames 0 to 999  ·  camera pixel 100 nm  ·  image pixel 10 nm  ·  drift corrected"
    )
    assert written[0] == "cell.csv" and written[1] == heading
    assert quality.frc and f"{quality.frc.resolution_nm:.1f} nm" in written
    assert quality.photons and f"median {quality.photons.median:.0f}" in written
    with Image.open(tmp_path / "page.png") as image:
        assert image.mode == "RGB" and has(image, BLUE) and has(image, ORANGE)
    assert list(tmp_path.iterdir()) == [tmp_path / "page.png"]


def test_the_detail_is_the_fullest_part() -> None:
    renderer = Renderer(8000, 8000, 10)
    rng = np.random.default_rng(0)
    renderer.count(EmitterTable(np.zeros(500, int), rng.uniform(5900, 6100, 500), rng.uniform(1900, 2100, 500)))
    whole, detail = draw_views(renderer, 600, 600, 350)
    assert whole.size == (600, 600) and detail.size == (350, 350)
    frame_rows, frame_columns = np.nonzero((np.asarray(whole)[:500] == 255).all(axis=2))
    assert frame_rows.min() < 2000 * 600 / 8000 < frame_rows.max()
    assert frame_columns.min() < 6000 * 600 / 8000 < frame_columns.max()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    quality, renderer = bare()
    with pytest.raises(VarError, match="page"):
        draw_page(quality, TableSummary("bare.csv"), renderer, None, tmp_path / "no" / "page.png")
