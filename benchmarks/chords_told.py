"""Whether a model keeps to the chords that it is told: how many notes on the beat are tones of the chord of their bar.

    python benchmarks/chords_told.py --data pop909.zip [--checkpoint fractal-voices] [--songs 90] [--output-dir told]

Each held-out song of the test split lends the chords of sixteen of its bars, from a downbeat: of each bar the one that
its notes say (see `varcli.pianoroll.harmony`). The model writes sixteen bars with these chords told, and sixteen
without; the song's own notes are the third figure. The rolls that were written are left in the folder, for `var
evaluate music`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import support

import varcli
from varcli import loading
from varcli.pianoroll.corpus.corpus import Corpus, read_corpus_of
from varcli.pianoroll.harmony import NO_CHORD, QUALITIES, chords_of
from varcli.pianoroll.roll import Vocabulary, crop, note_arrays
from varcli.pianoroll.score.chords import parse_chords

BARS = 16
ROOTS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def chords_in(cells: np.ndarray, bar: int) -> list[str]:
    """The chord of each bar of a canvas u8 [128, T], by name."""
    sounding = cells > 0
    octaves = np.pad(sounding, ((0, 4), (0, 0))).reshape(-1, 12, sounding.shape[1]).sum(0)
    bass = (np.arange(12)[:, None] == sounding.argmax(0) % 12) & sounding.any(0)
    starts = np.arange(0, sounding.shape[1], bar)
    chroma, low = (np.add.reduceat(each, starts, axis=1).T.astype(float) for each in (octaves, bass))
    kinds = list(QUALITIES)
    return ["N" if c == NO_CHORD else f"{ROOTS[c % 12]}:{kinds[c // 12]}" for c in chords_of(chroma, low).tolist()]


def on_the_beat(cells: np.ndarray, vocabulary: Vocabulary, names: list[str], bar: int, beat: int) -> tuple[int, int]:
    """How many notes on the beat are tones of their bar's chord, and how many there are; bars without one apart."""
    notes = note_arrays(cells, vocabulary)
    chords = parse_chords(" ".join(names))[notes.start // bar]
    counted = (notes.start % beat == 0) & (chords != NO_CHORD)
    tones = np.array([[(c - k % 12) % 12 in list(QUALITIES.values())[k // 12] for c in range(12)] for k in range(96)])
    return int(tones[chords[counted], notes.pitch[counted] % 12].sum()), int(counted.sum())


def main(argv: Sequence[str] | None = None) -> None:
    """Print the shares as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", default="fractal-voices")
    parser.add_argument("--songs", type=int, default=90)
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    model, _ = loading.load_model(options.checkpoint)
    config, vocabulary = model.config, Vocabulary.of(model.config.model)
    bar, beat = config.model.steps_per_bar, config.model.steps_per_beat
    *_, corpus = read_corpus_of(config, options.data)
    assert isinstance(corpus, Corpus)
    rng, counts = np.random.default_rng(options.seed), {"told": [0, 0], "not told": [0, 0], "songs": [0, 0]}
    for number, piece in enumerate(corpus.in_metre(bar).split("test")[: options.songs]):
        starts = piece.downbeats[piece.downbeats <= piece.cells.shape[1] - BARS * bar]
        if not len(starts):
            continue
        start = int(rng.choice(starts))
        music = {"songs": crop(piece.cells, start, start + BARS * bar, vocabulary)}
        names = chords_in(music["songs"], bar)
        for kind, chords in (("told", " ".join(names)), ("not told", None)):
            folder = options.output_dir and options.output_dir / kind.replace(" ", "_") / f"{number:03d}"
            written = varcli.sample(
                checkpoint=model,
                bars=BARS,
                chords=chords,
                seed=options.seed + number,
                output_dir=folder,
                overwrite=True,
            )
            music[kind] = written.samples[0].cells
        for kind, cells in music.items():
            for place, count in enumerate(on_the_beat(cells, vocabulary, names, bar, beat)):
                counts[kind][place] += count
    shares = {
        kind: {"chord_tones_on_the_beat": hits / max(total, 1), "notes": total}
        for kind, (hits, total) in counts.items()
    }
    print(json.dumps(shares, indent=2))


if __name__ == "__main__":
    support.run(main)
