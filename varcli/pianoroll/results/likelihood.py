"""The likelihood of pieces under a model, with what was left out and where each piece surprised it."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from varcli.errors import UsageError, VarError
from varcli.events import Event, Warned
from varcli.files import refuse_existing, write_bytes
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.corpus.corpus import Corpus, Piece, read_corpus_of
from varcli.pianoroll.figures.picture import png_bytes
from varcli.pianoroll.figures.surprise import draw_surprise
from varcli.pianoroll.results.constraints import Constraints
from varcli.pianoroll.roll import Roll

if TYPE_CHECKING:
    from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, PieceLikelihood
    from varcli.pianoroll.model.ensemble import Ensemble
    from varcli.pianoroll.model.fractal import FractalModel


@dataclass(frozen=True)
class LikelihoodJob:
    """What is to be scored and how, checked; `data` is a path, or pieces that are read already."""

    checkpoint: str
    config: PianorollConfig
    data: Path | Sequence[Piece]
    split: str
    passes: int
    order: str
    constraints: Constraints
    seed: int
    surprise_maps: Path | None


@dataclass(frozen=True)
class Likelihood:
    """The likelihood of pieces; (name, reason) of those that could not be read or break the constraints."""

    job: LikelihoodJob
    report: "LikelihoodReport"
    skipped: tuple[tuple[str, str], ...]
    impossible: tuple[tuple[str, str], ...]
    maps: tuple[Path, ...]

    @property
    def nats_per_frame(self) -> float:
        """Over all frames of all pieces; a frame is one step of the grid."""
        return self.report.nats_per_frame

    @property
    def pieces(self) -> "tuple[PieceLikelihood, ...]":
        """The likelihood of each piece, and where its nats fall."""
        return self.report.pieces

    def rows(self) -> list[dict[str, Any]]:
        """A row per piece: name, frames, nats_per_frame; `pandas.DataFrame` takes them."""
        return [
            {"name": one.name, "frames": one.frames, "nats_per_frame": one.nats / one.frames} for one in self.pieces
        ]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        job, report = self.job, self.report
        pieces = self.rows()
        for piece, path in zip(pieces, self.maps, strict=bool(self.maps)):
            piece["surprise_map"] = str(path)
        return {
            "checkpoint": job.checkpoint,
            "data": str(job.data) if isinstance(job.data, Path) else None,
            "split": job.split,
            "passes": job.passes,
            "order": job.order,
            "nats_per_frame": report.nats_per_frame,
            "nats_per_frame_from_2": report.nats_per_frame_from_2,
            "frames": report.frames,
            "bits_per_level": dict(report.bits_per_level),
            "exact": report.exact,
            "pieces": pieces,
            "skipped": [list(pair) for pair in self.skipped],
            "constraints": job.constraints.document(),
            "impossible": [list(pair) for pair in self.impossible],
        }


def evaluate(
    job: LikelihoodJob, load: "Callable[[], FractalModel | Ensemble]", overwrite: bool
) -> Iterator[Event | Likelihood]:
    """Read, score and draw; the result comes last. `load` gives the model.

    Raises UsageError where there is nothing to score, VarError where every piece breaks the constraints.
    """
    model = load()
    from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score

    pieces, skipped = yield from _read(job)
    pieces, impossible = _possible(pieces, job.constraints, job.config)
    if not pieces:
        name, reason = impossible[0]
        message = f"{_name(job.data)}: none of {len(impossible)} pieces keeps to the constraints; {name}: {reason}"
        raise VarError(message, "loosen them")
    yield from (Warned(f"{name} is left out: {reason}") for name, reason in impossible)
    maps = _maps(job.surprise_maps, pieces, overwrite)
    # The layout of a canvas of voices limits what may sound even where nothing else does.
    limits = partial(job.constraints.on_canvas, job.config)
    in_order = job.order == "time"
    for event in score(model, pieces, passes=job.passes, seed=job.seed, constraints=limits, in_order=in_order):
        if isinstance(event, LikelihoodReport):
            for path, piece, scored in zip(maps, pieces, event.pieces, strict=bool(maps)):
                _draw(path, piece, scored, job.config)
            yield Likelihood(job, event, skipped, tuple(impossible), tuple(maps))
        else:
            yield event


def nats_of_new(model: "FractalModel | Ensemble", roll: Roll) -> float | None:
    """The nats of what of a roll was not kept; None where the model gives it no probability.

    Exact, or for masked models that cannot be walked in the order of time a bound.
    """
    from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score

    limits = partial(Constraints().on_canvas, model.config)
    in_order = model.masked and all(part.scannable for part in model.parts)
    try:
        *_, report = score(model, [Piece.of(roll)], constraints=limits, in_order=in_order)
    except VarError:
        return None
    assert isinstance(report, LikelihoodReport)
    cells_nats = report.pieces[0].cells_nats
    return float((cells_nats if roll.kept is None else cells_nats[~roll.kept]).sum())


def _read(job: LikelihoodJob) -> Generator[Event, None, tuple[list[Piece], tuple[tuple[str, str], ...]]]:
    """Yields events; returns the pieces of the split, and what of the data is left out."""
    if not isinstance(job.data, Path):
        return list(job.data), ()
    corpus = None
    for corpus in read_corpus_of(job.config, job.data):
        if isinstance(corpus, Event):
            yield corpus
    assert isinstance(corpus, Corpus)
    pieces = [piece for piece in corpus.pieces if piece.split == job.split]
    if not pieces:
        raise UsageError(f"{job.data}: no pieces in the split {job.split!r}", "choose another --split")
    yield from (Warned(f"{name} is left out: {reason}") for name, reason in corpus.skipped)
    return pieces, corpus.skipped


def _name(data: Path | Sequence[Piece]) -> str:
    return str(data) if isinstance(data, Path) else "the rolls"


def _possible(
    pieces: list[Piece], constraints: Constraints, config: PianorollConfig
) -> tuple[list[Piece], list[tuple[str, str]]]:
    """The pieces that keep to the constraints, and (name, reason) of those that do not."""
    kept, impossible = [], []
    for piece in pieces:
        planes = piece.planes(config.model)
        limits = constraints.on_canvas(config, planes, piece.cells.shape[1])
        canvas = planes.canvas_of(piece.cells, piece.voices, config.model.steps_per_bar)
        reason = None if limits is None else limits.violation(canvas)
        if reason is None:
            kept.append(piece)
        else:
            impossible.append((piece.name, reason))
    return kept, impossible


def _maps(folder: Path | None, pieces: Sequence[Piece], overwrite: bool) -> list[Path]:
    """Where the surprise map of each piece goes; the number keeps apart names that differ only in their folder."""
    if folder is None:
        return []
    paths = [folder / f"{number:03d}_{PurePath(piece.name).stem}.png" for number, piece in enumerate(pieces)]
    refuse_existing(paths, overwrite)
    return paths


def _draw(path: Path, piece: Piece, scored: "PieceLikelihood", config: PianorollConfig) -> None:
    image = draw_surprise(
        scored.cells_nats,
        title=f"Surprise in {piece.name}",
        steps_per_beat=config.model.steps_per_beat,
        steps_per_bar=config.model.steps_per_bar,
        downbeats=piece.downbeats.tolist() or None,
    )
    write_bytes(path, png_bytes(image))
