"""3D-DAOSTORM (sdt-python) and Picasso on the same sets, each at its best: threshold tuned per set, on other frames.

    pip install varcli[bench]        (or any Python that has numpy, scipy, sdt-python and picassosr)
    python benchmarks/emitter_peers.py daostorm|picasso-lq|picasso-mle FOLDER [--family NAME] [--seeds 1] [--only TEXT]

They are told the PSF width within 10% as a user would know it, and exact values of the camera. FOLDER/METHOD.json keeps
the scores and the frames a second of the fit alone, without reading a file.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from emitter_oracle import score_set
from emitter_sets import CAMERAS, LAWS, Law, make_set

from varcli.emitters.evaluation.metrics import Scores
from varcli.emitters.table import EmitterTable

_SIGMA_OFF = 0.1  # what the width that a user tells may be wrong by
_OTHER_SEED = 500_000
_SHARE_TO_TUNE = 6


def electrons_of(law: Law, counts: np.ndarray) -> np.ndarray:
    """Photoelectrons with the half step that counting downwards loses."""
    camera = CAMERAS[law.camera]
    told = (counts + 0.5 - camera.baseline_adu) * camera.e_per_adu * law.gain_told
    return told / camera.gain


def daostorm(law: Law, counts: np.ndarray, sigma_px: float, threshold: float) -> EmitterTable:
    """3D-DAOSTORM with a fixed width; `threshold` is a height in electrons."""
    from sdt.loc import daostorm_3d  # pyright: ignore

    rows = []
    radius = float(np.sqrt(sigma_px**2 + 1 / 12))
    for number, frame in enumerate(electrons_of(law, counts)):
        image = np.clip(frame, 0.5, None)
        found: Any = daostorm_3d.locate(image, radius=radius, model="2dfixed", threshold=threshold, max_iterations=20)
        rows.append(np.stack([np.full(len(found), number), found["x"] + 0.5, found["y"] + 0.5, found["mass"]], 1))
    return _table(law, np.concatenate(rows))


def picasso(law: Law, counts: np.ndarray, sigma_px: float, threshold: float, method: str) -> EmitterTable:
    """Picasso's localize with boxes of 7 pixels, fitting the width too; `threshold` is a net gradient in electrons."""
    from picasso import localize  # pyright: ignore

    camera = CAMERAS[law.camera]
    told = camera.e_per_adu * law.gain_told
    known = {"Baseline": camera.baseline_adu - 0.5, "Sensitivity": told, "Gain": camera.gain}
    known["Pixelsize"] = law.pixel_size_nm
    info = [{"Width": counts.shape[2], "Height": counts.shape[1], "Frames": len(counts)}]
    settings = {"Min. Net Gradient": threshold * camera.gain / told, "Box Size": 7}
    try:
        found = localize.localize_frames(
            counts, info, settings, camera_info=known, fitting_method=method, threaded=True
        )
    except ValueError:
        # Raised where nothing is found.
        return _table(law, np.empty((0, 4)))
    rows = np.stack([found["frame"], found["x"] + 0.5, found["y"] + 0.5, found["photons"]], 1).astype(float)
    return _table(law, rows[np.all(np.isfinite(rows), axis=1)])


def _table(law: Law, rows_E4: np.ndarray) -> EmitterTable:
    frame, x, y, light = np.asarray(rows_E4, float).T
    return EmitterTable(frame.astype(np.int64), x * law.pixel_size_nm, y * law.pixel_size_nm, photons=light)


Peer = Callable[[Law, np.ndarray, float, float], EmitterTable]
_GRADIENTS, _HEIGHTS = [150, 250, 350, 500, 700, 1000, 1400, 2000, 4000], [4, 8, 12, 16, 20, 26, 34, 60, 120]
PEERS: dict[str, tuple[Peer, list[int]]] = {
    "daostorm": (daostorm, _HEIGHTS),
    "picasso-lq": (partial(picasso, method="gausslq-spherical"), _GRADIENTS),
    "picasso-mle": (partial(picasso, method="gaussmle-spherical"), _GRADIENTS),
}


def measure(method: str, law: Law, seed: int) -> dict[str, Any]:
    """Scores of one set at the threshold that is best on other frames of the same law."""
    peer, thresholds = PEERS[method]
    sigma_px = law.sigma_px * np.exp(np.random.default_rng([seed, 5]).uniform(-_SIGMA_OFF, _SIGMA_OFF))
    few = replace(law, frames=max(30, law.frames // _SHARE_TO_TUNE))
    few_counts, few_truth = make_set(few, seed + _OTHER_SEED)

    def quality(threshold: int) -> tuple[float, int]:
        scores: Scores = score_set(few, peer(few, few_counts, sigma_px, threshold), few_truth)
        return (scores.efficiency if law.density else -scores.false_positives), -threshold

    best = max(thresholds, key=quality)
    counts, truth = make_set(law, seed)
    began = time.perf_counter()
    found = peer(law, counts, sigma_px, best)
    seconds = time.perf_counter() - began
    scores = score_set(law, found, truth)
    row = {
        "set": law.name,
        "seed": seed,
        "method": method,
        "threshold": best,
        "frames_per_second": law.frames / seconds,
    }
    return row | {name: None if value != value else value for name, value in asdict(scores).items()}


def main() -> None:
    """Measure a peer on the sets that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=["classical", "mismatch", "held-out"], action="append")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in options.seeds:
        for law in LAWS.values():
            if options.only in law.name and (not options.family or law.family in options.family):
                rows.append(measure(options.method, law, seed))
                speed, quality = rows[-1]["frames_per_second"], rows[-1]["efficiency"]
                print(f"{law.name:34s} E {quality:6.2f} {speed:8.1f} frames/s", flush=True)
    (options.folder / f"{options.method}.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
