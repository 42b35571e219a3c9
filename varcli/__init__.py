"""varcli: coarse-to-fine autoregression for piano rolls and for the molecules in a camera stack.

The functions and types of `__all__` are the Python API, which the commands of microscopy call too; docs/python.md shows
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
    from varcli.emitters.camera.camera import Camera
    from varcli.emitters.figures.render import Rendering
    from varcli.emitters.post.pipeline import Steps
    from varcli.emitters.results.files import Outputs
    from varcli.emitters.table import EmitterTable
    from varcli.emitters.tables import read_table, write_table
    from varcli.errors import UsageError, VarError

__all__ = [
    "Camera",
    "EmitterTable",
    "Outputs",
    "Rendering",
    "Steps",
    "UsageError",
    "VarError",
    "__version__",
    "evaluate_emitters",
    "localize",
    "localize_events",
    "postprocess",
    "postprocess_events",
    "read_table",
    "render",
    "simulate",
    "simulate_events",
    "write_table",
]

_HOMES = {
    "Camera": "varcli.emitters.camera.camera",
    "EmitterTable": "varcli.emitters.table",
    "Outputs": "varcli.emitters.results.files",
    "Rendering": "varcli.emitters.figures.render",
    "Steps": "varcli.emitters.post.pipeline",
    "UsageError": "varcli.errors",
    "VarError": "varcli.errors",
    "evaluate_emitters": "varcli.api.microscopy",
    "localize": "varcli.api.microscopy",
    "localize_events": "varcli.api.microscopy",
    "postprocess": "varcli.api.microscopy",
    "postprocess_events": "varcli.api.microscopy",
    "read_table": "varcli.emitters.tables",
    "render": "varcli.api.microscopy",
    "simulate": "varcli.api.microscopy",
    "simulate_events": "varcli.api.microscopy",
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
