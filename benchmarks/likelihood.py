"""The exact test likelihoods of the four benchmark sets, from the weights beside this file, over full test sets.

    python benchmarks/likelihood.py --data FOLDER [--only chorales] [--split test] [--weights FOLDER]

FOLDER holds JSB_Chorales.mat, Nottingham.mat, MuseData.mat and Piano_midi.mat as Boulanger-Lewandowski et al. (2012)
published them. Nats per frame: the total over all frames of all pieces, first frames included, divided by their number.
"""

import argparse
import time
from pathlib import Path

from support import print_table, run, use_threads

from varcli.cli.progress import Display
from varcli.errors import UsageError
from varcli.loading import load_model
from varcli.pianoroll.corpus.corpus import Corpus, read_corpus_of
from varcli.pianoroll.evaluation.likelihood import LikelihoodReport, score

FILES = {
    "chorales": "JSB_Chorales.mat",
    "nottingham": "Nottingham.mat",
    "musedata": "MuseData.mat",
    "piano-midi": "Piano_midi.mat",
}


def measure(weights: Path, data: Path, split: str, display: Display) -> tuple[LikelihoodReport, float]:
    """Score all pieces of a split; returns the report and the seconds that it took."""
    model, _ = load_model(weights)
    *_, corpus = display.follow(read_corpus_of(model.config, data))
    assert isinstance(corpus, Corpus)
    began = time.perf_counter()
    *_, report = display.follow(score(model, [piece for piece in corpus.pieces if piece.split == split]))
    assert isinstance(report, LikelihoodReport)
    return report, time.perf_counter() - began


def main() -> None:
    """Print a Markdown table, a row per file of weights."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the four .mat files")
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights", help="folder of weights")
    parser.add_argument("--only", choices=FILES, help="measure this set alone")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="test")
    parser.add_argument("--threads", type=int, help="CPU threads")
    options = parser.parse_args()
    names = (
        [options.only]
        if options.only
        else [name for name in FILES if (options.weights / f"{name}.safetensors").exists()]
    )
    if not names:
        raise UsageError(f"no weights in {options.weights}", "it holds files such as chorales.safetensors")
    print(use_threads(options.threads) + "\n")
    rows = []
    with Display() as display:
        for name in names:
            weights = options.weights / f"{name}.safetensors"
            report, seconds = measure(weights, options.data / FILES[name], options.split, display)
            from_2 = report.nats_per_frame_from_2
            rows.append(
                (
                    name,
                    f"{report.nats_per_frame:.3f}",
                    "-" if from_2 is None else f"{from_2:.3f}",
                    f"{report.frames:,}",
                    f"{weights.stat().st_size / 1e6:.1f}",
                    f"{seconds:.0f}",
                )
            )
    print_table(("set", "nats/frame", "frames 2..T", "frames", "MB", "seconds"), rows)


if __name__ == "__main__":
    run(main)
