"""Generated music against real music: overlaps of metrics, a classifier that tells them apart, and copies."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from varcli.pianoroll.corpus.corpus import Piece
from varcli.pianoroll.evaluation.form import Form, compare_forms
from varcli.pianoroll.evaluation.music_metrics import (
    HISTOGRAMS,
    METRICS,
    Metre,
    Metric,
    MusicMetrics,
    classes_of,
    measure_window,
)
from varcli.pianoroll.evaluation.overlap import (
    Interval,
    Profile,
    histogram_profile,
    interval,
    kernel_profile,
    mean_overlap,
    resample,
    resampled_overlaps,
)
from varcli.pianoroll.evaluation.shared_runs import Shared, Voices, shared_runs
from varcli.pianoroll.evaluation.two_sample import TwoSample, classifiers_of, two_sample
from varcli.pianoroll.evaluation.windows import Window, pieces_of
from varcli.pianoroll.events import MetricCompared
from varcli.pianoroll.roll import Vocabulary

_REAL_DRAWS = 20
_FEWEST_PIECES = 4  # below, real songs are not compared among themselves


@dataclass(frozen=True)
class Options:
    """How to compare: the metre that bars are counted in, the seed, and how often windows are drawn again."""

    metre: Metre = field(default_factory=Metre)
    seed: int = 0
    resamples: int = 200


@dataclass(frozen=True)
class Compared:
    """One metric of both sides: values per window, distributions, and how they overlap.

    `generated` and `reference` are f64 [A], or counts i64 [A, X] for a histogram. `real` is what real windows reach
    among themselves (see `MusicComparison`).
    """

    metric: Metric
    generated: np.ndarray
    reference: np.ndarray
    profile: Profile
    overlap: Interval
    real: float


@dataclass(frozen=True)
class Copies:
    """What windows share with the training pieces, all voices or the top line: one Shared per window and side.

    `as_many` is the median, over random draws of as many held-out windows as there are generated ones, of the steps of
    their longest shared run: a maximum grows with the number of windows.
    """

    voices: Voices
    generated: tuple[Shared, ...]
    held_out: tuple[Shared, ...]
    as_many: float


@dataclass(frozen=True)
class MusicComparison:
    """All that was compared. `mean` is over the core metrics, `mean_all` over all.

    `real` and `real_all` are what real songs reach among themselves: one window of each of some reference pieces, as
    many as there are generated windows but no more than half of the pieces, against all windows of the other pieces,
    averaged over random draws; `real_windows` is their number, 0 where there are fewer than four pieces.
    `two_sample` is None where a side has too few pieces; `form` is that of generated and of real pieces. `held_out`
    lists the reference windows of pieces that are no training pieces.
    """

    generated: tuple[Window, ...]
    reference: tuple[Window, ...]
    training: tuple[Piece, ...]
    silent: int
    metrics: tuple[Compared, ...]
    mean: Interval
    mean_all: Interval
    real: float
    real_all: float
    real_windows: int
    two_sample: TwoSample | None
    form: tuple[Form, Form]
    held_out: tuple[Window, ...]
    copies: tuple[Copies, ...]

    @property
    def lowest(self) -> Compared | None:
        """The core metric that overlaps least; None if none is defined."""
        known = [one for one in self.metrics if one.metric.core and np.isfinite(one.overlap.value)]
        return min(known, key=lambda one: one.overlap.value, default=None)


def compare_music(
    generated: Sequence[Window],
    reference: Sequence[Window],
    training: Sequence[Piece],
    vocabulary: Vocabulary,
    options: Options,
) -> Iterator[MetricCompared | MusicComparison]:
    """Compare windows, at least one on either side, with an event per figure; the last item is the MusicComparison.

    Metrics that need velocities are left out where the vocabulary has none; copies where there is no training piece.
    """
    rng = np.random.default_rng(options.seed)
    asked = [metric for metric in (*METRICS, *HISTOGRAMS) if not (metric.needs_velocity and vocabulary.binary)]
    classifiers = classifiers_of(generated, reference, vocabulary)
    total = len(asked) + len(classifiers) + (len(Voices) if training else 0)
    ours, theirs = (
        [measure_window(window.cells, vocabulary, options.metre) for window in side] for side in (generated, reference)
    )
    draws = list(_draws_of_real(reference, len(generated), rng))
    weights = resample(len(ours), options.resamples, rng), resample(len(theirs), options.resamples, rng)
    metrics: list[Compared] = []
    resampled: list[np.ndarray] = []
    for metric in asked:
        one, other = _values(metric, ours), _values(metric, theirs)
        classes = classes_of(metric, vocabulary, options.metre) if metric in HISTOGRAMS else None
        profile = _profile(metric, one, other, classes)
        resampled.append(resampled_overlaps(profile, *weights))
        overlap = interval(profile.overlap, resampled[-1])
        real = mean_overlap([_profile(metric, other[some], other[rest], classes).overlap for some, rest in draws])
        metrics.append(Compared(metric, one, other, profile, overlap, real))
        yield MetricCompared(len(metrics), total, metric.label.lower())
    told = None
    for told in two_sample(generated, reference, vocabulary, options.metre, options.seed) if classifiers else ():
        if isinstance(told, str):
            yield MetricCompared(len(metrics) + classifiers.index(told) + 1, total, f"classifier, {told}")
    held_out = _held_out(reference, training)
    copies: list[Copies] = []
    for voices in Voices if training else ():
        copies.append(_copies(voices, generated, held_out, training, vocabulary, options, rng))
        yield MetricCompared(total - len(Voices) + len(copies), total, f"copies, {voices.replace('_', ' ')}")
    core = [one.metric.core for one in metrics]
    yield MusicComparison(
        generated=tuple(generated),
        reference=tuple(reference),
        training=tuple(training),
        held_out=tuple(held_out),
        silent=sum(not one.velocities.any() for one in ours),
        metrics=tuple(metrics),
        mean=_mean(metrics, resampled, core),
        mean_all=_mean(metrics, resampled, [True] * len(core)),
        real=mean_overlap([one.real for one in metrics if one.metric.core]),
        real_all=mean_overlap([one.real for one in metrics]),
        real_windows=len(draws[0][0]) if draws else 0,
        form=compare_forms(generated, reference, vocabulary, options.metre.steps_per_bar, rng),
        two_sample=told if isinstance(told, TwoSample) else None,
        copies=tuple(copies),
    )


def _held_out(windows: Sequence[Window], training: Sequence[Piece]) -> list[Window]:
    """Those of pieces that are no training pieces."""
    known = {_content(piece) for piece in training}
    trained = {id(piece) for piece in pieces_of(windows) if _content(piece) in known}
    return [window for window in windows if id(window.piece) not in trained]


def _content(piece: Piece) -> bytes:
    return hashlib.sha256(piece.cells.tobytes()).digest()


def _values(metric: Metric, side: Sequence[MusicMetrics]) -> np.ndarray:
    """A metric of every window: f64 [A], or counts i64 [A, X] for a histogram."""
    return np.array([getattr(one, metric.name) for one in side])


def _profile(metric: Metric, one: np.ndarray, other: np.ndarray, classes: np.ndarray | None) -> Profile:
    if classes is None:
        return kernel_profile(one, other, floor=metric.quantum / 2)
    return histogram_profile(one, other, classes)


Draw = tuple[list[int], list[int]]
"""Indices of windows on one side, and on the other."""


def _draws_of_real(windows: Sequence[Window], generated: int, rng: np.random.Generator) -> Iterator[Draw]:
    """Random windows of some pieces and all windows of the others (see `MusicComparison`)."""
    of_piece: dict[int, list[int]] = defaultdict(list)
    for index, window in enumerate(windows):
        of_piece[id(window.piece)].append(index)
    members = list(of_piece.values())
    drawn = min(generated, len(members) // 2)
    for _ in range(_REAL_DRAWS if len(members) >= _FEWEST_PIECES else 0):
        order = rng.permutation(len(members)).tolist()
        one = [members[piece][int(rng.integers(len(members[piece])))] for piece in order[:drawn]]
        yield one, [index for piece in order[drawn:] for index in members[piece]]


def _mean(metrics: Sequence[Compared], resampled: Sequence[np.ndarray], chosen: Sequence[bool]) -> Interval:
    """The mean overlap of the chosen metrics, without those that are undefined."""
    pairs = zip(metrics, resampled, chosen, strict=True)
    used = [(one.overlap.value, again) for one, again, wanted in pairs if wanted and np.isfinite(one.overlap.value)]
    if not used:
        return interval(float("nan"), np.zeros(0))
    return interval(mean_overlap([value for value, _ in used]), np.mean([again for _, again in used], axis=0))


def _copies(
    voices: Voices,
    generated: Sequence[Window],
    held_out: Sequence[Window],
    training: Sequence[Piece],
    vocabulary: Vocabulary,
    options: Options,
    rng: np.random.Generator,
) -> Copies:
    found = shared_runs(
        [window.cells for window in (*generated, *held_out)],
        [piece.cells for piece in training],
        vocabulary,
        voices=voices,
        steps_per_bar=options.metre.steps_per_bar,
    )
    ours, theirs = found[: len(generated)], found[len(generated) :]
    steps = np.array([one.longest.steps for one in theirs])
    count = min(len(ours), len(steps))
    maxima = [rng.choice(steps, count, replace=False).max() for _ in range(options.resamples)] if count else []
    return Copies(voices, tuple(ours), tuple(theirs), float(np.median(maxima)) if maxima else float("nan"))
