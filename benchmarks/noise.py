"""What a model trained on independent noise says of more such noise: a leak would make it better than the truth.

Every cell of 88 keys sounds on its own with probability 0.05, which costs 17.47 nats per frame and not less. The
process's own figure on the held-out frames is the yardstick: a model may not lie below it by more than 0.02.

    python benchmarks/noise.py [--steps 600] [--frames 20480] [--passes 4] [--only TEXT]
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from varcli.pianoroll.config import DataConfig, LevelConfig, ModelConfig, MusicTrainConfig, PianorollConfig
from varcli.pianoroll.corpus.arrays import Split
from varcli.pianoroll.corpus.corpus import Corpus, Piece
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Vocabulary
from varcli.pianoroll.training.task import PianorollTask
from varcli.train.loop import learning_rate

KEYS, SHARE, PIECE_STEPS = 88, 0.05, 512
TRAINING_PIECES = 400
ALLOWED = 0.02


@dataclass(frozen=True)
class Case:
    """A tree of levels: child shapes, their kinds and the scan order; `extras` adds all that nodes can be told besides.

    That is copying, pitch classes heard, given cells in training, and for columns of one step perceptrons and the
    number of notes below.
    """

    shapes: tuple[str, ...]
    kinds: tuple[str, ...]
    order: str = "column_major"
    extras: bool = False

    @property
    def name(self) -> str:
        """What the table calls it."""
        levels = " > ".join(f"{kind} {shape}" for kind, shape in zip(self.kinds, self.shapes, strict=True))
        return f"{levels}, {self.order}" + (", with copying and conditioning" if self.extras else "")

    @property
    def options(self) -> dict[str, Any]:
        """What it adds to the model's options."""
        if not self.extras:
            return {}
        echo = {"candidates": 4, "pitches_around": 3, "steps_before": 2, "steps_after": 4}
        return {"echo": echo, "tonality": True, "conditioning": True, "polyphony": self.in_steps}

    @property
    def in_steps(self) -> bool:
        """Whether first patches are one step wide."""
        return self.shapes[0].endswith("x1")


CASES = (
    Case(("88x1", "8x1", "1x1"), ("ar",) * 3),
    Case(("88x4", "8x4", "2x2", "1x1"), ("ar",) * 4),
    Case(("8x8", "4x4", "1x1"), ("ar",) * 3),
    Case(("8x8", "4x4", "1x1"), ("ar",) * 3, "row_major"),
    Case(("8x8", "4x4", "1x1"), ("mar", "ar", "ar")),
    Case(("8x8", "4x4", "1x1"), ("mar",) * 3),
    Case(("88x1", "8x1", "1x1"), ("ar",) * 3, extras=True),
    Case(("8x8", "4x4", "1x1"), ("ar",) * 3, extras=True),
    Case(("8x8", "4x4", "1x1"), ("mar",) * 3, extras=True),
)


def config_of(case: Case, steps: int) -> PianorollConfig:
    """A small model whose windows reach into what comes later, as far as into what came before."""
    level = {
        "width": 32,
        "blocks": 1,
        "heads": 2,
        "steps_before": 6,
        "steps_after": 6,
        "pitches_around": 8,
        "lags": (9,),
        "network": "mlp" if case.extras and case.in_steps else "transformer",
    }
    levels = [
        LevelConfig.model_validate({"kind": kind, "shape": shape} | level)
        for kind, shape in zip(case.kinds, case.shapes, strict=True)
    ]
    train = {"steps": steps, "batch_size": 8, "learning_rate": 1e-2, "warmup_steps": 20, "parents_per_level": 512}
    return PianorollConfig(
        model=ModelConfig.model_validate(
            {
                "vocabulary": "binary",
                "pitches": KEYS,
                "scan_order": case.order,
                "context_steps": 32,
                "levels": tuple(levels),
            }
            | case.options
        ),
        data=DataConfig(crop_steps=64),
        train=MusicTrainConfig.model_validate(train),
    )


def noise(rng: np.random.Generator, pieces: int, split: Split) -> list[Piece]:
    """Pieces u8 [88, 512] of independent cells."""
    cells = (rng.random((pieces, KEYS, PIECE_STEPS)) < SHARE).astype(np.uint8)
    return [Piece(f"{split}{i}", canvas, np.zeros(0, np.int32), 0.0, split) for i, canvas in enumerate(cells)]


def train(model: FractalModel, task: PianorollTask) -> None:
    """Train a model in place."""
    options = task.config.train
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=options.learning_rate, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(0)
    for step in range(options.steps):
        result = task.loss(model, task.batch(step, 0, options.batch_size), Draw(generator, options.parents_per_level))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(options, step)
        optimizer.zero_grad()
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.grad_clip)
        optimizer.step()


@dataclass(frozen=True)
class Measured:
    """Nats per frame of a model and of the noise itself, the standard error of their difference, and seconds.

    The error is that of the draws by which masked models are estimated; exact figures have none.
    """

    nats: float
    own: float
    error: float
    seconds: float


def own_nats(piece: Piece) -> float:
    """Nats per frame that the process itself pays for a piece."""
    on = piece.cells.mean()
    return float(-KEYS * (on * np.log(SHARE) + (1 - on) * np.log(1 - SHARE)))


def measure(case: Case, steps: int, frames: int, passes: int) -> Measured:
    """Train a model for `steps` and score it on `frames` new ones."""
    began = time.perf_counter()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = config_of(case, steps)
    pieces = noise(rng, TRAINING_PIECES, "train") + noise(rng, 1, "valid")
    model = FractalModel(config)
    train(model, PianorollTask(config, Corpus(tuple(pieces), (), Vocabulary(binary=True), 4, "noise")))
    held_out = noise(rng, frames // PIECE_STEPS, "test")
    *_, report = score(model, held_out, passes=passes)
    assert isinstance(report, LikelihoodReport)
    own = [own_nats(piece) for piece in held_out]
    gaps = [part.nats / part.frames - mine for part, mine in zip(report.pieces, own, strict=True)]
    error = 0.0 if report.exact else float(np.std(gaps, ddof=1) / len(gaps) ** 0.5)
    return Measured(report.nats_per_frame, float(np.mean(own)), error, time.perf_counter() - began)


def main() -> None:
    """Print a Markdown table; exit with 1 if any model claims to know more than there is."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="optimiser steps per model")
    parser.add_argument("--frames", type=int, default=20_480, help="held-out frames, a multiple of 512")
    parser.add_argument("--passes", type=int, default=4, help="draws by which masked models are estimated")
    parser.add_argument("--only", default="", help="measure the cases whose name contains this")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    if options.frames < 2 * PIECE_STEPS or options.frames % PIECE_STEPS:
        parser.error(f"--frames is {options.frames}; give a multiple of {PIECE_STEPS} from {2 * PIECE_STEPS} on")
    torch.set_num_threads(options.threads)
    print("| levels | held-out frames | nats/frame | the noise's own | difference | seconds |")
    print("|---|---|---|---|---|---|")
    leaks = 0
    for case in CASES:
        if options.only in case.name:
            found = measure(case, options.steps, options.frames, options.passes)
            gap = found.nats - found.own
            leaks += gap < -ALLOWED - 2 * found.error
            said = f"{gap:+.3f}" + (f" ± {found.error:.3f}" if found.error else "")
            row = (f"{options.frames:,}", f"{found.nats:.3f}", f"{found.own:.3f}", said, f"{found.seconds:.0f}")
            print(f"| {' | '.join((case.name, *row))} |", flush=True)
    raise SystemExit(1 if leaks else 0)


if __name__ == "__main__":
    main()
