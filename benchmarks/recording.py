"""What it costs to watch: sampling with and without a frame recorder, same seed, in turns.

    python benchmarks/recording.py --checkpoint fractal-ar --repeats 9

The recorder keeps what `var sample --gif` keeps; drawing and writing the animation is not part of the figures.
"""

import argparse
from collections.abc import Iterator, Sequence
from statistics import median

from support import STEPS, print_table, run, seconds_of, warm_up

from varcli.animation.recorder import FrameRecorder
from varcli.events import Event
from varcli.loading import load_model
from varcli.pianoroll.generation.generate import generate
from varcli.pianoroll.generation.settings import SampleSettings
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Vocabulary


def recorded(model: FractalModel, settings: SampleSettings) -> Iterator[Event]:
    """Sample one roll and record it."""
    recorder = FrameRecorder(Vocabulary.of(model.config.model))
    for event in generate(model, settings):
        recorder.on(event)
        yield event
    recorder.recording()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--checkpoint", default="fractal-ar", help="a model's name, file or run folder")
    parser.add_argument("--repeats", type=int, default=9, help="rolls of each kind; the medians are shown")
    parser.add_argument("--steps", type=int, default=STEPS, help="length of a roll")
    options = parser.parse_args(arguments)
    model, _ = load_model(options.checkpoint)
    warm_up(model)
    settings = SampleSettings(target_width=options.steps)
    without, recording = [], []
    for _ in range(options.repeats):
        # In turns, so that a machine that slows down slows both.
        without.append(seconds_of(generate(model, settings)))
        recording.append(seconds_of(recorded(model, settings)))
    ratio = median(recording) / median(without)
    row = [options.checkpoint, f"{median(without):.3f}", f"{median(recording):.3f}", f"{ratio:.3f}"]
    print_table(["checkpoint", "seconds without", "seconds with", "ratio"], [row])
    print(f"\nmedians of {options.repeats} rolls of {options.steps} steps")


if __name__ == "__main__":
    run(main)
