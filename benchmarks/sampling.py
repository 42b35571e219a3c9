"""How fast models write: one roll alone, and sixteen in one batch, start-up excluded.

    python benchmarks/sampling.py --checkpoint fractal-ar fractal-mar --threads 2 --repeats 3

A checkpoint is a model's name, a file or a run folder. Loading it and a first tiny roll come before the clock starts.
"""

import argparse
from collections.abc import Sequence
from statistics import median

from support import STEPS, print_table, run, seconds_of, use_threads

from varcli.pianoroll.generate import generate, warm_up
from varcli.pianoroll.settings import SampleSettings
from varcli.registry import load_model

BATCH = 16


def measure(checkpoint: str, repeats: int, steps: int) -> list[str]:
    """One row of the table: medians over rolls from `repeats` seeds."""
    model, _ = load_model(checkpoint)
    warm_up(model)
    alone, together = [], []
    for seed in range(repeats):
        alone.append(seconds_of(generate(model, SampleSettings(target_width=steps, seed=seed))))
        settings = SampleSettings(num_samples=BATCH, batch_size=BATCH, target_width=steps, seed=seed)
        together.append(seconds_of(generate(model, settings)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    figures = [median(alone), median(together), median(together) / BATCH]
    return [checkpoint, f"{parameters / 1e6:.2f} M", *(f"{seconds:.3g}" for seconds in figures)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--checkpoint", nargs="+", default=["fractal-ar", "fractal-mar"], help="models to measure")
    parser.add_argument("--repeats", type=int, default=3, help="seeds; the medians are shown")
    parser.add_argument("--steps", type=int, default=STEPS, help="length of a roll")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    options = parser.parse_args(arguments)
    conditions = use_threads(options.threads)
    rows = [measure(checkpoint, options.repeats, options.steps) for checkpoint in options.checkpoint]
    head = ["checkpoint", "parameters", "one roll [s]", f"{BATCH} rolls at once [s]", "per roll of them [s]"]
    print_table(head, rows)
    print(f"\nmedians over {options.repeats} seeds of rolls of {options.steps} steps, {conditions}")


if __name__ == "__main__":
    run(main)
