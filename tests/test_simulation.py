"""Simulated frames against closed forms: light, noise of every camera, blinking, density, seeds."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from varcli.emitters.camera.file import camera_of
from varcli.emitters.config import SimulationConfig
from varcli.emitters.simulation.acquisition import background, drift_nm, simulate_stack
from varcli.emitters.simulation.blinking import blinks, brightness
from varcli.emitters.simulation.config import BackgroundConfig, MoleculesConfig, SpotConfig, StackConfig
from varcli.emitters.simulation.training_frames import Batch, simulate_batch
from varcli.emitters.table import EmitterTable, concatenate

EMCCD = {"pixel_size_nm": 100.0, "baseline_adu": 200.0, "e_per_adu": 20.0, "em_gain": 200.0, "read_noise_e": 60.0}
SCMOS = {"pixel_size_nm": 100.0, "baseline_adu": 100.0, "e_per_adu": 0.5, "read_noise_e": 1.6}
SHARES = [name for name in SimulationConfig.model_fields if name.endswith("_share")]


def plain(**changes: Any) -> SimulationConfig:
    """A domain of one microscope, without disturbances."""
    fixed = {"sigma_px": (1.3, 1.3), "background_e": (10.0, 10.0), "read_noise_e": (1.6, 1.6), "step_e": (0.5, 0.5)}
    return SimulationConfig(**{**dict.fromkeys(SHARES, 0.0), **fixed, "emccd_read_noise_e": (0.2, 0.2), **changes})


def batch_of(domain: SimulationConfig, batch: int = 200, size: int = 24, seed: int = 1) -> Batch:
    return simulate_batch(domain, batch, size, torch.Generator().manual_seed(seed))


def acquired(seed: int = 0, **config: Any) -> tuple[np.ndarray, EmitterTable]:
    chunks = list(simulate_stack(StackConfig.model_validate(config), seed))
    return np.concatenate([frames for frames, _ in chunks]), concatenate(rows for _, rows in chunks)


@pytest.mark.parametrize("excess", [1, 2])
def test_empty_training_frames_have_the_noise_they_say(excess: int) -> None:
    batch = batch_of(plain(empty_share=1.0, emccd_share=float(excess - 1)))
    assert not batch.present_BE.any()
    assert batch.excess_B.eq(excess).all()
    variance = excess * 10 + float(batch.read_std_B[0]) ** 2
    assert batch.frames_e_BYX.mean().item() == pytest.approx(10, abs=0.06)
    assert batch.frames_e_BYX.var().item() == pytest.approx(variance, rel=0.03)


def test_training_emitters_shine_as_much_as_they_say() -> None:
    batch = batch_of(plain(grid_share=1.0))
    light = batch.frames_e_BYX.sum((1, 2)) - 10 * 24 * 24
    told = batch.emitters_BE3[..., 2].mul(batch.present_BE).sum(1)
    assert torch.equal(batch.present_BE, batch.inside_BE)
    assert (light / told).median().item() == pytest.approx(1, abs=0.02)


def test_emitters_shine_where_they_are_said_to_be() -> None:
    batch = batch_of(plain(grid_share=1.0, electrons=(20000.0, 20000.0)), batch=4)
    for frame, emitters, present in zip(batch.frames_e_BYX, batch.emitters_BE3, batch.present_BE, strict=True):
        for x, y, electrons in emitters[present].tolist():
            rows, columns = slice(int(y) - 3, int(y) + 4), slice(int(x) - 3, int(x) + 4)
            light = (frame[rows, columns] - 10).clamp(min=0)
            centre = torch.arange(7) + 0.5
            assert (light.sum(0) @ centre / light.sum()).item() + int(x) - 3 == pytest.approx(x, abs=0.1)
            assert (light.sum(1) @ centre / light.sum()).item() + int(y) - 3 == pytest.approx(y, abs=0.1)
            assert light.sum().item() == pytest.approx(electrons, rel=0.05)


def test_density_counts_the_margin() -> None:
    batch = batch_of(plain(density=(2.0, 2.0)), batch=400)
    area = (24 + 6 * 1.3) ** 2
    exists = (batch.emitters_BE3[..., 2] > 0).sum(1).double()
    assert exists.mean().item() == pytest.approx(0.02 * area, rel=0.04)
    assert exists.var().item() == pytest.approx(0.02 * area, rel=0.2)
    inside = batch.inside_BE.sum(1).double().mean().item()
    assert inside == pytest.approx(0.02 * 24**2, rel=0.05)


def test_what_is_said_of_gain_and_brightness_fits_the_frames() -> None:
    batch = batch_of(plain(gain_share=1.0, gain_error=0.2, empty_share=1.0), batch=50)
    gain_B = batch.background_B / 10
    assert gain_B.min() < 0.9 and gain_B.max() > 1.1
    assert torch.allclose(batch.frames_e_BYX.mean((1, 2)), batch.background_B, rtol=0.1)


def test_equal_seeds_give_equal_batches_and_every_size_works() -> None:
    domain = SimulationConfig()
    one, two = batch_of(domain, 24, 33, seed=5), batch_of(domain, 24, 33, seed=5)
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in vars(one))
    assert not torch.equal(one.frames_e_BYX, batch_of(domain, 24, 33, seed=6).frames_e_BYX)
    assert torch.isfinite(one.frames_e_BYX).all()
    assert one.frames_e_BYX.shape == (24, 33, 33)
    assert batch_of(domain, 3, 8).frames_e_BYX.shape == (3, 8, 8)


@pytest.mark.parametrize("camera", [SCMOS, EMCCD])
def test_cameras_have_the_mean_and_variance_of_theory(camera: dict[str, Any]) -> None:
    frames, rows = acquired(
        frames=100, height=40, width=40, camera=camera, molecules={"density_per_um2": 0.0}, background={"photons": 20.0}
    )
    assert len(rows) == 0
    used = camera_of(StackConfig.model_validate({"camera": camera}).camera)
    electrons = used.to_electrons(frames)
    assert electrons.mean() == pytest.approx(20, abs=0.06)
    assert electrons.var() == pytest.approx(used.excess * 20 + used.read_variance, rel=0.02)


def test_photons_background_and_efficiency_are_exact() -> None:
    frames, rows = acquired(
        frames=60,
        camera={**SCMOS, "qe": 0.5},
        molecules={"structure": "grid", "photons": 4000.0, "photon_spread": 0.0},
        background={"photons": 8.0, "slope": 4.0},
    )
    electrons = (frames.astype(float) - 100) * 0.5
    assert np.all(rows.photons == 4000.0)
    per_frame = len(rows) / 60
    assert electrons.sum((1, 2)).mean() == pytest.approx(0.5 * (8 * 64 * 64 + 4000 * per_frame), rel=0.005)
    shape = background(StackConfig(background=BackgroundConfig(photons=8.0, slope=4.0)), 0)
    assert shape.mean().item() == pytest.approx(8, rel=1e-5)
    assert rows.background is not None
    row, column = int(rows.y_nm[0] // 100), int(rows.x_nm[0] // 100)
    assert rows.background[0] == pytest.approx(shape[row, column].item(), rel=1e-4)


def test_bright_molecules_saturate_and_maps_act_pixel_by_pixel(tmp_path: Path) -> None:
    offset = np.full((16, 20), 100.0)
    offset[3, 5] = 900.0
    np.save(tmp_path / "offset.npy", offset)
    noise = np.full((16, 20), 1.0)
    noise[7] = 20.0
    np.save(tmp_path / "noise.npy", noise)
    camera = {**SCMOS, "baseline_adu": "offset.npy", "read_noise_e": "noise.npy"}
    size = {"height": 16, "width": 20, "frames": 400, "molecules": {"density_per_um2": 0.0}}
    config = StackConfig.model_validate({**size, "camera": camera, "saturation_adu": 935})
    frames = np.concatenate([frames for frames, _ in simulate_stack(config, 0, folder=tmp_path)])
    assert frames[:, 3, 5].mean() == pytest.approx(920, abs=2)
    assert frames.max() == 935
    electrons = camera_of(config.camera, tmp_path).to_electrons(frames)
    assert electrons[:, 7].std() == pytest.approx(math.sqrt(410), rel=0.05)
    assert electrons[:, 9].std() == pytest.approx(math.sqrt(11), rel=0.05)


def test_blinking_is_stationary_and_on_times_are_exponential() -> None:
    config = StackConfig(
        frames=400, molecules=MoleculesConfig(density_per_um2=1.0, on_frames=3.0, photons=100.0, photon_spread=0.0)
    )
    area = 64 * 64 / 100
    light, spans = np.zeros(400), []
    for rows, first, count in blinks(config, 0.0, 2, at_once=37):
        light[first : first + count] = np.bincount(rows.frame, rows.photons, count)
        assert np.all(np.diff(rows.frame) >= 0)
        spans.append(rows.photons)
    # On average `density` molecules are on; so it is at the very beginning, and across the borders of chunks.
    assert light.mean() == pytest.approx(100 * area, rel=0.05)
    assert light[:20].mean() == pytest.approx(100 * area, rel=0.25)
    # A molecule of mean life L is seen in L + 1 frames on average, all but a little of it in whole ones.
    assert len(np.concatenate(spans)) == pytest.approx(400 * area * 4 / 3, rel=0.05)
    whole = np.isclose(np.concatenate(spans), 100.0).mean()
    assert whole == pytest.approx(3 * math.exp(-1 / 3) / 4, rel=0.05)


def test_molecules_that_do_not_blink_are_in_one_frame_each() -> None:
    config = StackConfig(frames=300, molecules=MoleculesConfig(on_frames=0.0, density_per_um2=2.0))
    rows, _, _ = next(blinks(config, 0.0, 1, at_once=300))
    assert len(rows.frame) == pytest.approx(300 * 2 * 40.96, rel=0.03)
    assert len(np.unique(rows.x_px)) == len(rows.x_px)


@pytest.mark.parametrize(("law", "sd"), [("normal", 0.2), ("lognormal", 0.2), ("exponential", 1.28)])
def test_photon_laws_have_their_median_and_spread(law: Any, sd: float) -> None:
    photons = brightness(MoleculesConfig(photon_law=law, photons=700.0), 40000, np.random.default_rng(0))
    assert np.median(photons) == pytest.approx(700, rel=0.03)
    assert np.log(photons).std() == pytest.approx(sd, rel=0.08)


@pytest.mark.parametrize("structure", ["filaments", "clusters"])
def test_structures_lie_where_they_are(structure: Any) -> None:
    molecules = MoleculesConfig(structure=structure, structures=3, width_nm=20.0, density_per_um2=1.0)
    config = StackConfig(frames=300, molecules=molecules)
    places = np.concatenate([np.stack([rows.x_px, rows.y_px], 1) for rows, _, _ in blinks(config, 5.0, 0, 100)])
    taken = len(np.unique(places.astype(int), axis=0))
    assert taken < 0.2 * 64 * 64
    assert places.min() >= -5 and places.max() <= 69


def chunks(seed: int) -> Iterator[tuple[np.ndarray, EmitterTable]]:
    return simulate_stack(StackConfig(frames=40, spot=SpotConfig(kind="airy", defocus=1.0)), seed)


def test_equal_seeds_give_equal_stacks() -> None:
    (one, rows), (two, same), (other, _) = next(chunks(3)), next(chunks(3)), next(chunks(4))
    assert one.tobytes() == two.tobytes() and np.array_equal(rows.x_nm, same.x_nm)
    assert one.dtype == np.uint16
    assert one.tobytes() != other.tobytes()


def test_light_and_truth_drift_together() -> None:
    molecules = {"structure": "grid", "on_frames": 0.0, "photons": 20000.0, "photon_spread": 0.0}
    still = {"frames": 3, "height": 40, "width": 40, "molecules": molecules, "background": {"photons": 1.0}}
    _, at_rest = acquired(**still)
    frames, truth = acquired(**still, drift_nm=(250.0, -130.0))
    first, last = truth.rows(truth.frame == 0), truth.rows(truth.frame == 2)
    before = at_rest.rows(at_rest.frame == 0)
    assert np.allclose(first.x_nm, before.x_nm)
    inside = (last.x_nm > 1500) & (last.x_nm < 2500) & (last.y_nm > 1500) & (last.y_nm < 2500)
    assert inside.any()
    for x_nm, y_nm in zip(last.x_nm[inside], last.y_nm[inside], strict=True):
        row, column = int(y_nm // 100), int(x_nm // 100)
        window = frames[2, row - 5 : row + 6, column - 5 : column + 6].astype(float) - 102
        offsets = np.arange(-5, 6) + 0.5
        assert abs((window.sum(0) @ offsets) / window.sum() + column - x_nm / 100) < 0.1
        assert abs((window.sum(1) @ offsets) / window.sum() + row - y_nm / 100) < 0.1
    assert drift_nm(StackConfig(frames=3, drift_nm=(250.0, -130.0)), np.arange(3)) == pytest.approx(
        np.array([[0, 0], [125, -65], [250, -130]])
    )
