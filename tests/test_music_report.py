"""The page of a comparison: what stands on it follows from the figures."""

from dataclasses import replace

import numpy as np
import pytest
from music_support import WINDOW, binary, compare, melody, piece, pieces
from PIL import Image

from varcli.colours import RGB, make_theme
from varcli.pianoroll.evaluation.comparison import MusicComparison
from varcli.pianoroll.evaluation.features import Feature
from varcli.pianoroll.evaluation.overlap import Interval
from varcli.pianoroll.evaluation.two_sample import FeatureAuc, Sides, TwoSample
from varcli.pianoroll.figures.report import GENERATED, REFERENCE, draw_report
from varcli.pianoroll.roll import Vocabulary

REAL = pieces(8, 100)


@pytest.fixture(scope="module")
def found() -> MusicComparison:
    return compare(pieces(5, 50), REAL, pieces(3, 0, "train"))


def near(image: Image.Image, colour: RGB, tolerance: int = 12) -> np.ndarray:
    """Pixels, bool [height, width], of about this colour."""
    return np.abs(np.asarray(image).astype(int) - np.array(colour)).max(2) <= tolerance


def test_the_page_is_drawn_alike_every_time_and_changes_with_its_figures(found: MusicComparison) -> None:
    page = np.asarray(draw_report(found, title="one"))
    assert np.array_equal(page, np.asarray(draw_report(found, title="one")))
    assert not np.array_equal(page, np.asarray(draw_report(found, title="another")))
    chromatic = compare([piece(melody(seed, scale=tuple(range(12)))) for seed in range(5)], REAL, pieces(3, 0, "train"))
    changed = np.any(page != np.asarray(draw_report(chromatic, title="one")), axis=2)
    assert changed.mean() > 0.01


def test_both_sides_have_their_colour_in_every_panel(found: MusicComparison) -> None:
    page = draw_report(found)
    assert page.width == 1732
    rows = np.array_split(np.arange(92, page.height), 5)
    columns = np.array_split(np.arange(28, page.width - 28), 5)
    curves = [
        near(page, colour)[rows[row]][:, columns[0]].sum() for colour in (GENERATED, REFERENCE) for row in range(4)
    ]
    assert min(curves) > 40


def test_a_curve_lies_where_its_values_lie() -> None:
    high = [piece(np.roll(melody(seed, scale=(0, 12, 24)), 0, axis=0)) for seed in range(6)]
    low = [piece(melody(seed, scale=(0,))) for seed in range(6)]
    page = draw_report(compare(high, low))
    panel = (slice(92 + 62, 92 + 186), slice(28 + 14, 28 + 310))  # the plot of the first panel, pitch range
    ours, theirs = (np.nonzero(near(page, colour)[panel])[1] for colour in (GENERATED, REFERENCE))
    assert np.median(ours) > np.median(theirs) + 60


def test_numbers_stand_along_the_axis(found: MusicComparison) -> None:
    page = np.asarray(draw_report(found)).astype(int)
    below = page[92 + 192 : 92 + 210, 28 : 28 + 324]  # of the first panel
    ink = np.flatnonzero((below > 110).all(axis=2).any(axis=0))
    assert ink.min() < 130 and ink.max() > 200
    assert len(np.flatnonzero(np.diff(ink) > 20)) >= 2  # three numbers at least, apart from each other


@pytest.mark.parametrize("ground", ["#12141c", "white"])
def test_dark_and_light_pages_are_legible(found: MusicComparison, ground: str) -> None:
    theme = make_theme(ground)
    page = np.asarray(draw_report(found, theme=theme)).astype(int)
    assert tuple(page[2, 2]) == theme.background
    contrast = np.abs(page - np.array(theme.background)).max(2)
    assert (contrast > 180).mean() > 0.003  # letters


def test_the_classifier_has_two_panels(found: MusicComparison) -> None:
    sure = Interval(0.9, 0.8, 0.95)
    features = tuple(FeatureAuc(Feature("key", name), 0.1, 2.5, 3.5) for name in ("outside", "margin"))
    told = TwoSample(Sides(np.arange(40), 20), sure, sure, {"melody": sure, "key": sure}, features)
    page, without = draw_report(replace(found, two_sample=told)), draw_report(found)
    assert page.size == without.size  # 22 and 24 panels in rows of five
    panels = [(slice(92 + 3 * 232 + 62, 92 + 4 * 232 - 14), slice(28 + 338 * at, 28 + 338 * at + 324)) for at in (3, 4)]
    assert all(near(page, GENERATED, 60)[panel].sum() > 20 for panel in panels)
    assert near(page, REFERENCE, 60)[panels[1]].sum() > 20 > near(page, REFERENCE, 60)[panels[0]].sum()


def test_pages_of_little_music() -> None:
    silence = piece(np.zeros((128, WINDOW), np.uint8))
    whole = draw_report(compare([silence], REAL[:1]))
    vocabulary = Vocabulary(binary=True)
    smaller = draw_report(compare([binary(REAL[0])], [binary(REAL[1])], [binary(REAL[0])], vocabulary=vocabulary))
    assert whole.width == smaller.width
    assert smaller.height <= whole.height
