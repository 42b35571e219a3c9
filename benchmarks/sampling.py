"""How fast models write: one roll alone, and sixteen in one batch, start-up excluded.

    python benchmarks/sampling.py --checkpoint fractal-ar fractal-mar --threads 2 --repeats 3 --levels

A checkpoint is a model's name, a file or a run folder. Loading it and a first tiny roll come before the clock starts.
CPU seconds are those of all threads: on a busy machine they say more than the clock on the wall.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from support import STEPS, print_table, run, seconds_of, use_threads, warm_up

import varcli.pianoroll.generation.scheduler as scheduler
from varcli.loading import load_model
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.inference.engine import Engine
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.sampling.strategy import Request, Response

BATCH = 16
LEVEL_HEAD = ["checkpoint", "rolls", "level", "batches", "requests per batch", "ms per batch", "in all [s]"]


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


def measure_levels(checkpoint: str, steps: int) -> list[list[str]]:
    """Rows of how often each level ran and what it took, for one roll and for sixteen."""
    model, rows = _warm(checkpoint), []
    for count in (1, BATCH):
        with _timed() as batches:
            seconds_of(generate(model, SampleSettings(num_samples=count, batch_size=count, target_width=steps)))
        for level in sorted({level for level, _, _ in batches}):
            requests, seconds = zip(*((n, s) for at, n, s in batches if at == level), strict=True)
            number, total = len(seconds), sum(seconds)
            figures = [f"{sum(requests) / number:.3g}", f"{total / number * 1e3:.3g}", f"{total:.3g}"]
            rows.append([checkpoint, str(count), str(level), str(number), *figures])
    return rows


def _warm(checkpoint: str) -> FractalModel:
    model, _ = load_model(checkpoint)
    warm_up(model)
    return model


@contextmanager
def _timed() -> Iterator[list[tuple[int, int, float]]]:
    """Note level, requests and seconds of every batch that the engine answers."""
    batches = []

    class Timed(Engine):
        def __call__(self, level: int, requests: list[Request]) -> list[Response]:
            began = time.perf_counter()
            responses = super().__call__(level, requests)
            batches.append((level, len(requests), time.perf_counter() - began))
            return responses

    scheduler.Engine = Timed
    try:
        yield batches
    finally:
        scheduler.Engine = Engine


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--checkpoint", nargs="+", default=["fractal-ar", "fractal-mar"], help="models to measure")
    parser.add_argument("--repeats", type=int, default=3, help="seeds; the medians are shown")
    parser.add_argument("--steps", type=int, default=STEPS, help="length of a roll")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--levels", action="store_true", help="also say how often each level runs, and how long")
    options = parser.parse_args(arguments)
    conditions = use_threads(options.threads)
    rows = [measure(checkpoint, options.repeats, options.steps) for checkpoint in options.checkpoint]
    head = ["checkpoint", "parameters", "one roll [s]", "CPU of it [s]", f"{BATCH} rolls at once [s]"]
    print_table([*head, "per roll of them [s]"], rows)
    if options.levels:
        print()
        print_table(LEVEL_HEAD, [row for one in options.checkpoint for row in measure_levels(one, options.steps)])
    print(f"\nmedians over {options.repeats} seeds of rolls of {options.steps} steps, {conditions}")


if __name__ == "__main__":
    run(main)
