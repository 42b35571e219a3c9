"""Give a trained checkpoint the sampling defaults of a preset or config file, without training it again.

    python benchmarks/sampling_defaults.py varcli/weights/fractal-mar.safetensors fractal-mar

The [sample] section moves into the header of the file, which is written anew; the tensors stay bit by bit what they
were.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from support import run

from varcli.checkpoint import load_checkpoint, save_checkpoint
from varcli.config import config_from_json, load_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Rewrite one file and say what it samples with now."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a .safetensors file that `var train` wrote")
    parser.add_argument("config", help="a preset's name, or a config file")
    options = parser.parse_args(arguments)
    sample = load_config(options.config).sample.model_dump(mode="json")
    header, tensors = load_checkpoint(options.checkpoint)
    config = header.config | {"sample": sample}
    config_from_json(config, str(options.checkpoint))
    kept = {name: getattr(header, name) for name in ("task", "data", "steps", "metrics", "seed")}
    save_checkpoint(options.checkpoint, tensors, config=config, **kept)
    print(f"{options.checkpoint}: {sample}")


if __name__ == "__main__":
    run(main)
