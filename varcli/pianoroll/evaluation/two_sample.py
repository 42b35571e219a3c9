"""Can a classifier tell generated from real music: the two-sample test (Lopez-Paz and Oquab, ICLR 2017).

A forest and a logistic regression learn from features of windows on which side a window stands, and rank windows of
pieces that they have not seen. The AUC is the chance that a generated window ranks above a real one: 0.5 if nothing
tells the sides apart, 1 if all are told. Folds hold whole pieces, so no piece is judged by its own other windows, and
pairs are only compared within a fold, which makes 0.5 the exact mean of two sides that are alike.

Legend: W windows, F features, R repeats of the fold assignment, G generated and H reference pieces, B resamples.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.evaluation.features import Feature, FeatureTable, families_of, measure_features
from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.evaluation.overlap import Interval
from varcli.pianoroll.evaluation.windows import Window, pieces_of
from varcli.pianoroll.roll import Vocabulary

FEWEST_PIECES = 10  # on either side: two in every fold
_CLASSIFIERS = ("forest", "logistic regression")  # of all features; then the forest of each family
_FOLDS, _REPEATS, _RESAMPLES = 5, 3, 2000
_MOST_PIECES, _WINDOWS_PER_PIECE = 200, 3
_TREES, _LEAF = 50, 3
_RIDGE = 0.05  # inverse strength of the L2 penalty: about a hundred features of about a hundred pieces

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Callable[[np.ndarray], np.ndarray]]
"""From features [W, F], sides bool [W], weights [W] and a seed to a function that scores windows: high if generated."""


@dataclass(frozen=True)
class Sides:
    """Windows of both sides, grouped: `piece` i64 [W] numbers pieces, the `generated` ones first."""

    piece: np.ndarray
    generated: int

    @property
    def is_generated(self) -> np.ndarray:
        """Which windows are, bool [W]."""
        return self.piece < self.generated

    @property
    def weights(self) -> np.ndarray:
        """f64 [W] of mean 1: each side weighs as much as the other, and within it each piece."""
        count = np.bincount(self.piece)
        side = np.where(self.is_generated, self.generated, len(count) - self.generated)
        weights = 1 / (count[self.piece] * side)
        return weights / weights.mean()


@dataclass(frozen=True)
class FeatureAuc:
    """How well one feature tells the sides apart: its AUC, and the mean of each side."""

    feature: Feature
    auc: float
    generated: float
    reference: float

    @property
    def higher(self) -> bool:
        """Whether generated music has more of it."""
        return self.auc > 0.5

    @property
    def strength(self) -> float:
        """The AUC in the direction in which the feature tells, 0.5 and more."""
        return max(self.auc, 1 - self.auc)


@dataclass(frozen=True)
class TwoSample:
    """AUC by either classifier and, by the forest, of every family.

    `features` has those that are defined on both sides, from the most telling to the least.
    """

    sides: Sides
    forest: Interval
    logistic: Interval
    families: dict[str, Interval]
    features: tuple[FeatureAuc, ...]

    @property
    def windows(self) -> tuple[int, int]:
        """Generated and real ones."""
        count = int(self.sides.is_generated.sum())
        return count, len(self.sides.piece) - count

    @property
    def pieces(self) -> tuple[int, int]:
        """Generated and real ones."""
        return self.sides.generated, int(self.sides.piece.max()) + 1 - self.sides.generated


def classifiers_of(generated: Sequence[Window], reference: Sequence[Window], vocabulary: Vocabulary) -> tuple[str, ...]:
    """The names that `two_sample` yields; none where a side has fewer than FEWEST_PIECES pieces."""
    enough = min(len(pieces_of(side)) for side in (generated, reference)) >= FEWEST_PIECES
    return (*_CLASSIFIERS, *families_of(vocabulary)) if enough else ()


def two_sample(
    generated: Sequence[Window], reference: Sequence[Window], vocabulary: Vocabulary, metre: Metre, seed: int
) -> Iterator[str | TwoSample]:
    """Tell windows of either side apart, FEWEST_PIECES pieces at least, with a name as each classifier is done.

    Of each piece a few windows count. The result comes last.
    """
    rng = np.random.default_rng(seed)
    drawn = draw_windows(generated, rng), draw_windows(reference, rng)
    cells = [window.cells for side in drawn for piece in side for window in piece]
    steps = max(len(one.T) for one in cells)
    yield from classify(measure_features(cells, vocabulary, metre, steps), sides_of(*drawn), rng)


def draw_windows(windows: Sequence[Window], rng: np.random.Generator) -> list[list[Window]]:
    """A few windows of each piece, and of many pieces only some, at random: one list per piece."""
    of_piece: dict[int, list[Window]] = defaultdict(list)
    for window in windows:
        of_piece[id(window.piece)].append(window)
    members = list(of_piece.values())
    drawn = np.sort(rng.permutation(len(members))[:_MOST_PIECES]).tolist()
    return [
        [members[piece][at] for at in rng.permutation(len(members[piece]))[:_WINDOWS_PER_PIECE].tolist()]
        for piece in drawn
    ]


def sides_of(generated: Sequence[Sequence[object]], reference: Sequence[Sequence[object]]) -> Sides:
    """The sides of windows that stand one after the other, generated before reference (see `draw_windows`)."""
    counts = [len(piece) for piece in (*generated, *reference)]
    return Sides(np.repeat(np.arange(len(counts)), counts), len(generated))


def classify(table: FeatureTable, sides: Sides, rng: np.random.Generator) -> Iterator[str | TwoSample]:
    """Judge features of windows by all of them and by family; see `two_sample`."""
    values = table.values_WF
    forest = separation(values, sides, fit_forest, rng)
    yield _CLASSIFIERS[0]
    logistic = separation(values, sides, fit_logistic, rng)
    yield _CLASSIFIERS[1]
    families: dict[str, Interval] = {}
    for family in dict.fromkeys(feature.family for feature in table.features):
        families[family] = separation(values[:, table.of_family(family)], sides, fit_forest, rng)
        yield family
    aucs = [_feature_auc(feature, column, sides) for feature, column in zip(table.features, values.T, strict=True)]
    defined = [one for one in aucs if one is not None]
    yield TwoSample(sides, forest, logistic, families, tuple(sorted(defined, key=lambda one: -one.strength)))


def separation(values_WF: np.ndarray, sides: Sides, fit: Fit, rng: np.random.Generator) -> Interval:
    """The AUC of a classifier on pieces that it has not seen, with a 95% interval.

    The interval is from resamples of pieces, each under one of the fold assignments at random.
    """
    found = [_wins(values_WF, sides, fold_of_piece, fit, rng) for fold_of_piece in _folds(sides, rng)]
    return _interval(np.stack([wins for wins, _ in found]), np.stack([pairs for _, pairs in found]), rng)


def fit_forest(values_WF: np.ndarray, is_generated: np.ndarray, weights: np.ndarray, seed: int):
    """Extremely randomised trees (Geurts et al., 2006), which rank better than bagged ones from so few pieces."""
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=_LEAF, random_state=seed)
    forest.fit(values_WF, is_generated, sample_weight=weights)
    return lambda values: np.asarray(forest.predict_proba(values))[:, 1]


def fit_logistic(values_WF: np.ndarray, is_generated: np.ndarray, weights: np.ndarray, seed: int):
    """Logistic regression of standardised features with an L2 penalty; nothing in it is random."""
    from sklearn.linear_model import LogisticRegression

    mean = np.average(values_WF, axis=0, weights=weights)
    spread = np.sqrt(np.average((values_WF - mean) ** 2, axis=0, weights=weights))
    spread[spread < 1e-12] = 1.0
    model = LogisticRegression(C=_RIDGE, max_iter=1000)
    model.fit((values_WF - mean) / spread, is_generated, sample_weight=weights)
    return lambda values: model.decision_function((values - mean) / spread)


def _folds(sides: Sides, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The fold of every piece, i64 [G + H], for each repeat; every fold has its share of either side."""
    pieces = int(sides.piece.max()) + 1
    for _ in range(_REPEATS):
        yield np.r_[rng.permutation(sides.generated) % _FOLDS, rng.permutation(pieces - sides.generated) % _FOLDS]


def _wins(
    values_WF: np.ndarray, sides: Sides, fold_of_piece: np.ndarray, fit: Fit, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """How often each generated piece ranks above each real one, and whether the two share a fold: f64 [G, H] each."""
    generated, fold = sides.generated, fold_of_piece[sides.piece]
    wins = np.zeros((generated, len(fold_of_piece) - generated))
    for number in range(_FOLDS):
        tested = fold == number
        known, asked = _filled(values_WF[~tested], values_WF[tested])
        seed = int(rng.integers(1 << 31))
        scores = fit(known, sides.is_generated[~tested], sides.weights[~tested], seed)(asked)
        piece = sides.piece[tested]
        share = (piece[:, None] == np.arange(len(fold_of_piece))) / np.bincount(sides.piece)
        ours, theirs = piece < generated, piece >= generated
        above = _above(scores[ours], scores[theirs])
        wins += share[ours, :generated].T @ above @ share[theirs, generated:]
    return wins, np.equal.outer(fold_of_piece[:generated], fold_of_piece[generated:]).astype(float)


def _filled(known_WF: np.ndarray, asked_WF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both without NaN: the median of the known windows stands in, 0 where none of them is defined."""
    defined = np.isfinite(known_WF)
    some = defined.any(0)
    middle = np.zeros(known_WF.shape[1])
    middle[some] = np.nanmedian(known_WF[:, some], axis=0)
    return np.where(defined, known_WF, middle), np.where(np.isfinite(asked_WF), asked_WF, middle)


def _above(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 where a value of one side lies above one of the other, 0.5 where they are equal: f64 [A, B]."""
    return (one[:, None] > other) + 0.5 * (one[:, None] == other)


def _interval(wins_RGH: np.ndarray, pairs_RGH: np.ndarray, rng: np.random.Generator) -> Interval:
    """The mean over repeats, with an expanded percentile interval (Hesterberg, The American Statistician, 2015).

    Pieces of both sides are drawn again, and the repeat at random, so that the scatter of fold assignments counts. What
    the training pieces add to the variance is taken as tested by trained pieces (Nadeau and Bengio, Machine Learning,
    2003). Half a generated piece more, which ranks at chance, keeps the interval from being a point where all is told.
    """
    from scipy.special import ndtr, stdtrit

    value = float((wins_RGH.sum((1, 2)) / pairs_RGH.sum((1, 2))).mean())
    typical = pairs_RGH.mean(1, keepdims=True) / 2
    wins, pairs = np.concatenate([wins_RGH, typical / 2], 1), np.concatenate([pairs_RGH, typical], 1)
    ours, theirs = (rng.multinomial(n, np.full(n, 1 / n), _RESAMPLES).astype(float) for n in wins.shape[1:])
    repeat = rng.integers(len(wins), size=_RESAMPLES)
    above, of = np.zeros(_RESAMPLES), np.zeros(_RESAMPLES)
    for number in range(len(wins)):
        drawn = repeat == number
        above[drawn], of[drawn] = (((ours[drawn] @ each[number]) * theirs[drawn]).sum(1) for each in (wins, pairs))
    few = min(wins_RGH.shape[1:])
    tail = float(ndtr(np.sqrt(few / (few - 1) * (1 + 1 / (_FOLDS - 1))) * stdtrit(few - 1, 0.025)))
    low, high = np.quantile(above / of, (tail, 1 - tail)).tolist()
    return Interval(value, min(low, value), max(high, value))


def _feature_auc(feature: Feature, values: np.ndarray, sides: Sides) -> FeatureAuc | None:
    """One feature f64 [W] on its own, without the windows in which it is undefined; None if a side has no other."""
    defined, weights = np.isfinite(values), sides.weights
    ours, theirs = defined & sides.is_generated, defined & ~sides.is_generated
    if not (ours.any() and theirs.any()):
        return None
    one, other = weights[ours] / weights[ours].sum(), weights[theirs] / weights[theirs].sum()
    auc = float(one @ _above(values[ours], values[theirs]) @ other)
    return FeatureAuc(feature, auc, float(one @ values[ours]), float(other @ values[theirs]))
