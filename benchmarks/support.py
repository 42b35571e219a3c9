"""What the benchmarks share: timing, tables, and errors in one line."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from varcli.errors import VarError
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.model.fractal import FractalModel

STEPS = 256  # sixteen bars of 16th notes


def seconds_of(work: Iterable[object]) -> float:
    """Wall-clock seconds that it takes to go through `work`."""
    began = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - began


def warm_up(model: FractalModel) -> None:
    """Run one tiny sample, so that lazy initialisation is not counted in a timing."""
    with torch.inference_mode():
        for _ in generate(model, SampleSettings(target_width=model.tree.shapes[0][1])):
            pass


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table whose columns are aligned: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (head, rule, *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("| " + " | ".join([first.strip().ljust(widths[0]), *others]) + " |")


def use_threads(count: int | None) -> str:
    """Let torch use `count` threads (None: as many as it likes) and say what the figures were measured with."""
    if count is not None:
        torch.set_num_threads(count)
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what its user can mend is one or two lines and an exit code."""
    try:
        main()
    except VarError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
        sys.exit(error.exit_code)
