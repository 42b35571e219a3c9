"""A simulated acquisition: blinking molecules, their spots, the background and the camera, a few frames at a time.

Legend: n frames, E emitters (rows of the truth), Y X camera pixels.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from varcli.emitters.camera.camera import Camera
from varcli.emitters.camera.file import camera_of
from varcli.emitters.psf.airy import AiryPsf
from varcli.emitters.psf.gaussian import GaussianPsf
from varcli.emitters.psf.psf import Psf
from varcli.emitters.simulation.blinking import FrameMolecules, blinks
from varcli.emitters.simulation.config import SpotConfig, StackConfig
from varcli.emitters.simulation.draws import Draws, background_shapes
from varcli.emitters.table import EmitterTable

_PIXELS_AT_ONCE = 1 << 21  # in a chunk of frames; part of what a seed means
_SPOTS_AT_ONCE = 1 << 22  # pixels of spots in memory


def simulate_stack(
    config: StackConfig, seed: int, device: str = "cpu", folder: Path = Path()
) -> Iterator[tuple[np.ndarray, EmitterTable]]:
    """Frames in ADU [n, Y, X] u16 and the emitters in them, chunk after chunk; the memory needed does not grow.

    The truth lists every molecule that is on inside the frame, however briefly, where the camera sees it (drift and
    all), with the photons detected of it in that frame, and the background at its pixel. Maps of the camera are read
    from paths relative to `folder`. Equal seeds give equal frames on one kind of device. Raises UsageError for an
    impossible camera.
    """
    camera = camera_of(config.camera, folder)
    camera.check_size(config.height, config.width)
    draws = Draws(torch.Generator(device).manual_seed(seed))
    background_e_YX = background(config, seed).to(device) * camera.qe
    least_frames = max(1, _PIXELS_AT_ONCE // (config.height * config.width))
    psf = psf_of(config.spot)
    for rows, start, count in blinks(config, psf.reach_px, seed, least_frames):
        rows = _drifted(config, psf, rows, start)
        light_nYX = render(psf, rows, camera.qe, count, (config.height, config.width), device)
        light_nYX += background_e_YX + config.background.spurious_e
        frames = expose(camera, light_nYX, draws, config.saturation_adu)
        yield frames, _truth(config, rows, start, background_e_YX.cpu().numpy() / camera.qe)


def background(config: StackConfig, seed: int) -> Tensor:
    """Photons per pixel [Y, X] of all that is not of molecules."""
    options = config.background
    draws = Draws(torch.Generator().manual_seed(seed))
    steep_B, blob_B, rough_B = torch.tensor([[math.log(options.slope)], [options.blob], [options.roughness]])
    shape_YX = background_shapes((config.height, config.width), steep_B, blob_B, rough_B, draws)[0]
    return options.photons * shape_YX


def psf_of(spot: SpotConfig) -> Psf:
    """The PSF that the options describe."""
    if spot.kind == "airy":
        return AiryPsf(spot.sigma_px, spot.defocus)
    return GaussianPsf.of(spot.sigma_px, spot.ellipse, spot.tail_light, spot.tail_scale)


def render(psf: Psf, rows: FrameMolecules, qe: float, count: int, size: tuple[int, int], device: str) -> Tensor:
    """Expected photoelectrons of the molecules alone [n, Y, X]."""
    height, width = size
    half = math.ceil(psf.reach_px)
    # A border takes what lies outside the frame, for molecules there shine in.
    canvas = torch.zeros(count, height + 4 * half + 2, width + 4 * half + 2, device=device)
    step = max(1, _SPOTS_AT_ONCE // (2 * half + 1) ** 2)
    for start in range(0, len(rows.frame), step):
        part = slice(start, start + step)
        x, y, electrons = (
            torch.as_tensor(column[part] * scale, dtype=torch.float32, device=device)
            for column, scale in ((rows.x_px, 1.0), (rows.y_px, 1.0), (rows.photons, qe))
        )
        left, top = x.floor().long() - half, y.floor().long() - half
        shares = psf.evaluate(x - left, y - top, size=(2 * half + 1, 2 * half + 1))
        across = torch.arange(2 * half + 1, device=device)
        frame = torch.as_tensor(rows.frame[part], device=device)[:, None, None]
        place = (frame, (top[:, None] + across)[:, :, None] + 2 * half, (left[:, None] + across)[:, None] + 2 * half)
        canvas.index_put_(place, shares * electrons[:, None, None], accumulate=True)
    return canvas[:, 2 * half : 2 * half + height, 2 * half : 2 * half + width].clamp(min=0)


def expose(camera: Camera, mean_e_nYX: Tensor, draws: Draws, saturation_adu: int = 65535) -> np.ndarray:
    """Counts that a camera makes of expected photoelectrons: shot noise, EM cascade, reading, rounding; u16."""
    electrons = draws.poisson(mean_e_nYX)
    if camera.excess > 1:
        electrons = draws.cascade(electrons) * camera.gain
    baseline, e_per_adu, read_noise_e = (
        torch.as_tensor(number, dtype=torch.float32, device=draws.device)
        for number in (camera.baseline_adu, camera.e_per_adu, camera.read_noise_e)
    )
    electrons += draws.normal(*electrons.shape) * read_noise_e
    counts = (electrons / e_per_adu + baseline).round_().clamp_(0, saturation_adu)
    return counts.cpu().numpy().astype(np.uint16)


def drift_nm(config: StackConfig, frame: np.ndarray) -> np.ndarray:
    """How far x and y have drifted at frames [n] counted from 0, nm [n, 2]."""
    done = frame / max(1, config.frames - 1)
    return (done + np.sin(2 * np.pi * done) / 8)[:, None] * np.array(config.drift_nm)


def _drifted(config: StackConfig, psf: Psf, rows: FrameMolecules, start: int) -> FrameMolecules:
    """FrameMolecules where the camera sees them, without those that have left what shines into the frame."""
    moved = drift_nm(config, rows.frame + start) / config.camera.pixel_size_nm
    x, y, reach = rows.x_px + moved[:, 0], rows.y_px + moved[:, 1], psf.reach_px
    near = (x >= -reach) & (x <= config.width + reach) & (y >= -reach) & (y <= config.height + reach)
    return FrameMolecules(rows.frame[near], x[near], y[near], rows.photons[near])


def _truth(config: StackConfig, rows: FrameMolecules, start: int, background_YX: np.ndarray) -> EmitterTable:
    inside = (rows.x_px >= 0) & (rows.x_px < config.width) & (rows.y_px >= 0) & (rows.y_px < config.height)
    frame, x_px, y_px, photons = (column[inside] for column in (rows.frame, rows.x_px, rows.y_px, rows.photons))
    pixel_nm = config.camera.pixel_size_nm
    return EmitterTable(
        frame=frame + start,
        x_nm=x_px * pixel_nm,
        y_nm=y_px * pixel_nm,
        photons=photons,
        background=background_YX[y_px.astype(int), x_px.astype(int)].astype(np.float64),
        psf_sigma_nm=np.full(len(frame), config.spot.sigma_px * pixel_nm),
    )
