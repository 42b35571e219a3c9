"""Planes: where voices, pitches and the plan lie on the canvas of a model with voices."""

import numpy as np
import pytest
from roll_support import notes_to_cells

from varcli.pianoroll.config import LevelConfig, ModelConfig
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import Note, Vocabulary

VOCABULARY = Vocabulary()
PLANES = Planes(("melody", "piano"), plan_rows=48)


def cells_of(*notes: Note) -> np.ndarray:
    """A canvas u8 [128, 8]."""
    return notes_to_cells(notes, 8, VOCABULARY)[0]


MELODY, PIANO = cells_of(Note(72, 0, 4, 100), Note(74, 4, 2, 90)), cells_of(Note(72, 2, 6, 50), Note(40, 0, 8, 60))


def test_voices_lie_one_above_the_other_over_the_plan() -> None:
    assert (PLANES.rows, PLANES.plane_rows) == (48 + 2 * 144, 144)
    canvas = PLANES.stack({"piano": PIANO, "melody": MELODY})
    assert canvas.shape == (336, 8) and canvas.dtype == np.uint8
    assert np.array_equal(canvas[48:176], MELODY) and np.array_equal(canvas[192:320], PIANO)
    assert canvas.sum() == int(MELODY.sum()) + int(PIANO.sum())
    voices = PLANES.split(canvas)
    assert list(voices) == ["melody", "piano"]
    assert np.array_equal(voices["melody"], MELODY) and np.array_equal(voices["piano"], PIANO)
    assert not PLANES.stack({"piano": PIANO})[:192].any()
    with pytest.raises(ValueError, match="not in"):
        PLANES.stack({"bridge": PIANO})


def test_every_row_has_its_place() -> None:
    assert [PLANES.place_of(row) for row in (0, 47, 48, 191, 192, 335)] == [
        (None, 0),
        (None, 47),
        (0, 0),
        (0, 143),
        (1, 0),
        (1, 143),
    ]
    canvas = np.arange(PLANES.rows)[:, None]
    for index, (name, rows) in enumerate(PLANES.split(canvas).items()):
        assert [PLANES.place_of(int(row)) for row in rows[:, 0]] == [(index, pitch) for pitch in range(128)], name


def test_the_merged_canvas_holds_all_notes() -> None:
    canvas = PLANES.stack({"melody": MELODY, "piano": PIANO})
    canvas[:48] = 9  # a plan is no music
    notes = (Note(72, 0, 4, 100), Note(74, 4, 2, 90), Note(72, 2, 6, 50), Note(40, 0, 8, 60))
    assert np.array_equal(PLANES.merge(canvas, VOCABULARY), cells_of(*notes))


def test_planes_are_transposed_alike_and_none_leaves_the_pitches() -> None:
    canvas = PLANES.stack({"melody": MELODY, "piano": PIANO})
    canvas[3, 7] = 4
    moved = PLANES.transpose(canvas, -5)
    assert np.array_equal(moved[:48], canvas[:48])
    for name, cells in PLANES.split(canvas).items():
        assert np.array_equal(PLANES.split(moved)[name], np.roll(cells, -5, axis=0))
    assert np.array_equal(PLANES.transpose(moved, 5), canvas)
    assert PLANES.transpose(canvas, 53)[48 + 127].any()
    for semitones in (54, -41, 0):
        assert PLANES.transpose(canvas, semitones) is canvas
    assert not PLANES.transpose(np.zeros_like(canvas), 3).any()


def test_one_voice_alone_is_a_roll() -> None:
    plain = Planes.of(ModelConfig())
    assert plain == Planes() and plain.rows == 128
    assert np.array_equal(plain.stack({"piano": PIANO}), PIANO)
    assert np.array_equal(plain.transpose(PIANO, 3), np.roll(PIANO, 3, axis=0))
    assert Planes.of(ModelConfig(form=True)).rows == 48 + 144


def test_configs_say_how_many_rows_their_canvas_has() -> None:
    model = ModelConfig(voices=("melody", "bridge", "piano"), form=True)
    assert model.rows == Planes.of(model).rows == 480
    assert ModelConfig(voices=("melody", "bridge")).rows == 288
    assert ModelConfig(voices=("melody",)).rows == 128
    assert (
        ModelConfig(pitches=88, levels=(LevelConfig(shape="8x4"), LevelConfig(shape="1x1"), LevelConfig())).rows == 88
    )
    assert ModelConfig(voices=("a", "b"), pitches=88).rows == 192


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"voices": ("a", "A ")}, "different names"),
        ({"voices": ("a", "")}, "different names"),
        ({"voices": True}, "polyphony"),
        ({"voices": ("a", "b"), "steps_per_bar": 12}, "a bar wide: 16x12"),
        ({"form": True, "scan_order": "row_major"}, "column_major"),
        ({"form": True, "velocity_bins": 3}, "4 velocity_bins"),
        (
            {"voices": ("a", "b"), "levels": (LevelConfig(shape="32x16"), LevelConfig(shape="1x1"), LevelConfig())},
            "144",
        ),
        (
            {"form": True, "vocabulary": "binary", "levels": (LevelConfig(shape="16x16"), LevelConfig(shape="1x1"))},
            "notes",
        ),
    ],
)
def test_what_planes_need_is_said(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelConfig.model_validate(options)
