"""Training on piano rolls, as the training loop needs it: batches of crops, the loss, and the validation figure.

Shapes: B crops, R rows of the canvas (pitches; with voices or form more, see `planes`), T steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from varcli.errors import UsageError
from varcli.events import FilesRead, Warned
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.corpus.corpus import Corpus, Piece, check_rows, read_corpus_of
from varcli.pianoroll.model.canvas import Limits
from varcli.pianoroll.model.copy_attention import Candidates, candidates_of, pad_candidates
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.ensemble import Ensemble, build
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.model.level import level_parameters
from varcli.pianoroll.planes import Planes
from varcli.pianoroll.roll import HELD, crop
from varcli.pianoroll.training.given_masks import draw_given

OPENINGS = 0.2
"""Share of the crops of models with form that begin where the piece does."""


@dataclass(frozen=True)
class CropBatch:
    """Crops u8 [B, R, T], padded with silence at the right, and how many steps of each count [B].

    `given` bool [B, R, T] says which cells are known beforehand, `allowed` where the layout lets cells sound,
    `metres` i64 [B, C] what its columns are, see `BarColumns`; `beyond` counts the steps that lie beyond a bar.
    `candidates` are where whole pieces may copy from.
    """

    codes: Tensor
    steps: Tensor
    given: Tensor | None = None
    allowed: Tensor | None = None
    metres: Tensor | None = None
    candidates: Candidates | None = None
    beyond: int = 0

    @property
    def frames(self) -> int:
        """Steps of music in all crops."""
        return int(self.steps.sum()) - self.beyond


@dataclass(frozen=True)
class Crop:
    """Some steps of a piece, u8 [R, T], and their layout."""

    codes: np.ndarray
    planes: Planes


@dataclass(frozen=True)
class StepLoss:
    """The loss to descend, the NLL estimate of the batch in nats per frame, and its part of each level."""

    loss: Tensor
    nats_per_frame: float
    nats_per_level: tuple[float, ...]


class PianorollTask:
    """Crops of a corpus, transposed at random, priced by the model's own walk."""

    def __init__(self, config: PianorollConfig, corpus: Corpus) -> None:
        self.config = config
        self.planes = Planes.of(config.model)
        self.vocabulary = corpus.vocabulary
        self.pieces = corpus.split("train")
        self.valid = corpus.split("valid")
        for name, pieces in (("training", self.pieces), ("validation", self.valid)):
            if not pieces:
                raise UsageError(f"the corpus has no {name} pieces", "files are split by song number; give more files")
        check_rows(config, (*self.pieces, *self.valid))
        steps = np.array([piece.cells.shape[1] for piece in self.pieces])
        self._planes = {piece.name: piece.planes(config.model) for piece in (*self.pieces, *self.valid)}
        lengths = [self._planes[piece.name].canvas_steps(piece.cells.shape[1]) for piece in self.pieces]
        # Crops of one length are drawn by how many a piece holds; pieces shorter than that all come as often.
        crops = np.maximum(np.array(lengths, np.float64), config.data.crop_steps)
        self._share = crops / crops.sum()
        self._candidates: dict[str, Candidates] = {}
        self.provenance: dict[str, Any] = {
            "corpus": corpus.digest,
            "pieces": len(self.pieces),
            "steps": int(steps.sum()),
            "skipped": len(corpus.skipped),
        }
        if config.model.voices:
            notes = [{name: int((cells > HELD).sum()) for name, cells in (p.voices or {}).items()} for p in self.pieces]
            self.provenance["notes"] = {name: sum(each[name] for each in notes) for name in config.model.voices}
            self.provenance["shared_out"] = len(corpus.notes)

    @classmethod
    def read(cls, config: PianorollConfig, data: Path) -> "Iterator[FilesRead | Warned | PianorollTask]":
        """Read the corpus of a config, with an event per file; the last item is the task.

        For a model with form that knows no metre, pieces in another one are left out: their bars are not the plan's.
        """
        for item in read_corpus_of(config, data):
            if isinstance(item, FilesRead):
                yield item
                continue
            one_metre = config.model.form and not config.model.metre
            corpus = item.in_metre(config.model.steps_per_bar) if one_metre else item
            yield from _notes(item, corpus)
            yield cls(config, corpus)

    def batch(self, step: int, rank: int, size: int) -> CropBatch:
        """The crops of one step: a function of seed, step and rank alone, so that resuming needs no state."""
        rng = np.random.default_rng([self.config.train.seed, step, rank])
        down, up = self.config.data.transpose_down, self.config.data.transpose_up
        pieces = [self.pieces[index] for index in rng.choice(len(self.pieces), size, p=self._share)]
        crops = [self._crop(piece, rng, int(rng.integers(-down, up + 1))) for piece in pieces]
        holes = self.config.data.holes_share
        draw = partial(
            draw_given, rng=rng, holes=holes, planes=self.planes, steps_per_bar=self.config.model.steps_per_bar
        )
        given = None
        if self.config.model.conditioning:
            given = [part.planes.spread_given(draw(part.codes), part.codes)[0] for part in crops]
        return self._collate(pieces, crops, given)

    def validation_batches(self, size: int) -> Iterator[CropBatch]:
        """The same untransposed crops at every validation, spread over the validation pieces, nothing given."""
        rng = np.random.default_rng([self.config.train.seed, 10**9])
        order = rng.permutation(len(self.valid))
        count = self.config.train.validation_crops
        pieces = [self.valid[order[i % len(order)]] for i in range(count)]
        crops = [self._crop(piece, rng, 0) for piece in pieces]
        for start in range(0, count, size):
            yield self._collate(pieces[start : start + size], crops[start : start + size], None)

    def _crop(self, piece: Piece, rng: np.random.Generator, transpose: int) -> Crop:
        planes, start, stop = self._window(piece, rng)
        voices = {name: crop(part, start, stop, self.vocabulary) for name, part in (piece.voices or {}).items()}
        canvas = planes.stack_piece(crop(piece.cells, start, stop, self.vocabulary), voices)
        return Crop(planes.write_plan(planes.transpose(canvas, transpose), self.config.model.steps_per_bar), planes)

    def _window(self, piece: Piece, rng: np.random.Generator) -> tuple[Planes, int, int]:
        """Which steps of a piece a crop holds, and its layout; it begins where a bar does."""
        steps, want = piece.cells.shape[1], self.config.data.crop_steps
        # Beginnings are a part of form, and one downbeat of many would hardly ever show one.
        opens = self.config.model.form and rng.random() < OPENINGS
        whole = self._planes[piece.name]
        if whole.bars is not None:
            count = max(1, want // whole.bars.width)
            starts = np.flatnonzero(whole.bars.begins[: max(1, len(whole.bars.lengths) - count + 1)])
            first = 0 if opens else int(rng.choice(starts))
            bars = whole.bars.crop(first, count)
            start = int(whole.bars.starts[first])
            return replace(whole, bars=bars), start, start + bars.steps
        bars = piece.downbeats[piece.downbeats <= max(0, steps - want)]
        if len(bars) == 0:
            bars = np.arange(0, max(1, steps - want + 1), self.config.model.steps_per_bar)
        start = 0 if opens else int(rng.choice(bars))
        return self.planes, start, min(steps, start + want)

    def _collate(self, pieces: list[Piece], crops: list[Crop], given: list[np.ndarray] | None) -> CropBatch:
        steps = torch.tensor([part.codes.shape[1] for part in crops])
        shape, bar = (len(crops), self.planes.rows, int(steps.max())), self.config.model.steps_per_bar
        codes, known, allowed = np.zeros(shape, np.uint8), np.zeros(shape, bool), np.zeros(shape, bool)
        everything = np.ones(self.planes.pitches, bool)
        metres, beyond = np.full((shape[0], -(-shape[2] // bar)), bar), 0
        for row, part in enumerate(crops):
            width, bars = part.codes.shape[1], part.planes.bars
            codes[row, :, :width] = part.codes
            allowed[row, :, :width] = part.planes.allowed(everything, width, bar)
            if bars is not None:
                metres[row, : len(bars.lengths)] = bars.metres
                beyond += width - bars.steps
            if given is not None:
                known[row, :, :width] = given[row]
        return CropBatch(
            torch.from_numpy(codes),
            steps,
            torch.from_numpy(known) if given is not None else None,
            torch.from_numpy(allowed) if not crops[0].planes.is_roll else None,
            torch.from_numpy(metres) if self.config.model.metre else None,
            self._pointers(pieces, [part.codes for part in crops], shape[2]),
            beyond,
        )

    def _pointers(self, pieces: list[Piece], crops: list[np.ndarray], steps: int) -> Candidates | None:
        """Candidates of a batch of whole pieces as they are: found once a piece, since they depend on nothing drawn."""
        config = self.config
        whole = all(
            part.shape[1] == piece.cells.shape[1] and (part is piece.cells or np.array_equal(part, piece.cells))
            for piece, part in zip(pieces, crops, strict=True)
        )
        if not (config.model.echo.candidates and whole and all(level.is_causal for level in config.model.levels)):
            return None
        for piece in pieces:
            if piece.name not in self._candidates:
                codes = torch.from_numpy(np.ascontiguousarray(piece.cells))
                self._candidates[piece.name] = candidates_of(codes[None], config.model)
        return pad_candidates([self._candidates[piece.name] for piece in pieces], steps, config.model)

    def build(self) -> nn.Module:
        """A freshly initialised model."""
        return build(self.config)

    def networks(self, model: nn.Module) -> Iterator[nn.Module]:
        """The networks of all levels."""
        assert isinstance(model, FractalModel | Ensemble)
        return (level.network for part in model.parts for level in part.level_models)

    def step(self, model: nn.Module, step: int, rank: int) -> "StepLoss":
        """The loss of one step's crops: a function of seed, step and rank alone."""
        assert isinstance(model, FractalModel | Ensemble)
        options = self.config.train
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step * 97 + rank)
        share = options.in_order_share
        scan = all(part.scannable for part in model.parts) and float(torch.rand(1, generator=generator)) < share
        draw = Draw(generator, options.parents_per_level, top=options.top_nodes, in_order=share, scan=scan)
        return self.loss(model, self.batch(step, rank, options.batch_size), draw)

    def draw_sample(self, weights: Mapping[str, Tensor], folder: Path, step: int) -> Path:
        """Sample a roll from `weights` and leave its picture in `folder`/samples."""
        from varcli.files import ensure_output_dir
        from varcli.pianoroll.figures.picture import save_sample_picture

        model = build(self.config).eval()
        if not isinstance(model, FractalModel):
            raise UsageError("train.sample_every: an ensemble does not sample", "set train.sample_every=0")
        model.load_state_dict(weights)
        path = ensure_output_dir(folder / "samples") / f"step_{step:07d}.png"
        save_sample_picture(model, path, steps=self.config.data.crop_steps, seed=self.config.train.seed)
        return path

    def loss(self, model: FractalModel | Ensemble, batch: CropBatch, draw: Draw) -> StepLoss:
        """Price a batch: the mean price of a level's drawn decisions, times the decisions that it has in all.

        The figures beside the loss are unbiased. Members of an ensemble learn each for itself: their losses add up,
        their figures are averaged.
        """
        if not (model.training and isinstance(model, Ensemble)):
            return self._loss(model, batch, draw)
        losses = [self._loss(part, batch, draw) for part in model.parts]
        levels = np.mean([part.nats_per_level for part in losses], 0)
        total = torch.stack([part.loss for part in losses]).sum()
        return StepLoss(total, float(levels.sum()), tuple(map(float, levels)))

    def _loss(self, model: FractalModel | Ensemble, batch: CropBatch, draw: Draw) -> StepLoss:
        frames, device = batch.frames, model.device
        known = (batch.given, batch.allowed, batch.metres)
        limits = Limits(*(None if part is None else part.to(device) for part in known))
        candidates = None if batch.candidates is None else batch.candidates.to(device)
        terms, nats = [], []
        steps_B = batch.steps.to(device)
        walk = model.walk(batch.codes.to(device), draw, steps_B=steps_B, limits=limits, candidates=candidates)
        for decisions in walk:
            if len(decisions.nats) == 0:
                nats.append(0.0)
                continue
            # The plain mean over drawn decisions has far less variance than the unbiased weighted sum (MAR).
            terms.append(decisions.nats.mean() * (decisions.total / frames))
            nats.append(float((decisions.nats.detach() * decisions.weight).sum()) / frames)
        return StepLoss(torch.stack(terms).sum(), sum(nats), tuple(nats))

    @torch.no_grad()
    def validate(self, model: nn.Module, size: int) -> tuple[float, tuple[float, ...]]:
        """NLL in nats per frame over the validation crops, and in bits per level; the same draws every time.

        Masked models that learn the order of time are scored in it.
        """
        assert isinstance(model, FractalModel | Ensemble)
        options = self.config.train
        total, frames = np.zeros(len(model.levels)), 0
        scan = options.in_order_share > 0 and all(part.scannable for part in model.parts)
        for index, batch in enumerate(self.validation_batches(size)):
            top = None if options.top_nodes is None else 8 * options.top_nodes
            draw = Draw(torch.Generator().manual_seed(index), options.parents_per_level, top=top, scan=scan)
            total += batch.frames * np.array(self.loss(model, batch, draw).nats_per_level)
            frames += batch.frames
        per_level = total / frames
        return float(per_level.sum()), tuple(float(nats / np.log(2)) for nats in per_level)


def plan(config: PianorollConfig) -> dict[str, Any]:
    """What a training would do, without data: parameters in all and per level, steps, crops and frames."""
    model = build(config)
    parts = model.parts
    per_level = {f"L{level.level}": len(parts) * level_parameters(level) for level in parts[0].level_models}
    if len(parts[0].echoes):
        per_level["echo"] = len(parts) * level_parameters(parts[0].echoes)
    if parts[0].velocities is not None:
        per_level["velocities"] = len(parts) * level_parameters(parts[0].velocities)
    crops = config.train.steps * config.train.batch_size
    return {
        "name": config.name,
        "parameters": sum(per_level.values()),
        "parameters_per_level": per_level,
        "steps": config.train.steps,
        "crops": crops,
        "frames": crops * config.data.crop_steps,
    }


def _notes(read: Corpus, used: Corpus) -> Iterator[Warned]:
    """What to know of the pieces that are trained on: how many are left out for their metre or have one voice alone."""
    left_out = used.skipped[len(read.skipped) :]
    if left_out:
        example = ": ".join(left_out[0])
        yield Warned(f"{len(left_out)} of {len(read.pieces)} pieces are left out for their metre, such as {example}")
    if used.notes:
        example = ": ".join(used.notes[0])
        yield Warned(f"{len(used.notes)} of {len(used.pieces)} pieces are shared out over voices, such as {example}")
