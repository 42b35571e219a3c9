"""Names of the models: what each is for, its preset, its builder and the weights that ship; needs no torch."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from varcli.errors import UsageError

_PACKAGE = Path(__file__).parent
BUILDERS = {"pianoroll": "varcli.pianoroll.model.ensemble:build", "emitters": "varcli.emitters.training:build_model"}


@dataclass(frozen=True)
class Entry:
    """A registered model; `weights` is None where none ship."""

    name: str
    task: str
    summary: str
    preset: Path
    weights: Path | None


_MODELS = (
    ("fractal-ar", "pianoroll", "autoregressive at every level, exact likelihood; trained on POP909"),
    (
        "fractal-mar",
        "pianoroll",
        "masked: fills holes from both sides, exact likelihood in the order of time; trained on POP909",
    ),
    ("fractal-voices", "pianoroll", "melody, bridge and piano after a plan of form and chords; trained on POP909"),
    ("fractal-score", "pianoroll", "scores in any metre, a melody and a piano, for four sets of them; no weights"),
    ("fractal-ar-reference", "pianoroll", "autoregressive, sized for speed comparisons; no weights"),
    ("fractal-mar-reference", "pianoroll", "masked, sized for speed comparisons; no weights"),
    ("emitter-2d", "emitters", "emitters of any two-dimensional microscope; trained on simulations"),
    ("emitter-var-base", "emitters", "the published size of next-scale predictors, absolute grids; no weights"),
    ("chorales", "pianoroll", "exact likelihood of JSB Chorales, frame by frame; weights in benchmarks/weights"),
    ("nottingham", "pianoroll", "exact likelihood of Nottingham, frame by frame; weights as above"),
    ("musedata", "pianoroll", "exact likelihood of MuseData, frame by frame; weights as above"),
    ("piano-midi", "pianoroll", "exact likelihood of Piano-midi.de, frame by frame; weights as above"),
)

SIMULATIONS = (
    ("blinking", "molecules all over that blink, sCMOS"),
    ("filaments", "molecules along bent filaments, sloped background, sCMOS"),
    ("emccd", "molecules in clusters behind an EM gain"),
)
"""Presets of `var simulate emitters`, and what each simulates."""


def simulation_preset(name: str) -> Path | None:
    """The file of a preset of `var simulate emitters`; None where there is none of that name."""
    return _PACKAGE / "presets" / f"{name}.toml" if name in dict(SIMULATIONS) else None


def names() -> tuple[str, ...]:
    """The registered names, in the order they are shown."""
    return tuple(name for name, _, _ in _MODELS)


def entries() -> tuple[Entry, ...]:
    """The registered models, in the order they are shown."""
    return tuple(_entry(*model) for model in _MODELS)


def get(name: str) -> Entry:
    """The model registered as `name`; raises UsageError with the nearest name."""
    for model in _MODELS:
        if model[0] == name:
            return _entry(*model)
    raise UsageError(f"no model {name!r}", suggestion(name) or f"models: {', '.join(names())}")


def suggestion(name: str) -> str | None:
    """A hint with the registered name nearest to `name`, if one is near."""
    near = difflib.get_close_matches(name, names(), n=1)
    return f"did you mean {near[0]}?" if near else None


def _entry(name: str, task: str, summary: str) -> Entry:
    weights = _PACKAGE / "weights" / f"{name}.safetensors"
    preset = _PACKAGE / "presets" / f"{name}.toml"
    return Entry(name, task, summary, preset, weights if weights.is_file() else None)
