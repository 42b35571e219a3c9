"""varcli: coarse-to-fine autoregression for piano rolls and for the molecules in a camera stack.

The functions and types of `__all__` are the Python API, which the commands of `var` call too; docs/python.md shows
them. They load when they are first asked for, so `import varcli` is quick and brings neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from varcli.version import __version__

if TYPE_CHECKING:
    from varcli.api.microscopy import (
        evaluate_emitters,
        localize,
        localize_events,
        postprocess,
        postprocess_events,
        render,
        simulate,
        simulate_events,
    )
    from varcli.api.music import (
        evaluate_likelihood,
        evaluate_likelihood_events,
        evaluate_music,
        evaluate_music_events,
        sample,
        sample_events,
    )
    from varcli.emitters.camera.camera import Camera
    from varcli.emitters.figures.render import Rendering
    from varcli.emitters.post.pipeline import Steps
    from varcli.emitters.results.files import Outputs
    from varcli.emitters.table import EmitterTable
    from varcli.emitters.tables import read_table, write_table
    from varcli.errors import UsageError, VarError
    from varcli.loading import load
    from varcli.pianoroll.results.samples import Recordings
    from varcli.pianoroll.roll import Roll
    from varcli.pianoroll.score.midi import read_midi, write_midi

__all__ = [
    "Camera",
    "EmitterTable",
    "Outputs",
    "Recordings",
    "Rendering",
    "Roll",
    "Steps",
    "UsageError",
    "VarError",
    "__version__",
    "evaluate_emitters",
    "evaluate_likelihood",
    "evaluate_likelihood_events",
    "evaluate_music",
    "evaluate_music_events",
    "load",
    "localize",
    "localize_events",
    "postprocess",
    "postprocess_events",
    "read_midi",
    "read_table",
    "render",
    "sample",
    "sample_events",
    "simulate",
    "simulate_events",
    "write_midi",
    "write_table",
]

_HOMES = {
    "Camera": "varcli.emitters.camera.camera",
    "EmitterTable": "varcli.emitters.table",
    "Outputs": "varcli.emitters.results.files",
    "Recordings": "varcli.pianoroll.results.samples",
    "Rendering": "varcli.emitters.figures.render",
    "Roll": "varcli.pianoroll.roll",
    "Steps": "varcli.emitters.post.pipeline",
    "UsageError": "varcli.errors",
    "VarError": "varcli.errors",
    "evaluate_emitters": "varcli.api.microscopy",
    "evaluate_likelihood": "varcli.api.music",
    "evaluate_likelihood_events": "varcli.api.music",
    "evaluate_music": "varcli.api.music",
    "evaluate_music_events": "varcli.api.music",
    "load": "varcli.loading",
    "localize": "varcli.api.microscopy",
    "localize_events": "varcli.api.microscopy",
    "postprocess": "varcli.api.microscopy",
    "postprocess_events": "varcli.api.microscopy",
    "read_midi": "varcli.pianoroll.score.midi",
    "read_table": "varcli.emitters.tables",
    "render": "varcli.api.microscopy",
    "sample": "varcli.api.music",
    "sample_events": "varcli.api.music",
    "simulate": "varcli.api.microscopy",
    "simulate_events": "varcli.api.microscopy",
    "write_midi": "varcli.pianoroll.score.midi",
    "write_table": "varcli.emitters.tables",
}
"""Where each name is defined; the imports above say the same to type checkers."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
