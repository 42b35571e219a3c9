"""What tests of the emitter pipeline share: small stacks of bright spots, and a model that takes local maxima."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy import ndimage

from varcli.emitters.network.prediction import Conditions, Prediction
from varcli.emitters.table import Emitters

SCALES = (10, 20, 40, 80)
SIGMA_PX, BASELINE, E_PER_ADU = 1.3, 100.0, 0.5
CAMERA = ["--pixel-size", "100", "--baseline", "100", "--e-per-adu", "0.5", "--read-noise", "1.6", "--qe", "1"]
SAID = [*CAMERA, "--em-gain", "0", "--psf-sigma", "1.3"]


def spots(frames: int = 12, height: int = 40, width: int = 40, seed: int = 0, background_e: float = 10) -> np.ndarray:
    """Frames u16 [n, Y, X] with two to five emitters of about 1000 photoelectrons in each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] + 0.5
    mean = np.full((frames, height, width), float(background_e))
    for frame in mean:
        for x, y in rng.uniform(4, (width - 4, height - 4), (rng.integers(2, 6), 2)):
            spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * SIGMA_PX**2))
            frame += rng.normal(1000, 100) * spot / (2 * np.pi * SIGMA_PX**2)
    electrons = rng.poisson(mean) + rng.normal(0, 1.6, mean.shape)
    return np.clip(np.round(electrons / E_PER_ADU + BASELINE), 0, 65535).astype(np.uint16)


def save_stack(path: Path, frames: np.ndarray, **options: Any) -> Path:
    """A plain TIFF stack, one page per frame."""
    with tifffile.TiffWriter(path) as tif:
        for frame in frames:
            tif.write(frame, photometric="minisblack", contiguous=False, metadata=None, **options)
    return path


class Maxima:
    """A model that finds local maxima and knows nothing else; `stop_at` raises after so many calls."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls, self.frames, self.stop_at = 0, 0, stop_at
        self.conditions: list[Conditions] = []

    def predict(
        self, frames_e: np.ndarray, conditions: Conditions, *, threshold: float = 0.5, scales: tuple[int, ...] = ()
    ) -> Prediction:
        self.calls += 1
        if self.stop_at is not None and self.calls > self.stop_at:
            raise KeyboardInterrupt
        self.frames += len(frames_e)
        self.conditions.append(conditions)
        smooth = ndimage.gaussian_filter(frames_e.astype(np.float64), (0, 1, 1))
        peaks = (smooth == ndimage.maximum_filter(smooth, (0, 5, 5))) & (smooth > np.median(smooth) + 15)
        frame, row, column = np.nonzero(peaks)
        count = len(frame)
        full = np.full(count, 0.1)
        spread = {"sd_x_px": full, "sd_y_px": full, "sd_electrons": full * 1000, "probability": full * 9}
        found = Emitters(frame, column + 0.5, row + 0.5, full * 10_000, **spread)
        counts, cells, of_cells = {}, {}, {}
        for scale in SCALES:
            side = [-(-n * scale // 40) for n in frames_e.shape[1:]]
            of_cells[scale] = len(frames_e) * side[0] * side[1]
            cells[scale] = min(count, of_cells[scale])
            if scale in scales:
                counts[scale] = np.zeros((len(frames_e), side[0] + 1, side[1] + 1), np.float32)
                np.add.at(counts[scale], (frame, row * scale // 40, column * scale // 40), np.float32(0.9))
        return Prediction(found, counts, cells, of_cells)


def column(table: Path, name: str) -> Iterator[float]:
    """A column of a CSV table."""
    lines = table.read_text().splitlines()
    place = lines[0].replace('"', "").split(",").index(name)
    return (float(line.split(",")[place]) for line in lines[1:])
