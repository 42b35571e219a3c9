"""What the classifier of `var evaluate music` says of real music: songs against other songs, so 0.5 is the truth.

    python benchmarks/two_sample.py POP909.zip --draws 20 [--all-splits] [--families]

Each draw takes a window of each of 24 songs of the test split, and up to three of each of the others; with
`--all-splits`, of 24 and 90 songs of the whole corpus. Coverage is the share of the 95% intervals that hold 0.5.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support import print_table, run

from varcli.pianoroll.corpus.corpus import Corpus, read_corpus
from varcli.pianoroll.evaluation.features import FeatureTable, measure_features
from varcli.pianoroll.evaluation.music_metrics import Metre
from varcli.pianoroll.evaluation.two_sample import Sides, fit_forest, fit_logistic, separation
from varcli.pianoroll.evaluation.windows import bar_windows
from varcli.pianoroll.roll import Vocabulary

SONGS, OTHERS, WINDOWS, STEPS = 24, 90, 3, 256


def features_of(path: Path, *, all_splits: bool) -> tuple[FeatureTable, np.ndarray]:
    """Features of all windows, and the song of each, i64 [W]."""
    *_, corpus = read_corpus(path)
    assert isinstance(corpus, Corpus)
    windows, songs = [], []
    for split in ("test", "valid", "train") if all_splits else ("test",):
        found = bar_windows(corpus.split(split), Vocabulary())
        number = {id(window.piece): None for window in found}
        order = {song: len(set(songs)) + index for index, song in enumerate(number)}
        windows += found
        songs += [order[id(window.piece)] for window in found]
    table = measure_features([window.cells for window in windows], Vocabulary(), Metre(), STEPS)
    return table, np.array(songs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("corpus", type=Path, help="a folder or zip of MIDI")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--all-splits", action="store_true", help="songs of all splits instead of the test split")
    parser.add_argument("--families", action="store_true", help="the forest of each family as well")
    options = parser.parse_args(arguments)
    table, song_W = features_of(options.corpus, all_splits=options.all_splits)
    family_F = np.array([feature.family for feature in table.features])
    everything = np.ones(len(family_F), bool)
    asked = [("forest", everything, fit_forest), ("logistic", everything, fit_logistic)]
    if options.families:
        asked += [(str(name), family_F == name, fit_forest) for name in dict.fromkeys(family_F)]
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name, _, _ in asked}
    pool = np.unique(song_W)
    count = SONGS + OTHERS if options.all_splits else len(pool)
    for draw in range(options.draws):
        rng = np.random.default_rng(draw)
        rows, piece = [], []
        for index, song in enumerate(rng.permutation(pool)[:count]):
            drawn = rng.permutation(np.flatnonzero(song_W == song))[: 1 if index < SONGS else WINDOWS]
            rows += drawn.tolist()
            piece += [index] * len(drawn)
        sides = Sides(np.array(piece), SONGS)
        for name, chosen, fit in asked:
            one = separation(table.values_WF[rows][:, chosen], sides, fit, rng)
            found[name].append((one.value, one.low, one.high))
    lines = []
    for name, values in found.items():
        auc, low, high = np.array(values).T
        lines.append([name, f"{auc.mean():.3f}", f"{((low <= 0.5) & (high >= 0.5)).mean():.2f}"])
    print_table(["classifier", "mean AUC", "coverage"], lines)


if __name__ == "__main__":
    run(main)
