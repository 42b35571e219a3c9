"""One chunk of frames: read, turned into photoelectrons, predicted, polished, and written as rows of a table.

Legend: n frames of a chunk, E emitters, Y X camera pixels.
"""

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from varcli.emitters.camera.hot_pixels import filled
from varcli.emitters.config import FIELD_PX
from varcli.emitters.network.prediction import Prediction
from varcli.emitters.pipeline.estimator import Calibration, Estimator
from varcli.emitters.pipeline.survey import Microscope, Network
from varcli.emitters.stack.stack import Stack, StackHealth
from varcli.emitters.stack.window import Window
from varcli.emitters.table import Emitters, EmitterTable
from varcli.errors import VarError
from varcli.events import Event

_CHUNK_PIXELS = 64 * 40 * 40
_CANDIDATES = 0.5  # probability from which on a candidate is looked at


@dataclass(frozen=True)
class Settings:
    """What to do with a stack.

    `window` is the part to analyse, `to_end` whether it is meant to reach the stack's end, `polish` "mle" or "none",
    `batch_size` the frames at a time (None: by their size), `map_scale` the scale whose expected counts are wanted.
    """

    window: Window
    threshold: float = 0.5
    polish: str = "mle"
    batch_size: int | None = None
    map_scale: int | None = None
    to_end: bool = True

    @property
    def chunk(self) -> int:
        """Frames at a time."""
        pixels = self.window.height * self.window.width
        return self.batch_size or max(1, _CHUNK_PIXELS // pixels)


@dataclass(frozen=True)
class ChunkDone(Event):
    """Emitters of frames `start` to `stop` - 1 of the stack, sorted by frame, then y, then x.

    `counts` are expected emitters per cell of the map's scale [n, rows, columns], if wanted; `cells` those worked out
    and in all, by scale; `health` what was seen of the frames.
    """

    start: int
    stop: int
    table: EmitterTable
    counts: np.ndarray | None
    cells: dict[int, tuple[int, int]]
    health: StackHealth


@dataclass(frozen=True)
class ChunkAnalysis:
    """All that is needed to analyse any chunk of a stack; chunks do not depend on one another."""

    stack: Stack
    network: Network
    microscope: Microscope
    polish: Estimator
    calibration: Calibration
    settings: Settings

    def analyse(self, start: int, stop: int) -> tuple[ChunkDone | None, VarError | None]:
        """Frames `start` to `stop` - 1, or those before the first that cannot be read, and why it cannot."""
        window, microscope = self.settings.window, self.microscope
        frames_adu, error = _readable(self.stack, window, start, stop)
        if not len(frames_adu):
            return None, error
        health = StackHealth.of(self.stack)
        health.add(start, frames_adu)
        unusable = frames_adu >= health.limit if health.saturated else None
        frames_e = microscope.camera.to_electrons(frames_adu)
        prediction = self._predict(frames_e)
        if microscope.hot is not None and microscope.hot.any():
            unusable = microscope.hot[None] if unusable is None else unusable | microscope.hot
        if unusable is not None and self.settings.polish != "none":
            # A saturated pixel says only "at least", a hot one nothing: they have no part in the fit.
            frames_e = np.where(unusable, np.float32(np.nan), frames_e)
        found = self._find(frames_e, prediction)
        cells = {scale: (count, prediction.of_cells[scale]) for scale, count in prediction.cells.items()}
        table = table_of(found, microscope, window, start, self.calibration)
        return ChunkDone(start, start + len(frames_e), table, self._counts(prediction), cells, health), error

    def _predict(self, frames_e: np.ndarray) -> Prediction:
        hot, settings = self.microscope.hot, self.settings
        return self.network.predict(
            frames_e if hot is None else filled(frames_e, hot),
            self.microscope.conditions,
            # What the network doubts may still be judged by the image: the user's threshold comes after that.
            threshold=min(settings.threshold, _CANDIDATES),
            scales=() if settings.map_scale is None else (settings.map_scale,),
        )

    def _find(self, frames_e: np.ndarray, prediction: Prediction) -> Emitters:
        """The emitters that reach the threshold, sorted by frame, then y, then x."""
        microscope = self.microscope
        priors = microscope.priors
        found = self.polish.emitters(frames_e, prediction.candidates, microscope.noise, microscope.psf, priors)
        found = replace(found, probability=self.calibration.probability(found.probability))
        found = found.rows(found.probability >= self.settings.threshold)
        return found.rows(np.lexsort((found.x_px, found.y_px, found.frame)))

    def _counts(self, prediction: Prediction) -> np.ndarray | None:
        scale = self.settings.map_scale
        if scale is None:
            return None
        rows, columns = map_shape(self.settings.window, scale)
        return prediction.counts[scale][:, :rows, :columns]


def _readable(stack: Stack, window: Window, start: int, stop: int) -> tuple[np.ndarray, VarError | None]:
    """Frames of the window up to the first one that cannot be read, and why it cannot."""
    try:
        return window.read(stack, start, stop), None
    except VarError:
        frames = [np.zeros((0, window.height, window.width), stack.dtype)]
        for frame in range(start, stop):
            try:
                frames.append(window.read(stack, frame, frame + 1))
            except VarError as error:
                return np.concatenate(frames), error
        raise


def map_shape(window: Window, scale: int) -> tuple[int, int]:
    """Rows and columns of the map of a scale: as many as the window has pixels, times cells per pixel."""
    return math.ceil(window.height * scale / FIELD_PX), math.ceil(window.width * scale / FIELD_PX)


def table_of(
    found: Emitters, microscope: Microscope, window: Window, first_frame: int, calibration: Calibration
) -> EmitterTable:
    """Emitters in nm from the corner of the whole frame, and in photons."""
    camera, psf = microscope.camera, microscope.psf
    nm, qe = camera.pixel_size_nm, camera.qe
    position, photons = nm * calibration.position_factor, calibration.photon_factor / qe
    noise = np.sqrt(camera.excess * np.maximum(found.background, 0) + float(np.mean(camera.read_variance)))
    return EmitterTable(
        frame=found.frame.astype(np.int64) + first_frame,
        x_nm=(found.x_px + window.left) * nm,
        y_nm=(found.y_px + window.top) * nm,
        photons=found.electrons / qe,
        background=found.background / qe,
        background_std=noise / qe,
        psf_sigma_nm=np.full(len(found), psf.sigma_px * nm),
        sd_x_nm=found.sd_x_px * position,
        sd_y_nm=found.sd_y_px * position,
        sd_photons=found.sd_electrons * photons,
        sd_background=None if found.sd_background is None else found.sd_background / qe,
        crlb_xy_nm=found.crlb_px * nm,
        probability=found.probability,
    )


def no_emitters(polish: str) -> EmitterTable:
    """A table without rows that has the columns of a run with this polish."""
    absent = {"meta", *(() if polish == "mle" else ("sd_background",))}
    columns = {field.name: np.empty(0) for field in fields(EmitterTable) if field.name not in absent}
    return EmitterTable(**{**columns, "frame": np.empty(0, np.int64)})
