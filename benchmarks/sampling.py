"""How fast models write: one roll alone, and sixteen in one batch, start-up excluded.

    python benchmarks/sampling.py --checkpoint fractal-ar fractal-mar --repeats 3 [--busy 1]

A checkpoint is a model's name, a file or a run folder. Loading it and a first tiny roll come before the clock starts.
CPU seconds are those of all threads: on a busy machine they say more than the clock on the wall. `--busy` keeps so many
processors busy meanwhile, with processes that count.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from support import STEPS, print_table, run, seconds_of, warm_up

from varcli.loading import load_model
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.model.fractal import FractalModel

BATCH = 16


def measure(checkpoint: str, repeats: int, steps: int) -> list[str]:
    """One row of the table: medians over rolls from `repeats` seeds."""
    model = _warm(checkpoint)
    alone, busy, together = [], [], []
    for seed in range(repeats):
        began = time.process_time()
        alone.append(seconds_of(generate(model, SampleSettings(target_width=steps, seed=seed))))
        busy.append(time.process_time() - began)
        settings = SampleSettings(num_samples=BATCH, batch_size=BATCH, target_width=steps, seed=seed)
        together.append(seconds_of(generate(model, settings)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    figures = [median(alone), median(busy), median(together), median(together) / BATCH]
    return [checkpoint, f"{parameters / 1e6:.2f} M", *(f"{seconds:.3g}" for seconds in figures)]


def _warm(checkpoint: str) -> FractalModel:
    model, _ = load_model(checkpoint)
    warm_up(model)
    return model


@contextmanager
def _others_busy(count: int) -> Iterator[None]:
    """Keep processors busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--checkpoint", nargs="+", default=["fractal-ar", "fractal-mar"], help="models to measure")
    parser.add_argument("--repeats", type=int, default=3, help="seeds; the medians are shown")
    parser.add_argument("--steps", type=int, default=STEPS, help="length of a roll")
    parser.add_argument("--busy", type=int, default=0, help="processors that something else keeps busy")
    options = parser.parse_args(arguments)
    with _others_busy(options.busy):
        rows = [measure(checkpoint, options.repeats, options.steps) for checkpoint in options.checkpoint]
    head = ["checkpoint", "parameters", "one roll [s]", "CPU of it [s]", f"{BATCH} rolls at once [s]"]
    print_table([*head, "per roll of them [s]"], rows)
    print(f"\nmedians over {options.repeats} seeds of rolls of {options.steps} steps, {options.busy} processors busy")


if __name__ == "__main__":
    run(main)
