"""What is compiled, kept on disk under a digest of the function, of all that it calls and of what they read.

What another process compiles is waited for.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps, loads

from varcli import events
from varcli.errors import VarError
from varcli.files import user_cache_dir, write_bytes

_KEPT_SECONDS = 30 * 86400
_SILENT_SECONDS = 120.0
_TOOLS = (numba.__version__, llvmlite.__version__, np.__version__, sys.version, numba.config.USING_SVML)  # type: ignore[attr-defined]


class Cache:
    """What numba asks of the cache of one function; each signature has a file.

    It takes the place of numba's own, since all those of a process share one setting for their place.
    Everything works without it as well: what is damaged is compiled again, a full disk does no harm.
    """

    def __init__(self, compiled: Any, is_part: Callable[[], bool]) -> None:
        self._compiled, self._is_part = compiled, is_part

    @property
    def cache_path(self) -> Path | None:
        return _root()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled for a signature, or None."""
        if self._is_part():
            return None
        target_context.refresh()
        try:
            path = self.path(sig)
            if path in helpers:
                helpers.pop(path).wait()
            if path is None or not path.exists():
                return None
            found = CompileResult._rebuild(target_context, *loads(path.read_bytes()))
            os.utime(path)  # in use
        except Exception:  # damage takes any form
            return None
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature."""
        path = None if self._is_part() else self.path(sig)
        if path:
            with suppress(VarError):
                write_bytes(path, dumps(data._reduce()))
                _remove_unused(path.parent)

    def path(self, sig: Any) -> Path | None:
        """Where what is compiled for a signature is kept; None if nowhere."""
        machine = self._compiled.targetctx.codegen().magic_tuple()
        key = f"{_digest(self._compiled)} {[_spelled(kind) for kind in sig]} {machine} {_TOOLS}"
        root, name = _root(), self._compiled.__qualname__
        return root and root / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"


class Helper:
    """A Python process that runs `code` beside this one and says on its output what it is compiling.

    It ends with this one, at the latest: then its input is closed.
    """

    def __init__(self, code: str) -> None:
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with self._process as process:
            for line in process.stdout or ():
                self._lines.put(line)
        self._lines.put("")

    def wait(self) -> None:
        """Wait until it has ended, and report meanwhile what it says; one that says nothing for long is ended."""
        with suppress(Empty):
            while line := self._lines.get(timeout=_SILENT_SECONDS):
                number, total, name = line.split()
                events.report(events.Compiling(name, int(number), int(total)))
        self._process.kill()


helpers: dict[Path | None, Helper] = {}
"""By the files that they will write."""


def _spelled(kind: Any) -> str:
    """A type, with the names of a tuple's fields, by which compiled code finds them."""
    return f"{kind!r}{getattr(kind, 'fields', '')}{[_spelled(each) for each in getattr(kind, 'types', ())]}"


def _digest(compiled: Any) -> str:
    """Digest of a compiled function, of the functions that it calls and of the constants that they read."""
    total = hashlib.sha256()
    for part in parts_of(compiled, package_of(compiled), set()):
        total.update(f"{part}\0".encode())
    return total.hexdigest()


def package_of(compiled: Any) -> str:
    return compiled.__module__.partition(".")[0]


def parts_of(value: Any, package: str, met: set[int], names: Iterable[str] = ()) -> Iterator[object]:
    """What compiled code can depend on of a value that it reads; of a module, what has one of `names`."""
    if id(value) in met:
        return
    if isinstance(value, Dispatcher):
        met.add(id(value))
        function: Any = value.py_func
        fastmath = value.targetoptions["fastmath"]
        yield type(value)
        yield function.__qualname__, sorted(fastmath) if isinstance(fastmath, set) else fastmath
        yield value.targetoptions.get("_nrt")
        known = function.__globals__ | dict(
            zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True)
        )
        for code in _codes(function.__code__):
            yield code.co_code, code.co_names, code.co_varnames
            for constant in code.co_consts:
                yield constant if not isinstance(constant, CodeType) else constant.co_name
            for name in (*code.co_names, *code.co_freevars):
                if name in known:
                    yield name
                    yield from parts_of(known[name], package, met, code.co_names)
    elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] == package:
        # numba replaces it by what was registered for it (`overload`), which stands in its module.
        met.add(id(value))
        module = sys.modules[value.__module__]
        yield Path(str(module.__file__)).read_bytes()
        for each in vars(module).values():
            if isinstance(each, Dispatcher | dict):
                yield from parts_of(each, package, met)
    elif isinstance(value, ModuleType):
        met.add(id(value))
        for name in names:
            if hasattr(value, name):
                yield from parts_of(getattr(value, name), package, met, names)
        met.remove(id(value))
    elif isinstance(value, dict):
        for each in value.values():
            yield from parts_of(each, package, met)
    elif isinstance(value, tuple | list):
        yield type(value).__qualname__, len(value)
        for each in value:
            yield from parts_of(each, package, met)
    elif isinstance(value, np.ndarray):
        yield value.dtype, value.shape, value.tobytes()
    elif isinstance(value, bool | int | float | complex | str | bytes | np.generic | np.dtype):
        yield repr(value)
    else:
        yield getattr(value, "__qualname__", type(value).__qualname__), getattr(value, "_fields", ())


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@cache
def _remove_unused(root: Path) -> None:
    """Remove, once in a process, what was compiled and has not been used for long.

    A process that still uses such a file compiles again and loses time, nothing else.
    """
    for file in root.glob("*.kernel"):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > _KEPT_SECONDS:
                file.unlink()


@cache
def _root() -> Path | None:
    """The folder of all that is compiled: $NUMBA_CACHE_DIR if set, the user's, or a private temporary one; or none."""
    try:
        folder = Path(numba.config.CACHE_DIR or user_cache_dir()) / "kernels"  # type: ignore[attr-defined]
        reason = _unusable(folder)
    except RuntimeError as error:  # no home
        folder, reason = Path("~"), str(error)
    if not reason:
        return folder
    # The same place in each run, so that a second one need not compile; only where it is this user's alone, for whoever
    # writes there runs code here.
    temporary = Path(tempfile.gettempdir()) / f"varcli-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    found = None if _unusable(temporary, private=True) else temporary
    kept = f"kept in {found}" if found else "compiled anew in each run"
    events.report(events.Warned(f"{folder} cannot be written ({reason}): compiled functions are {kept}"))
    return found


def _unusable(folder: Path, private: bool = False) -> str | None:
    """Why nothing can be kept in `folder`, which is made if need be; None if it can."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private and hasattr(os, "getuid"):
            status = folder.lstat()
            if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
                return "it belongs to others"
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
