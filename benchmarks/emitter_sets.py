"""Stacks of many microscopes with their truth, for the benchmarks of emitters; numpy and scipy alone.

Three families: "classical" (one PSF at rising density, two cameras, blinking, isolated grids), "mismatch" (many PSFs,
photon laws, backgrounds and cameras, some of them not as told, and empty frames) and "held-out" (other pixels, tails,
PSFs that are no Gaussian, structured fields). Lengths in camera pixels, light in photoelectrons; seeded by name.

Legend: F frames, Y X camera pixels, E emitters.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.special import erf, j0

from varcli.emitters.camera.camera import Camera

SIZE_PX = 40
_OVERSAMPLED, _STEP_PX = 5, 0.2  # samples per pixel and axis, and table, of PSFs that have no closed form


@dataclass(frozen=True)
class TrueCamera:
    """What a camera does: counts are `baseline_adu` plus whole steps of `e_per_adu` electrons at its output."""

    baseline_adu: float
    e_per_adu: float
    read_noise_e: float
    em_gain: float | None = None
    spurious_e: float = 0.0

    @property
    def gain(self) -> float:
        """The multiplication of electrons."""
        return self.em_gain or 1.0


CAMERAS = {
    "scmos": TrueCamera(100.0, 0.5, 1.6),
    "emccd": TrueCamera(100.0, 45.0, 74.4, em_gain=300.0, spurious_e=0.002),
    "lowread": TrueCamera(400.0, 0.24, 0.7),
    "ccd": TrueCamera(300.0, 1.2, 5.0),
}


@dataclass(frozen=True)
class Law:
    """What a set is drawn from.

    `electrons` and `spread` are mean and standard deviation of a normal law, or median and log deviation of a
    log-normal one. `density` counts emitters per µm². `kind` is random (each in one frame), blink or grid; `place`
    uniform, filament or cluster; `psf` gauss, airy or defocus. `gain_told` is what the told e-/ADU is wrong by, `hot`
    the share of pixels with a fixed offset.
    """

    name: str = ""
    family: str = ""
    frames: int = 150
    sigma_px: float = 1.3
    density: float = 0.5
    electrons: float = 1000.0
    spread: float = 200.0
    log_normal: bool = False
    background: float = 10.0
    gradient: bool = False
    camera: str = "scmos"
    pixel_size_nm: float = 100.0
    kind: str = "random"
    place: str = "uniform"
    psf: str = "gauss"
    tail: float = 0.0
    tail_scale: float = 2.0
    ellipticity: float = 1.0
    gain_told: float = 1.0
    hot: float = 0.0

    @property
    def told(self) -> Camera:
        """The camera as its user knows it."""
        true = CAMERAS[self.camera]
        return Camera(
            self.pixel_size_nm,
            true.baseline_adu,
            true.e_per_adu * self.gain_told,
            em_gain=true.em_gain,
            read_noise_e=true.read_noise_e,
        )

    @property
    def faithful(self) -> bool:
        """Whether camera and PSF are as told and modelled: what calibration is pooled over."""
        odd = self.tail or self.ellipticity != 1 or self.gain_told != 1 or self.hot or self.psf != "gauss"
        return not odd


@dataclass(frozen=True)
class Truth:
    """All emitters, also those outside the field that shine into it, and the background [F, Y, X]."""

    frame: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray
    electrons: np.ndarray
    background_FYX: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Which lie in the field."""
        place = np.stack([self.x_px, self.y_px])
        return np.all((place >= 0) & (place < SIZE_PX), axis=0)


def _classical() -> Iterator[Law]:
    """Textbook sets: cameras and PSF as told, over densities and brightnesses."""
    for density, frames in ((0.1, 800), (0.5, 400), (1.0, 300), (2.0, 200), (4.0, 120)):
        yield Law(f"scmos_d{density:g}", density=density, frames=frames)
    for density, frames in ((0.5, 400), (2.0, 200)):
        yield Law(f"emccd_d{density:g}", density=density, frames=frames, camera="emccd")
    for density, frames in ((0.5, 400), (2.0, 200), (4.0, 120)):
        yield Law(f"blink_d{density:g}", density=density, frames=frames, kind="blink")
    for electrons in (300.0, 1000.0, 5000.0, 20000.0):
        yield Law(f"grid_{electrons:g}", electrons=electrons, spread=0.0, kind="grid", frames=250)


def _mismatch() -> Iterator[Law]:
    """One thing at a time differs from the middle: light, width, camera, background, shape."""
    for sigma in (0.9, 1.3, 1.8, 2.1):
        yield Law(f"sigma{sigma:g}_d0.5", sigma_px=sigma)
        yield Law(f"sigma{sigma:g}_d2", sigma_px=sigma, density=2.0, frames=80)
    for electrons in (300.0, 1000.0, 5000.0, 20000.0):
        yield Law(f"grid_{electrons:g}ph", electrons=electrons, spread=0.0, kind="grid")
        if electrons != 1000.0:
            yield Law(f"ph{electrons:g}_d0.5", electrons=electrons, spread=0.2 * electrons)
    for sigma in (0.9, 2.1):
        yield Law(f"grid_5000ph_sigma{sigma:g}", electrons=5000.0, spread=0.0, kind="grid", sigma_px=sigma)
    for background in (1.0, 100.0):
        yield Law(f"bg{background:g}_d0.5", background=background)
    bright = {"electrons": 3000.0, "spread": 600.0, "density": 2.0, "frames": 80}
    yield Law("bg100_ph3000_d2", background=100.0, **bright)
    yield Law("gradbg_d0.5", background=20.0, gradient=True)
    yield Law("emccd_d0.5", camera="emccd")
    yield Law("emccd_sigma1.6_d2", camera="emccd", sigma_px=1.6, density=2.0, frames=80)
    yield Law("lowread_bg1_ph300_d0.5", camera="lowread", background=1.0, electrons=300.0, spread=60.0)
    yield Law("ccd_ph2000_d0.5", camera="ccd", electrons=2000.0, spread=400.0)
    yield Law("tail20_d0.5", tail=0.2)
    yield Law("tail20_ph5000_d0.5", tail=0.2, electrons=5000.0, spread=1000.0)
    yield Law("lognormal_d1", log_normal=True, electrons=1500.0, spread=0.8, density=1.0, frames=100)
    yield Law("ph5000_d2", electrons=5000.0, spread=1000.0, density=2.0, frames=80)
    yield Law("sigma1.3_d4", density=4.0, frames=50)
    yield Law("ellip1.15_d0.5", ellipticity=1.15)
    yield Law("gain+20_d0.5", gain_told=1.2)
    yield Law("hotpix_d0.5", hot=0.002)
    for background in (1.0, 10.0, 100.0):
        yield Law(f"empty_bg{background:g}", density=0.0, background=background, frames=400)
    yield Law("empty_gradbg", density=0.0, background=20.0, gradient=True, frames=400)
    yield Law("empty_emccd", density=0.0, camera="emccd", frames=400)


def _held_out() -> Iterator[Law]:
    """What the fit was not tuned on: other pixels and tails, Airy spots, structures."""
    for sigma in (1.1, 1.6):
        yield Law(f"sigma{sigma:g}_d1", sigma_px=sigma, density=1.0, frames=100)
    for pixel, sigma, dense in ((65.0, 1.6, 4.0), (160.0, 1.1, 1.0)):
        yield Law(f"pixel{pixel:g}_d0.5", pixel_size_nm=pixel, sigma_px=sigma)
        yield Law(f"pixel{pixel:g}_d{dense:g}", pixel_size_nm=pixel, sigma_px=sigma, density=dense, frames=80)
    for density, frames in ((0.5, 150), (2.0, 80)):
        dense = {"density": density, "frames": frames}
        yield Law(f"tail10x3_d{density:g}", tail=0.1, tail_scale=3.0, **dense)
        yield Law(f"airy_d{density:g}", psf="airy", **dense)
        yield Law(f"defocus_d{density:g}", psf="defocus", **dense)
    for place, densities in (("filament", (0.5, 1.0)), ("cluster", (0.2, 0.5))):
        for density in densities:
            yield Law(f"{place}_d{density:g}", place=place, density=density)


LAWS = {
    f"{family}/{law.name}": replace(law, name=f"{family}/{law.name}", family=family)
    for family, laws in (("classical", _classical()), ("mismatch", _mismatch()), ("held-out", _held_out()))
    for law in laws
}
"""All sets under their names."""


def make_set(law: Law, seed: int) -> tuple[np.ndarray, Truth]:
    """Counts u16 [F, Y, X] and the truth; other sets and seeds are independent."""
    rng = np.random.default_rng([seed, zlib.crc32(law.name.encode())])
    frame, x, y, electrons = _emitters(law, rng)
    truth = Truth(frame, x, y, electrons, _background(law, rng))
    expected = truth.background_FYX.copy()
    for number in np.unique(frame):
        here = frame == number
        expected[number] += np.tensordot(electrons[here], spots(law, x[here], y[here]), 1)
    counts = _expose(expected, CAMERAS[law.camera], rng)
    if law.hot:
        hot = rng.random(counts.shape[1:]) < law.hot
        counts = counts + (hot * rng.uniform(40, 400, hot.shape)).astype(np.int64)
    return np.clip(counts, 0, 65535).astype(np.uint16), truth


def _expose(expected: np.ndarray, camera: TrueCamera, rng: np.random.Generator) -> np.ndarray:
    electrons = rng.poisson(expected + camera.spurious_e).astype(float)
    if camera.em_gain:
        electrons = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1e-9), camera.em_gain), 0.0)
    electrons += rng.normal(0, camera.read_noise_e, electrons.shape)
    return np.floor(electrons / camera.e_per_adu + camera.baseline_adu).astype(np.int64)


def _background(law: Law, rng: np.random.Generator) -> np.ndarray:
    """Flat, or in every frame another slope of about 8 to 1 across the field and a smooth glow."""
    flat = np.full((law.frames, SIZE_PX, SIZE_PX), law.background)
    if not law.gradient:
        return flat
    place = (np.arange(SIZE_PX) + 0.5) / SIZE_PX
    angle = rng.uniform(0, 2 * np.pi, law.frames)[:, None, None]
    centre_x, centre_y = rng.uniform(0.2, 0.8, (2, law.frames, 1, 1))
    slope = np.cos(angle) * (place - 0.5) + np.sin(angle) * (place[:, None] - 0.5)
    glow = np.exp(-((place - centre_x) ** 2 + (place[:, None] - centre_y) ** 2) / (2 * 0.2**2))
    return flat * (np.exp(2 * slope) + 1.5 * glow) / 1.4


def _emitters(law: Law, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frame, x, y and light of every emitter."""
    if law.kind == "grid":
        steps = SIZE_PX / 2 + 12.0 * np.array([-1, 0, 1])
        x, y = (np.tile(axis.ravel(), law.frames) for axis in np.meshgrid(steps, steps))
        jitter = rng.uniform(-0.5, 0.5, (2, len(x)))
        return np.repeat(np.arange(law.frames), 9), x + jitter[0], y + jitter[1], np.full(len(x), law.electrons)
    margin = 3 * law.sigma_px
    mean = law.density * ((SIZE_PX + 2 * margin) * law.pixel_size_nm / 1000) ** 2
    place = _placing(law, margin, rng)
    if law.kind == "random":
        frame = np.repeat(np.arange(law.frames), rng.poisson(mean, law.frames))
        x, y = place(len(frame))
        return frame, x, y, _light(law, len(frame), rng)
    life, before = 2.0, 8
    count = rng.poisson(mean * (law.frames + 2 * before) / life)
    began = rng.uniform(-before, law.frames + before, count)
    ended = began + rng.exponential(life, count)
    x, y = place(count)
    light = _light(law, count, rng)
    on = np.clip(
        np.minimum(ended[:, None], np.arange(1, law.frames + 1)) - np.maximum(began[:, None], np.arange(law.frames)),
        0,
        1,
    )
    molecule, frame = np.nonzero(on > 0)
    order = np.argsort(frame, kind="stable")
    molecule, frame = molecule[order], frame[order]
    return frame, x[molecule], y[molecule], light[molecule] * on[molecule, frame]


def _light(law: Law, count: int, rng: np.random.Generator) -> np.ndarray:
    if law.log_normal:
        light = law.electrons * np.exp(law.spread * rng.normal(size=count))
    else:
        light = rng.normal(law.electrons, law.spread, count)
    return np.clip(light, 0.2 * law.electrons, 20 * law.electrons)


def _placing(law: Law, margin: float, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """A function that draws [x, y] of so many emitters on the structure of this set."""
    low, high = -margin, SIZE_PX + margin
    if law.place == "filament":
        points, angles = rng.uniform(0, SIZE_PX, (5, 2)), rng.uniform(0, np.pi, 5)

        def on_filaments(count: int) -> np.ndarray:
            which, along = rng.integers(0, 5, 4 * count + 100), rng.uniform(-80, 80, 4 * count + 100)
            bend = 4 * np.sin(along / 9 + which)
            across = bend + rng.normal(0, 0.3, len(which))
            x = points[which, 0] + along * np.cos(angles[which]) - across * np.sin(angles[which])
            y = points[which, 1] + along * np.sin(angles[which]) + across * np.cos(angles[which])
            inside = (np.minimum(x, y) > low) & (np.maximum(x, y) < high)
            return np.stack([x, y])[:, inside][:, :count]

        return on_filaments
    if law.place == "cluster":
        centres = rng.uniform(0, SIZE_PX, (12, 2))
        return lambda count: centres[rng.integers(0, 12, count)].T + rng.normal(0, 1.5, (2, count))
    return lambda count: rng.uniform(low, high, (2, count))


def spots(law: Law, x_E: np.ndarray, y_E: np.ndarray) -> np.ndarray:
    """Images [E, Y, X] of emitters with the light of one."""
    if law.psf != "gauss":
        return _sampled(law, x_E, y_E)
    image = np.zeros((len(x_E), SIZE_PX, SIZE_PX))
    for share, wide in ((1 - law.tail, 1.0), (law.tail, law.tail_scale)):
        if share:
            along_x = _integrals(x_E, law.sigma_px * wide * law.ellipticity)
            along_y = _integrals(y_E, law.sigma_px * wide / law.ellipticity)
            image += share * along_y[:, :, None] * along_x[:, None, :]
    return image


def _integrals(centre_E: np.ndarray, sigma_px: float) -> np.ndarray:
    edges = np.arange(SIZE_PX + 1) - centre_E[:, None]
    return np.diff(0.5 * (1 + erf(edges / (math.sqrt(2) * sigma_px))), axis=1)


def _sampled(law: Law, x_E: np.ndarray, y_E: np.ndarray) -> np.ndarray:
    surface = _surface(law.psf, law.sigma_px)
    centres = np.arange(SIZE_PX) + 0.5
    image = np.empty((len(x_E), SIZE_PX, SIZE_PX))
    for number, (x, y) in enumerate(zip(x_E, y_E, strict=True)):
        image[number] = surface(centres - y, centres - x)
    return image


@lru_cache
def _surface(psf: str, sigma_px: float) -> RectBivariateSpline:
    """Light in a pixel whose centre lies y, x from an emitter, behind a circular pupil.

    "defocus" has a phase of 1.5 rad at the pupil's edge. The scale is that at which the disc in focus is best fitted by
    a Gaussian of this width, which is 1.323 optical units wide.
    """
    v = np.linspace(0, 80, 8001)
    pupil = (np.arange(400) + 0.5) / 400
    phase = np.exp(1j * (1.5 if psf == "defocus" else 0.0) * pupil**2)
    intensity = np.abs((j0(v[:, None] * pupil) * (pupil * phase)).sum(1)) ** 2
    intensity /= np.sum(2 * np.pi * v * intensity * (v[1] - v[0]))
    scale = 1.323 / sigma_px
    reach = SIZE_PX + 4 * sigma_px + 2
    place = np.arange(-reach, reach + _STEP_PX, _STEP_PX)
    light = np.zeros((len(place), len(place)))
    inside = (np.arange(_OVERSAMPLED) + 0.5) / _OVERSAMPLED - 0.5
    for across in inside:
        for down in inside:
            radius = np.hypot(place + across, (place + down)[:, None]) * scale
            light += np.interp(radius, v, intensity, right=0.0) * scale**2 / _OVERSAMPLED**2
    return RectBivariateSpline(place, place, light)
