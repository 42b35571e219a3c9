"""Likelihood of pieces: exact for AR models and in the order of time, averaged over random orders for masked ones.

Shapes: P pitches, T steps.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from varcli.errors import UsageError, VarError
from varcli.pianoroll.corpus.corpus import Piece, check_rows
from varcli.pianoroll.events import PieceScored
from varcli.pianoroll.generation.batch import Batch
from varcli.pianoroll.inference.packing import Order
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.ensemble import Ensemble
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.sampling.constraints import CanvasConstraints
from varcli.pianoroll.sampling.policy import Policy

PARENTS_AT_ONCE = 512


@dataclass(frozen=True)
class PieceLikelihood:
    """One piece: frames, NLL in nats, that of its first frame (None where frames are not visited one by one), and where
    the nats fall, f32 [P, T] (a coarse decision is spread evenly over the cells it covers)."""

    name: str
    frames: int
    nats: float
    first_frame_nats: float | None
    cells_nats: np.ndarray


@dataclass(frozen=True)
class LikelihoodReport:
    """NLL of a set of pieces, in nats per frame over all frames and over all but each piece's first.

    `bits_per_level` is per frame. `exact` is false where the figure is an upper bound. Where a masked level has
    children in random order it is the NLL averaged over orders, estimated from draws; where a model writes voices or a
    plan it is that of these and the roll together, which is no less than that of the roll.
    """

    nats_per_frame: float
    nats_per_frame_from_2: float | None
    frames: int
    bits_per_level: dict[str, float]
    exact: bool
    pieces: tuple[PieceLikelihood, ...]


def score(
    model: FractalModel | Ensemble,
    pieces: Sequence[Piece],
    *,
    passes: int = 1,
    seed: int = 0,
    constraints: Callable[[Planes, int], CanvasConstraints | None] | None = None,
    in_order: bool = False,
) -> Iterator[PieceScored | LikelihoodReport]:
    """Score pieces one by one; the last item is the report.

    `constraints` say what may sound in a piece of so many steps: the likelihood is then that among such pieces. With a
    limit on polyphony the pieces are followed decision by decision, as in sampling, which takes longer.
    Masked models are scored `passes` times with other draws of what is known, from `seed`; or `in_order`, that of time,
    which is exact. Padding is never scored. Raises UsageError when there is nothing to score or the model has no such
    order, VarError when a piece holds a code the model gives no probability.
    """
    if not pieces:
        raise UsageError("there are no pieces to score", "choose another --split or other data")
    check_rows(model.config, pieces)
    if in_order and model.masked and not all(part.scannable for part in model.parts):
        raise UsageError(
            "masked levels with attention have no likelihood in the order of time", "leave out --order time"
        )
    options = model.config.model
    in_time = in_order or not model.masked
    by_frame = in_time and _visits_frames_in_order(model)
    scored: list[PieceLikelihood] = []
    levels = np.zeros(len(model.levels))
    nats, frames = 0.0, 0
    for done, piece in enumerate(pieces, 1):
        planes = piece.planes(options)
        canvas = planes.canvas_of(piece.cells, piece.voices, options.steps_per_bar)
        limits = None if constraints is None else constraints(planes, piece.cells.shape[1])
        if limits is None and planes.bars is not None:
            limits = CanvasConstraints.on_planes(options, planes, canvas.shape[1])
        violation = None if limits is None else limits.violation(canvas)
        if violation is not None:
            raise VarError(f"{piece.name} cannot be under these limits: {violation}", "loosen them, or leave it out")
        draws = [Draw(torch.Generator(), scan=model.masked)] if in_time else _draws(piece.name, passes, seed)
        per_level, cells = _score_canvas(model, canvas, draws, limits)
        total = float(per_level.sum())
        if not math.isfinite(total):
            raise VarError(
                f"{piece.name} holds something the model gives no probability", "is a held note without an onset?"
            )
        first_frame = float(cells[:, 0].sum()) if by_frame else None
        on_pitches = _on_pitches(cells, planes)
        likelihood = PieceLikelihood(piece.name, on_pitches.shape[1], total, first_frame, on_pitches)
        scored.append(likelihood)
        levels += per_level
        nats, frames = nats + likelihood.nats, frames + likelihood.frames
        yield PieceScored(done, len(pieces), nats / frames)
    first = [piece.first_frame_nats for piece in scored if piece.first_frame_nats is not None]
    rest = frames - len(pieces)
    bits = {f"L{index}": float(value / frames / math.log(2)) for index, value in enumerate(levels)}
    from_2 = (nats - sum(first)) / rest if by_frame and rest else None
    exact = in_time and options.rows == options.pitches
    yield LikelihoodReport(nats / frames, from_2, frames, bits, exact, tuple(scored))


def _visits_frames_in_order(model: FractalModel | Ensemble) -> bool:
    """Whether every decision belongs to one frame, and frames follow one another: first patches one step wide."""
    (_, w), tree = model.tree.shapes[0], model.tree
    return w == 1 and tree.scan_order == "column_major"


def _draws(name: str, passes: int, seed: int) -> list[Draw]:
    """What is known of a piece in each pass: a share of it that is uniform over pieces and spread evenly over passes.

    It hangs on the piece's name, so that a piece costs the same alone and in company.
    """
    base = int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:12], 16)
    offset = base / 16**12
    return [
        Draw(torch.Generator().manual_seed(base + index), known_share=(offset + index / passes) % 1)
        for index in range(passes)
    ]


def _on_pitches(cells: np.ndarray, planes: Planes) -> np.ndarray:
    """Nats of the cells of a canvas [R, T] as those of a roll, f32 [P, T]: added up over voices, a plan's spread evenly
    over the pitches of its step."""
    if planes.bars is not None:
        cells = planes.bars.gather(cells)
    voices = np.sum([cells[planes.pitch_rows(name)] for name in planes.names], 0)
    beside = cells.sum(0) - voices.sum(0)
    return (voices + beside / planes.pitches).astype(np.float32)


@torch.inference_mode()
def _score_canvas(
    model: FractalModel | Ensemble, canvas: np.ndarray, draws: Sequence[Draw], limits: CanvasConstraints | None
) -> tuple[np.ndarray, np.ndarray]:
    """Price a canvas u8 [R, T]; nats of each level, and where they fall [R, T]."""
    model.eval()
    per_level = np.zeros(len(model.levels))
    cells = np.zeros(canvas.shape, np.float64)
    for number, draw in enumerate(draws):
        moving = limits is not None and limits.max_polyphony is not None
        priced = _followed(model, canvas, draw, number, limits) if moving else _walked(model, canvas, draw, limits)
        for level, nats, pitch, step in priced:
            nats = nats / len(draws)
            per_level[level] += nats.sum()
            _spread(cells, nats, pitch, step, model.tree.shapes[min(level, model.tree.depth - 1)])
    return per_level, cells


_Priced = Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]
"""Level, then nats, pitch and step [M] of its decisions."""


def _walked(
    model: FractalModel | Ensemble, canvas: np.ndarray, draw: Draw, limits: CanvasConstraints | None
) -> _Priced:
    """Price all decisions of a level at once."""
    codes = torch.from_numpy(np.ascontiguousarray(canvas))[None].to(model.device)
    known = Limits()
    if limits is not None:
        bars = None if limits.bars is None else torch.from_numpy(limits.bars.metres)[None].to(model.device)
        known = Limits(allowed=torch.from_numpy(limits.allowed)[None].to(model.device), metres=bars)
    for decisions in model.walk(codes, draw, limits=known, chunk=PARENTS_AT_ONCE):
        nats = (decisions.nats.double() * decisions.weight.double()).cpu().numpy()
        yield decisions.level, nats, decisions.pitch.cpu().numpy(), decisions.step.cpu().numpy()


def _followed(
    model: FractalModel | Ensemble, canvas: np.ndarray, draw: Draw, number: int, limits: CanvasConstraints | None
) -> _Priced:
    """Price one decision after another: in random order `number` where levels are masked, or in that of time."""
    if not isinstance(model, FractalModel):
        raise UsageError("a limit on polyphony needs a single model, not an ensemble", "leave out --max-polyphony")
    order = Order(together=1, order="time" if draw.scan and model.masked else "random")
    policy = Policy.following(model.tree, canvas, number)
    batch = Batch(model, [policy], [0], canvas.shape[1], order=order, constraints=limits)
    for _ in batch.events():
        pass
    level, pitch, step, nats = (np.array(column) for column in zip(*batch.samples[0].prices, strict=True))
    for index in range(len(model.levels)):
        at = level == index
        yield index, nats[at], pitch[at], step[at]


def _spread(cells: np.ndarray, nats: np.ndarray, pitch: np.ndarray, step: np.ndarray, shape: tuple[int, int]) -> None:
    """Add each decision's nats to the cells [P, T] it covers, evenly over those that lie on the canvas."""
    h, w = shape
    steps = cells.shape[1]
    share = nats / (h * np.minimum(w, steps - step))
    for dp in range(h):
        for dt in range(w):
            inside = step + dt < steps
            np.add.at(cells, (pitch[inside] + dp, step[inside] + dt), share[inside])
