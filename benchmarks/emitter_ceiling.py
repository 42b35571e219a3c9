"""What a better network could still bring: the whole pipeline, with a network that knows where every emitter is.

    python benchmarks/emitter_ceiling.py FOLDER [--only classical/blink] [--seeds 1 2 3] [--least 100]

The shipped network looks at the stack first, as always; then candidates at the true places, with the true light, take
the place of its own, and the joint fit and the judgement of how many there are go on as they do. Nothing that tells a
network more (frames before and after, more width, more training) can do better by its candidates. Emitters below
`--least` photoelectrons in a frame are not proposed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from emitter_oracle import score_set
from emitter_sets import LAWS, Law, Truth
from emitters import write_set
from support import print_table, run

from varcli.emitters.camera.file import read_camera
from varcli.emitters.network.predict import Predictor
from varcli.emitters.network.prediction import Conditions, Prediction
from varcli.emitters.pipeline.chunk import ChunkDone, Settings
from varcli.emitters.pipeline.estimator import Calibration
from varcli.emitters.pipeline.localize import Given, localize
from varcli.emitters.pipeline.survey import Microscope
from varcli.emitters.pipeline.trained_domain import TrainedDomain
from varcli.emitters.stack.stack import Stack
from varcli.emitters.stack.window import Window
from varcli.emitters.table import Emitters, concatenate
from varcli.loading import load_model


class Knowing:
    """A network that is told the answer for frames it was shown before, and asks another one about all others."""

    def __init__(self, network: Any, truth: Truth, least_e: float) -> None:
        self.network, self.least_e = network, least_e
        self.truth = truth
        self.frame_of: dict[bytes, int] = {}

    def show(self, frames_e: np.ndarray) -> None:
        """All frames [n, Y, X] of the stack, in photoelectrons as the pipeline makes them."""
        self.frame_of = {frame.astype(np.float32).tobytes(): number for number, frame in enumerate(frames_e)}

    def predict(
        self, frames_e: np.ndarray, conditions: Conditions, *, threshold: float = 0.5, scales: Sequence[int] = ()
    ) -> Prediction:
        """True emitters in place of the network's."""
        said = self.network.predict(frames_e, conditions, threshold=threshold, scales=scales)
        if not self.frame_of:
            return said
        numbers = [self.frame_of[frame.astype(np.float32).tobytes()] for frame in frames_e]
        truth, rows = self.truth, []
        for place, number in enumerate(numbers):
            here = (truth.frame == number) & truth.inside & (truth.electrons >= self.least_e)
            columns = truth.x_px[here], truth.y_px[here], truth.electrons[here]
            rows.append(np.stack([np.full(here.sum(), place), *columns]))
        frame, x, y, electrons = np.concatenate(rows, axis=1)
        sure = np.ones(len(x))
        spread = 0.1 * sure
        spreads = {"sd_x_px": spread, "sd_y_px": spread, "sd_electrons": spread * electrons}
        known = Emitters(frame.astype(np.int64), x, y, electrons, **spreads, probability=sure)
        return replace(said, candidates=known)


def efficiency(law: Law, seed: int, folder: Path, network: Any, least_e: float | None) -> float:
    """E on a set; `least_e` of None leaves the network as it is."""
    truth = write_set(law, seed, folder)
    stack = Stack.open([folder / "stack.tif"])
    window = Window(0, stack.width, 0, stack.height, 0, stack.frames)
    known = Given(read_camera(folder / "camera.toml"), None, TrainedDomain(), Calibration())
    asked = network if least_e is None else Knowing(network, truth, least_e)
    tables = []
    for event in localize(stack, asked, known, Settings(window)):
        if isinstance(event, Microscope) and isinstance(asked, Knowing):
            asked.show(event.camera.to_electrons(window.read(stack, 0, stack.frames)))
        elif isinstance(event, ChunkDone):
            tables.append(event.table)
    return score_set(law, concatenate(tables), truth).efficiency


def main() -> None:
    """Both, set after set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="classical/blink", help="sets whose name holds this")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--checkpoint", default="emitter-2d")
    parser.add_argument("--least", type=float, default=100.0, help="photoelectrons")
    options = parser.parse_args()
    network = Predictor(load_model(options.checkpoint, task="emitters")[0])
    rows = []
    for law in LAWS.values():
        if options.only not in law.name:
            continue
        pairs = [
            [efficiency(law, seed, options.folder / law.name, network, least) for least in (None, options.least)]
            for seed in options.seeds
        ]
        mean = np.mean(pairs, axis=0)
        rows.append([law.name, f"{mean[0]:.2f}", f"{mean[1]:.2f}", f"{mean[1] - mean[0]:+.2f}"])
        print(rows[-1], flush=True)
    print_table(["set", "the network's candidates: E", "true candidates: E", "gain"], rows)


if __name__ == "__main__":
    run(main)
