"""Pictures of rolls: what they show, and that they show it the same way every time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from animation_support import VOCABULARY, tune
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from roll_support import notes_to_cells

from varcli.colours import COLORMAPS, load_font, make_theme, parse_colour
from varcli.errors import UsageError
from varcli.pianoroll.figures.painter import RollPainter, lay_out, marked_intensity, onsets_of, visible_pitches
from varcli.pianoroll.figures.picture import draw_roll, picture_of, png_bytes, save_picture
from varcli.pianoroll.roll import Note, Roll, Vocabulary, intensity, merge

THEME = make_theme()
FONT = load_font(12)


def cells_of(*notes: Note, steps: int = 32) -> np.ndarray:
    return notes_to_cells(notes, steps, VOCABULARY)[0]


def painted(cells: np.ndarray, step_px: int = 4, **layers) -> tuple[RollPainter, np.ndarray]:
    """The painter, and the pixels u8 [height, width, 3] of the roll without keyboard and bar numbers."""
    values = marked_intensity(cells, VOCABULARY)
    axes = lay_out(values.max(axis=1) > 0, cells.shape[1], pixel_scale=step_px)
    painter = RollPainter(axes, THEME, FONT)
    image = painter.paint(values, onsets_of(values, marked=True), **layers)
    assert image.size == painter.size
    pixels = np.asarray(image)[painter.top :, painter.left :]
    return painter, pixels[: painter.height_px, : cells.shape[1] * step_px]


def cell_pixels(painter: RollPainter, pixels: np.ndarray, pitch: int, step: int) -> np.ndarray:
    axes = painter.axes
    floor = (axes.high - pitch) * axes.pitch_px
    return pixels[floor - axes.pitch_px : floor, step * axes.step_px : (step + 1) * axes.step_px]


def test_marked_intensity_says_loudness_and_onsets() -> None:
    cells = cells_of(Note(60, 0, 4, 100), Note(60, 4, 4, 100), Note(40, 2, 1, 20))
    values = marked_intensity(cells, VOCABULARY)
    assert values.dtype == np.uint8
    assert np.array_equal(values & 0xFE, intensity(cells, VOCABULARY))
    assert np.array_equal(onsets_of(values, marked=True), cells >= 2)


def test_held_cell_after_silence_and_binary_run_begin_a_note() -> None:
    held = np.zeros((128, 6), np.uint8)
    held[50, 2:5] = 1
    for vocabulary in (VOCABULARY, Vocabulary(binary=True)):
        begins = onsets_of(marked_intensity(held, vocabulary), marked=True)
        assert np.argwhere(begins).tolist() == [[50, 2]]


def test_unmarked_onsets_are_changes() -> None:
    values = np.array([[0, 9, 9, 7, 0, 7]], np.uint8)
    assert onsets_of(values, marked=False).tolist() == [[False, True, False, True, False, True]]


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers(0, 127), max_size=6), st.integers(1, 128))
def test_visible_pitches_are_whole_octaves_around_what_sounds(pitches: set[int], rows: int) -> None:
    used = np.zeros(rows, bool)
    used[[pitch for pitch in pitches if pitch < rows]] = True
    low, high = visible_pitches(used)
    assert 0 <= low < high <= rows
    assert low % 12 == 0 and (high % 12 == 0 or high == rows)
    assert high - low >= min(24, rows)
    assert used.sum() == used[low:high].sum()


def test_repeated_note_differs_from_a_held_one() -> None:
    repeated = cells_of(Note(60, 0, 4, 90), Note(60, 4, 4, 90))
    held = cells_of(Note(60, 0, 8, 90))
    painter, struck = painted(repeated)
    _, still = painted(held)
    assert np.array_equal(struck[:, :16], still[:, :16])
    assert np.array_equal(struck[:, 20:], still[:, 20:])
    gap = cell_pixels(painter, struck, 60, 4)[:, 0]
    empty = cell_pixels(painter, painted(cells_of(Note(70, 0, 1, 9)))[1], 60, 4)[:, 0]
    assert not np.array_equal(struck, still)
    assert np.array_equal(gap, empty)


def test_pitch_goes_up_time_goes_right_and_colour_is_velocity() -> None:
    painter, pixels = painted(cells_of(Note(50, 3, 1, 30), Note(62, 9, 1, 120)))
    for pitch, step, velocity in ((50, 3, 30), (62, 9, 120)):
        code = VOCABULARY.codes[velocity]
        colour = THEME.notes[2 * VOCABULARY.velocities[code] + 1]
        assert (cell_pixels(painter, pixels, pitch, step)[-1, -1] == colour).all()


def test_patches_are_framed_and_what_waits_is_dimmed() -> None:
    cells = tune(32)
    _, plain = painted(cells)
    painter, framed = painted(cells, outlined=[(60, 64, 8, 12)])
    changed = np.argwhere((plain != framed).any(axis=2))
    top, left = changed.min(axis=0)
    axes = painter.axes
    assert (top, left) == ((axes.high - 64) * axes.pitch_px - 1, 8 * axes.step_px - 1)
    decided = np.zeros(cells.shape, bool)
    decided[:, :16] = True
    _, dimmed = painted(np.zeros_like(cells), decided=decided)
    _, bare = painted(np.zeros_like(cells))
    assert np.array_equal(dimmed[:, :64], bare[:, :64])
    assert (dimmed[:, 64:].mean() - np.mean(THEME.background)) < (bare[:, 64:].mean() - np.mean(THEME.background)) / 2


def test_patch_outside_the_pitches_shown_leaves_a_mark_at_the_edge() -> None:
    cells = cells_of(Note(60, 0, 4, 90))
    values = marked_intensity(cells, VOCABULARY)
    painter = RollPainter(lay_out(values.max(axis=1) > 0, 32, pixel_scale=4), THEME, FONT)
    plain = np.asarray(painter.paint(values, values & 1 > 0))
    for outside, rows in (((0, 16, 0, 16), slice(-3, None)), ((112, 128, 0, 16), slice(0, painter.top))):
        marked = np.asarray(painter.paint(values, values & 1 > 0, outlined=[outside]))
        assert (plain[rows] != marked[rows]).any()


@pytest.mark.parametrize("steps", [1, 5, 16, 250, 640, 641, 1000, 2048])
def test_systems_cover_every_step_once(steps: int) -> None:
    axes = lay_out(np.zeros(128, bool), steps)
    assert [step for first, last in axes.systems for step in range(first, last)] == list(range(steps))
    if steps > 640:
        assert len(axes.systems) > 1 and all(first % 16 == 0 for first, _ in axes.systems)
    else:
        assert len(axes.systems) == 1


def test_bars_stand_at_the_downbeats() -> None:
    used = np.zeros(128, bool)
    assert lay_out(used, 40, steps_per_bar=12).bars == (0, 12, 24, 36)
    assert lay_out(used, 40, downbeats=[3, 19, 35, 51]).bars == (3, 19, 35)


@pytest.mark.parametrize("steps", [1, 16, 700])
@pytest.mark.parametrize("silent", [True, False])
def test_any_roll_gives_the_same_bytes_twice(steps: int, silent: bool) -> None:
    cells = np.zeros((128, steps), np.uint8) if silent else tune(steps + 4)[:, :steps]
    first = png_bytes(draw_roll(cells, VOCABULARY, title="t" * 200, tempo_bpm=90))
    assert first == png_bytes(draw_roll(cells.copy(), VOCABULARY, title="t" * 200, tempo_bpm=90))


def test_pixel_scale_sets_the_width_of_a_step() -> None:
    widths = [draw_roll(tune(256), VOCABULARY, pixel_scale=scale).width for scale in (3, 4, 5)]
    assert np.diff(widths).tolist() == [256, 256]


def test_heat_map_paints_every_cell_as_it_is() -> None:
    values = np.zeros((128, 64), np.uint8)
    values[40:80] = np.arange(40, dtype=np.uint8)[:, None] + 200
    pixels = np.asarray(draw_roll(values, None, title="surprise"))
    for value in (200, 239):
        assert (pixels == THEME.notes[value]).all(axis=2).any()


def test_theme_follows_its_background() -> None:
    assert make_theme("white").ink < make_theme("black").ink
    light, dark = make_theme("white", "magma").notes, make_theme("black", "magma").notes
    assert light[255].sum() < light[0].sum() and dark[255].sum() > dark[0].sum()
    for name in COLORMAPS:
        assert make_theme("navy", name).image.shape == (256, 3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: make_theme("black", "virids"), "viridis"),
        (lambda: make_theme("black", ""), "velocity"),
        (lambda: parse_colour("blurple"), "navy"),
        (lambda: parse_colour("rgb(300,0,0)"), "navy"),
        (lambda: parse_colour("#11223344"), "navy"),
        (lambda: load_font(12, Path("no-such-font.ttf")), ".ttf"),
        (lambda: load_font(12, Path(__file__)), ".ttf"),
    ],
)
def test_wrong_colours_and_fonts_are_refused_with_a_hint(call, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert said in str(caught.value.hint)
    assert "\n" not in caught.value.message + str(caught.value.hint)


def test_text_is_cut_to_fit() -> None:
    assert FONT.fit("short", 200) == "short"
    cut = FONT.fit("a line that is far too long", 60)
    assert cut.endswith("…") and FONT.width(cut) <= 60


def test_save_picture_writes_a_png(tmp_path: Path) -> None:
    save_picture(Roll(tune(), VOCABULARY, title="tune"), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG" and image.mode == "RGB"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_kept_notes_are_grey_on_lighter_ground() -> None:
    cells = np.zeros((128, 16), np.uint8)
    cells[60, 2:5] = cells[64, 2:5] = (9, 1, 1)
    kept = np.zeros(cells.shape, bool)
    kept[60] = True
    values = marked_intensity(cells, Vocabulary())
    axes = lay_out(values.max(axis=1) > 0, 16, pixel_scale=4)
    painter = RollPainter(axes, THEME, FONT, kept)
    image = np.asarray(painter.paint(values, onsets_of(values, marked=True))).astype(int)
    pixels = image[painter.top :, painter.left :][: painter.height_px]
    note, other = (cell_pixels(painter, pixels, pitch, 3)[2, 2] for pitch in (60, 64))
    assert np.ptp(note) < 12 < np.ptp(other)
    ground, bare = (cell_pixels(painter, pixels, pitch, 9)[2, 2] for pitch in (60, 64))
    assert ground.sum() > bare.sum()  # both are white keys
    plain, legend = (np.asarray(draw_roll(cells, Vocabulary(), kept=mask)) for mask in (None, kept))
    assert plain.shape == legend.shape and not np.array_equal(plain[:50], legend[:50])


def test_voices_have_a_hue_each_and_a_legend_names_them() -> None:
    voices = {name: np.zeros((128, 16), np.uint8) for name in ("melody", "bridge", "piano")}
    voices["melody"][72, 2:6] = voices["piano"][60, 2:6] = voices["piano"][72, 4:8] = (9, 1, 1, 1)
    voices["bridge"][64, 2:6] = (9, 1, 1, 1)
    roll = Roll(merge(voices.values(), VOCABULARY), VOCABULARY, voices=voices)
    values, kept = marked_intensity(roll.cells, VOCABULARY), np.zeros((128, 16), bool)
    kept[64] = True
    axes = lay_out(values.max(axis=1) > 0, 16, pixel_scale=6)
    painter = RollPainter(axes, THEME, FONT, kept, np.stack(list(voices.values())) > 0)
    image = np.asarray(painter.paint(values, onsets_of(values, marked=True))).astype(int)
    pixels = image[painter.top :, painter.left :][: painter.height_px]
    melody, bridge, piano, doubled, alone = (
        cell_pixels(painter, pixels, pitch, step)[2, 2] for pitch, step in ((72, 3), (64, 3), (60, 3), (72, 5), (72, 7))
    )
    assert melody[0] > melody[2] and piano[2] > piano[0] and np.ptp(bridge) < 12  # orange, blue, and grey as it is kept
    assert np.array_equal(doubled, melody) and np.array_equal(alone, piano)  # the first voice that sounds
    plain, coloured = (np.asarray(picture_of(each)) for each in (replace(roll, voices=None), roll))
    assert plain.shape == coloured.shape and not np.array_equal(plain[:50], coloured[:50])
    one_voice = replace(roll, voices={"piano": roll.cells})
    assert np.array_equal(np.asarray(picture_of(one_voice)), plain)
