"""Features of windows by family, for telling two sets of music apart: what each family measures stands in its module.

Legend: W windows, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from varcli.pianoroll.evaluation.bar_features import ending_features, repetition_features, rhythm_features
from varcli.pianoroll.evaluation.excerpt import Excerpt
from varcli.pianoroll.evaluation.harmony_features import chord_features, key_features, texture_features
from varcli.pianoroll.evaluation.melody_features import melody_features, velocity_features
from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.roll import HELD, Vocabulary

FAMILIES: dict[str, Callable[[Excerpt], dict[str, float]]] = {
    "melody": melody_features,
    "repetition": repetition_features,
    "rhythm": rhythm_features,
    "velocity": velocity_features,
    "texture": texture_features,
    "chords": chord_features,
    "key": key_features,
    "ending": ending_features,
}
_IN_SILENCE = ("texture", "notes_per_bar")  # 0, and all else undefined


@dataclass(frozen=True)
class Feature:
    """One feature: its family, and what it measures in words."""

    family: str
    name: str

    @property
    def label(self) -> str:
        """For people: "melody: leaps answered by a step back"."""
        return f"{self.family}: {self.name.replace('_', ' ')}"


@dataclass(frozen=True)
class FeatureTable:
    """Features of windows, f64 [W, F]; NaN where one is undefined."""

    features: tuple[Feature, ...]
    values_WF: np.ndarray

    def of_family(self, family: str) -> np.ndarray:
        """Which features belong to a family, bool [F]."""
        return np.array([feature.family == family for feature in self.features])


def families_of(vocabulary: Vocabulary) -> dict[str, Callable[[Excerpt], dict[str, float]]]:
    """The families that a vocabulary can serve: those of velocity need one that has velocities."""
    return {name: one for name, one in FAMILIES.items() if name != "velocity" or not vocabulary.binary}


def measure_features(
    canvases: Sequence[np.ndarray], vocabulary: Vocabulary, metre: Metre, steps: int | None = None
) -> FeatureTable:
    """Measure canvases u8 [P, T] that start with a bar; shorter ones count as `steps` long, silent at their end.

    A silent window has 0 notes per bar and nothing else.
    """
    families = families_of(vocabulary)
    example = np.zeros((128, 1), np.uint8)
    example[60] = HELD  # a single note, to learn the names
    columns = [
        Feature(family, name)
        for family, measure in families.items()
        for name in measure(Excerpt.of(example, vocabulary, metre))
    ]
    rows = np.full((len(canvases), len(columns)), np.nan)
    for row, cells in zip(rows, canvases, strict=True):
        if cells.any():
            music = Excerpt.of(cells, vocabulary, metre, steps)
            row[:] = [value for measure in families.values() for value in measure(music).values()]
        else:
            row[columns.index(Feature(*_IN_SILENCE))] = 0
    return FeatureTable(tuple(columns), rows)
