"""The pipeline in Python: the same answer however frames are shared out, events in order, cameras resolved."""

import time
from pathlib import Path

import numpy as np
import pytest
from emitter_support import Maxima, save_stack, spots

from varcli.emitters.camera.photon_transfer import CameraEstimate
from varcli.emitters.camera.resolve import resolve_camera
from varcli.emitters.camera.values import given_values
from varcli.emitters.events import FramesDone, ScaleDone, StackOpened, StackSurveyed
from varcli.emitters.network import predict
from varcli.emitters.network.predict import Predictor
from varcli.emitters.pipeline.estimator import Noise, lone_bound_px
from varcli.emitters.pipeline.localize import ChunkDone, Event, Given, Settings, in_order, localize
from varcli.emitters.pipeline.trained_domain import TrainedDomain
from varcli.emitters.simulation.acquisition import simulate_stack
from varcli.emitters.simulation.config import MoleculesConfig, StackConfig
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.window import Window
from varcli.emitters.table import EmitterTable, concatenate
from varcli.loading import load_model

GIVEN = given_values(pixel_size_nm=100.0, baseline_adu=100.0, e_per_adu=0.5, em_gain=0.0, qe=1.0, read_noise_e=1.6)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack.open([save_stack(tmp_path / "a.tif", spots(11))])


def events(stack: Stack, batch_size: int | None = None, done: int = 0) -> list[Event]:
    window = Window(0, stack.width, 0, stack.height, 0, stack.frames)
    settings = Settings(window, polish="none", batch_size=batch_size, map_scale=40)
    return list(localize(stack, Maxima(), Given(GIVEN, 1.3), settings, done=done))


def table(found: list[Event]) -> EmitterTable:
    return concatenate(event.table for event in found if isinstance(event, ChunkDone))


def test_rows_do_not_depend_on_how_frames_are_shared_out(stack: Stack) -> None:
    whole = table(events(stack))
    assert len(whole) > 20
    for batch_size in (1, 4, 100):
        part = table(events(stack, batch_size))
        assert all(np.array_equal(getattr(part, name), getattr(whole, name)) for name in whole.columns())
    rows = list(zip(whole.frame, whole.y_nm, whole.x_nm, strict=True))
    assert rows == sorted(rows)


def test_frames_done_before_are_left_out(stack: Stack) -> None:
    whole, rest = table(events(stack, 4)), table(events(stack, 4, done=8))
    kept = whole.rows(whole.frame >= 8)
    assert np.array_equal(rest.x_nm, kept.x_nm) and set(rest.frame) == {8, 9, 10}


def test_events_come_in_order(stack: Stack) -> None:
    found = events(stack, 4)
    assert [type(event) for event in found[:2]] == [StackOpened, StackSurveyed]
    chunks = [event for event in found if isinstance(event, ChunkDone)]
    assert [(chunk.start, chunk.stop) for chunk in chunks] == [(0, 4), (4, 8), (8, 11)]
    assert all(chunk.counts is not None and chunk.counts.shape[1:] == (40, 40) for chunk in chunks)
    scales = [(event.frame_range, event.scale) for event in found if isinstance(event, ScaleDone)]
    assert scales == [((c.start, c.stop), scale) for c in chunks for scale in (10, 20, 40, 80)]
    done = [event for event in found if isinstance(event, FramesDone)]
    assert [event.done for event in done] == [4, 8, 11] and done[-1].emitters == len(table(found))


def test_work_is_shared_out_and_comes_back_in_order() -> None:
    def slowest_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0)
        return -item

    assert list(in_order(slowest_first, range(20), 4, 1)) == [-item for item in range(20)]


def test_an_error_comes_where_its_item_stands() -> None:
    def broken(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    seen, results = [], in_order(broken, range(50), 3, 1)
    with pytest.raises(ValueError, match="two"):
        seen.extend(results)
    assert seen == [0, 1]


def estimate(likely_em: bool = False) -> CameraEstimate:
    return CameraEstimate(101.0, 0.02 if likely_em else 0.4, "measured", 0.5, likely_em)


def test_what_is_said_goes_before_everything_else() -> None:
    def never() -> CameraEstimate:
        raise AssertionError("nothing needs to be estimated")

    camera, known = resolve_camera(GIVEN, {"pixel_size_nm": 65.0}, never)
    assert camera.pixel_size_nm == 100 and camera.em_gain is None and not any(value.assumed for value in known)


def test_an_em_gain_that_is_said_doubles_the_electrons_that_noise_shows() -> None:
    without, _ = resolve_camera(given_values(em_gain=0.0), {}, estimate)
    behind, _ = resolve_camera(given_values(em_gain=200.0), {}, estimate)
    assert without.e_per_adu / without.gain == pytest.approx(0.4)
    assert behind.e_per_adu / behind.gain == pytest.approx(0.8)
    assert (without.excess, behind.excess) == (1, 2)


def test_noise_beyond_any_other_camera_is_taken_for_em_gain_and_said() -> None:
    camera, known = resolve_camera(given_values(), {}, lambda: estimate(likely_em=True))
    assert camera.excess == 2 and camera.e_per_adu / camera.gain == pytest.approx(0.04)
    assert {value.name: value.origin for value in known}["EM gain"] == "estimated"


def test_domain_names_what_lies_outside() -> None:
    simulated = {"sigma_px": [0.75, 2.4], "background_e": [0.3, 400], "electrons": [60, 30000], "density": [0.02, 6]}
    domain = TrainedDomain.of({"simulated": simulated})
    assert not domain.outside(1.3, (1, 2, 3), 1000, 1.0)
    assert not domain.outside(1.3, (1, 2, 3), None, 0.0)
    found = domain.outside(2.6, (0.1, 0.2, 500), 40, 2.0)
    assert [outside.quantity.split(",")[0] for outside in found] == [
        "PSF width", "background", "photoelectrons of an emitter", "density"
    ]  # fmt: skip
    assert found[3].trained == pytest.approx((0.02 / 4, 6 / 4))  # a PSF twice as wide has room for a quarter
    assert "2.6" in str(found[0]) and "0.75 to 2.4" in str(found[0])
    assert not TrainedDomain.of({}).outside(9, (0, 0, 9e9), 1, 99)


def test_bound_of_a_lone_emitter_without_background_is_its_width_over_the_root_of_its_photons() -> None:
    bound = lone_bound_px(np.array([400.0]), np.array([0.0]), Noise(1.0, 0.0), 1.3)
    assert bound == pytest.approx(np.sqrt(1.3**2 + 1 / 12) / 20)
    assert lone_bound_px(np.array([400.0]), np.array([0.0]), Noise(2.0, 0.0), 1.3) == pytest.approx(np.sqrt(2) * bound)


def test_tiles_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StackConfig(frames=2, height=200, width=200, molecules=MoleculesConfig(on_frames=0.0))
    stack = Stack.open([save_stack(tmp_path / "large.tif", next(iter(simulate_stack(config, 0)))[0])])
    settings = Settings(Window(0, 200, 0, 200, 0, 2))
    network = Predictor(load_model("emitter-2d", task="emitters")[0])
    whole = table(list(localize(stack, network, Given(GIVEN, 1.3), settings)))
    monkeypatch.setattr(predict, "_TILE_PX", 64)
    tiled = table(list(localize(stack, network, Given(GIVEN, 1.3), settings)))
    assert len(tiled) == len(whole) > 300
    assert np.abs(tiled.x_nm - whole.x_nm).max() < 1 and np.abs(tiled.y_nm - whole.y_nm).max() < 1
