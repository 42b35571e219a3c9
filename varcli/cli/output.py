"""What the command line says: results on stdout, warnings and errors on stderr."""

import errno
import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from varcli.errors import VarError
from varcli.files import plain

if TYPE_CHECKING:
    from rich.console import Console

_INTERRUPTED = 130


def stderr_console() -> "Console":
    """A console on stderr that never breaks lines by itself; it honours NO_COLOR and TERM=dumb."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def emit(document: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """Print the result of a command: `document` as the one JSON on stdout, or `lines` for people.

    Numbers that are not finite become null in JSON.
    """
    text = json.dumps(plain(document), indent=2, allow_nan=False) if as_json else "\n".join(lines)
    print(text, flush=True)


def warn(message: str) -> None:
    """Print one warning line on stderr."""
    stderr_console().print(f"[bold yellow]warning:[/] {_escaped(message)}", markup=True)


def table(rows: Iterable[tuple[str, Any]]) -> list[str]:
    """Lines of "name  value", aligned; rows whose value is None are left out."""
    shown = [(name, _short(value)) for name, value in rows if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    return [f"{name:<{width}}  {value}" for name, value in shown]


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn every error that a user can mend into one or two lines on stderr and an exit code.

    VAR_DEBUG=1 shows the traceback as well. Errors that are bugs pass through.
    """
    try:
        yield
    except VarError as error:
        _fail(error.message, error.hint, error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", None, _INTERRUPTED)
    except BrokenPipeError:
        # The reader of stdout has gone; a last flush at exit would only complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = f"{error.filename}: " if error.filename else ""
        reason = "the disk is full" if full else error.strerror or error
        _fail(f"{where}{reason}", "free some space" if full else None, 1)
    except MemoryError:
        _fail("out of memory", "try a smaller --batch-size", 1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        _fail("out of memory on the device", "try a smaller --batch-size or --device cpu", 1)


def _fail(message: str, hint: str | None, code: int) -> None:
    if os.environ.get("VAR_DEBUG") == "1":
        traceback.print_exc()
    console = stderr_console()
    console.print(f"[bold red]error:[/] {_escaped(message)}", markup=True)
    if hint:
        console.print(f"[bold]hint:[/] {_escaped(hint)}", markup=True)
    raise typer.Exit(code)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return str(value)
