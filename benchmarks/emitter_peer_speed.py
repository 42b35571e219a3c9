"""Frames per second from a TIFF stack to a CSV table, beside 3D-DAOSTORM on the same frames in the same run.

    python benchmarks/emitter_peer_speed.py [--checkpoint emitter-2d] [--frames 400] [--repeats 3] [--peer]

40 x 40 pixels, sCMOS, one PSF of 1.3 px, 0.1 to 4 emitters per µm²; start-up, compilation and the first look at a stack
left out, medians of `--repeats`. `--peer` needs `pip install sdt-python`; its PSF width is told, its threshold is one
that suits these sets.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from emitter_sets import LAWS, make_set
from support import print_table, run

from varcli.emitters.localize import ChunkDone, Knowledge, Settings, localize
from varcli.emitters.probe import Window
from varcli.emitters.said_camera import SaidCamera
from varcli.emitters.stack import Stack
from varcli.emitters.tables import Field, TableWriter
from varcli.errors import UsageError
from varcli.events import StackProbed
from varcli.registry import load_model

SETS = ("scmos_d0.1", "scmos_d0.5", "scmos_d1", "scmos_d2", "scmos_d4")
_THRESHOLD = 16.0


def main() -> None:
    """Time every set with each polish, and the peer where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="emitter-2d")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="also time 3D-DAOSTORM of sdt-python")
    options = parser.parse_args()
    model, _ = load_model(options.checkpoint, task="emitters")
    rows = []
    for name in SETS:
        law = replace(LAWS[f"classical/{name}"], frames=options.frames)
        counts, _ = make_set(law, 11)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stack.tif"
            tifffile.imwrite(path, counts, photometric="minisblack")
            row = [name]
            for polish in ("mle", "none"):
                times = [seconds_of(path, law.told, model, polish) for _ in range(options.repeats + 1)][1:]
                row.append(f"{options.frames / statistics.median(times):.0f}")
        if options.peer:
            times = [peer_seconds(law.told.to_electrons(counts), law.sigma_px) for _ in range(options.repeats)]
            row.append(f"{options.frames / statistics.median(times):.0f}")
        rows.append(row)
    print_table(["set", "fps, mle", "fps, none", *(["fps, 3D-DAOSTORM"] if options.peer else [])], rows)


def seconds_of(path: Path, camera: Any, model: Any, polish: str) -> float:
    """Seconds from the first frame read to the finished table."""
    stack = Stack.open([path])
    said = SaidCamera(
        pixel_size_nm=camera.pixel_size_nm,
        baseline_adu=camera.baseline_adu,
        e_per_adu=camera.e_per_adu,
        em_gain=camera.em_gain,
        qe=1.0,
        read_noise_e=camera.read_noise_e,
    )
    window = Window(0, stack.width, 0, stack.height, 0, stack.frames)
    began = 0.0
    field = Field(camera.pixel_size_nm, stack.frames, stack.height, stack.width)
    with TableWriter("csv", path.parent, "stack", field) as writer:
        for event in localize(stack, model, Knowledge(said), Settings(window, polish=polish)):
            if isinstance(event, StackProbed):
                began = time.perf_counter()
            elif isinstance(event, ChunkDone):
                writer.append(event.table)
        writer.finish({})
    return time.perf_counter() - began


def peer_seconds(frames_e: np.ndarray, sigma_px: float) -> float:
    """Seconds that 3D-DAOSTORM takes for frames in photoelectrons."""
    try:
        from sdt.loc import daostorm_3d  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UsageError("--peer needs sdt-python", "pip install sdt-python") from None
    began = time.perf_counter()
    for frame_e in frames_e:
        radius = float(np.sqrt(sigma_px**2 + 1 / 12))
        daostorm_3d.locate(np.clip(frame_e, 0.5, None), radius, "2dfixed", _THRESHOLD, max_iterations=20)
    return time.perf_counter() - began


if __name__ == "__main__":
    run(main)
