"""varcli: coarse-to-fine autoregression for piano rolls and for the molecules in a camera stack.

The functions and types of `__all__` are the Python API, which the commands of `var` call too; docs/python.md shows
them. They load when they are first asked for, so `import varcli` is quick and brings neither torch nor numpy.
"""

# ruff: noqa: F401  (what __all__ offers is read from _HOMES)

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
    from varcli.pianoroll.score.voices import TrackRule

_HOMES = {
    name: home
    for home, names in {
        "varcli.api.microscopy": "evaluate_emitters localize localize_events postprocess "
        "postprocess_events render simulate simulate_events",
        "varcli.api.music": "evaluate_likelihood evaluate_likelihood_events evaluate_music "
        "evaluate_music_events sample sample_events",
        "varcli.emitters.camera.camera": "Camera",
        "varcli.emitters.figures.render": "Rendering",
        "varcli.emitters.post.pipeline": "Steps",
        "varcli.emitters.results.files": "Outputs",
        "varcli.emitters.table": "EmitterTable",
        "varcli.emitters.tables": "read_table write_table",
        "varcli.errors": "UsageError VarError",
        "varcli.loading": "load",
        "varcli.pianoroll.results.samples": "Recordings",
        "varcli.pianoroll.roll": "Roll",
        "varcli.pianoroll.score.midi": "read_midi write_midi",
        "varcli.pianoroll.score.voices": "TrackRule",
    }.items()
    for name in names.split()
}
"""Where each name is defined; the imports above say the same to type checkers."""

__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
