"""Which samples are written: one alone, the best of many, others with the plan of one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fractal_support import tiny

from varcli.api.music import sample
from varcli.errors import UsageError
from varcli.pianoroll.events import SampleDone
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.results.selection import faults_of, with_plan_of
from varcli.pianoroll.roll import HELD, ONSET, Roll


@pytest.fixture(scope="module")
def model() -> FractalModel:
    options = {"voices": ["melody", "piano"], "form": True, "harmony": True, "conditioning": True}
    return tiny("ar", "16x4>4x2>1x1", 128, notes=True, velocity_bins=12, model=options)


def cells_of(model: FractalModel, **options: Any) -> dict[int, np.ndarray]:
    return {one.index: one.cells for one in sample(checkpoint=model, target_width=16, seed=3, **options).samples}


def test_a_number_alone_is_what_it_is_among_others(model: FractalModel, tmp_path: Path) -> None:
    every = cells_of(model, num_samples=3, output_dir=tmp_path / "all")
    alone = cells_of(model, index=2, output_dir=tmp_path / "one")
    assert list(alone) == [2]
    assert np.array_equal(alone[2], every[2])
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"unconditional_002.mid", "unconditional_002.png"}
    midi = [(tmp_path / folder / "unconditional_002.mid").read_bytes() for folder in ("all", "one")]
    assert midi[0] == midi[1]


def test_the_best_of_many_are_the_likeliest_without_faults(model: FractalModel) -> None:
    every = cells_of(model, num_samples=4)
    result = sample(checkpoint=model, target_width=16, seed=3, best_of=4, num_samples=2)
    ranks = [(len(one.faults), one.nats_per_note) for one in result.ranking]
    assert ranks == sorted(ranks)
    assert sorted(one.number for one in result.ranking) == [0, 1, 2, 3]
    assert [one.index for one in result.samples] == [one.number for one in result.ranking[:2]]
    for one in result.samples:
        assert np.array_equal(one.cells, every[one.index])
    assert result.document()["ranking"][0]["index"] == result.ranking[0].number


def test_variations_have_the_plan_of_their_model_and_other_notes(model: FractalModel) -> None:
    planes, bar = Planes.of(model.config.model), model.config.model.steps_per_bar
    theme = sample(checkpoint=model, target_width=16, seed=3, index=1).samples[0].roll
    result = sample(checkpoint=model, target_width=16, seed=3, vary=1, num_samples=2)
    assert [one.index for one in result.samples] == [0, 1]
    assert not np.array_equal(result.samples[0].cells, result.samples[1].cells)
    assert not np.array_equal(result.samples[1].cells, theme.cells)
    settings = with_plan_of(theme, SampleSettings(target_width=16), model.config.model)
    wanted = planes.canvas_of(theme.cells, theme.voices, bar)[: planes.plan_rows]
    limits = settings.constraints
    assert limits is not None and wanted.any()
    assert limits.given[: planes.plan_rows].all() and not limits.given[planes.plan_rows :].any()
    assert np.array_equal(limits.codes[: planes.plan_rows], wanted)
    same_plan = SampleSettings(target_width=16, seed=3, varied=1, constraints=limits)
    done = [event for event in generate(model, same_plan) if isinstance(event, SampleDone)]
    assert np.array_equal(done[0].roll.cells, result.samples[0].cells), "this plan is what they were written on"
    again = sample(checkpoint=model, target_width=16, seed=3, vary=1, index=1).samples[0]
    assert np.array_equal(again.cells, result.samples[1].cells)


def test_what_does_not_go_together_is_refused(model: FractalModel) -> None:
    for options, said in (
        ({"index": 1, "best_of": 3}, "do not go together"),
        ({"index": 1, "num_samples": 2}, "one sample"),
        ({"best_of": 2, "num_samples": 3}, "fewer than"),
        ({"index": -1}, "index"),
        ({"best_of": 0}, "best_of"),
    ):
        with pytest.raises(UsageError, match=said):
            sample(checkpoint=model, target_width=16, **options)  # type: ignore[arg-type]
    plain = tiny("ar", "8x2>1x1", 128, notes=True, model={"conditioning": True})
    with pytest.raises(UsageError, match="plans nothing"):
        sample(checkpoint=plain, target_width=16, vary=0)


def test_plain_faults() -> None:
    music = np.zeros((128, 128), np.uint8)
    music[60, ::4], music[61, 2::4] = ONSET, ONSET
    assert faults_of(Roll(music)) == ()
    drone = music.copy()
    drone[40, 32], drone[40, 33:96] = ONSET, HELD
    assert faults_of(Roll(drone)) == ("a drone",)
    silent = music.copy()
    silent[:, 16:48] = 0
    assert faults_of(Roll(silent)) == ("silence",)
    assert faults_of(Roll(np.zeros((128, 16), np.uint8))) == ("nothing new",)
    assert faults_of(Roll(music, kept=np.ones(music.shape, bool))) == ("nothing new",)
