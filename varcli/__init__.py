"""varcli: coarse-to-fine autoregression for piano rolls and for the molecules in a camera stack.

The functions and types of `__all__` are the Python API, which the commands of `var` call too; docs/python.md shows each
of them. They load when they are first asked for, so `import varcli` is quick and brings neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from varcli.version import __version__

if TYPE_CHECKING:
    from varcli.emitters.table import EmitterTable
    from varcli.emitters.tables import read_table, write_table
    from varcli.errors import UsageError, VarError

__all__ = ["EmitterTable", "UsageError", "VarError", "__version__", "read_table", "write_table"]

_HOMES = {
    "EmitterTable": "varcli.emitters.table",
    "UsageError": "varcli.errors",
    "VarError": "varcli.errors",
    "read_table": "varcli.emitters.tables",
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
