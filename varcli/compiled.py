"""Functions compiled by numba, and their cache on disk, which notices an edit in whatever could change them.

numba's own cache knows a function by the file it stands in alone, and lies beside that file. This one names what is
compiled after a digest of the function, of all compiled functions that it calls and of the constants that they read,
wherever they stand, and keeps it in the user's cache folder. So an edit compiles what it changes and nothing else,
installed copies of the same code share what is compiled, and the package's own folder is only read.
"""

import gc
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np

# All caches of a process share one setting of numba for their place, so this one takes the place of numba's.
from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompileResult, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.core.environment import lookup_environment
from numba.core.event import Listener, register
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.serialize import dumps, loads
from numba.core.sigutils import normalize_signature

from varcli import events
from varcli.errors import VarError
from varcli.files import user_cache_dir, write_bytes

F = TypeVar("F", bound=Callable[..., Any])

REORDERED = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
"""For `fastmath`: sums may be taken in any order, infinities stay what they are."""
_KEPT_SECONDS = 30 * 86400
_TOOLS = (numba.__version__, llvmlite.__version__, np.__version__, sys.version, numba.config.USING_SVML)  # type: ignore[attr-defined]


def kernel(fastmath: bool | Iterable[str] = False) -> Callable[[F], F]:
    """Decorate a function to be compiled when first called, without the interpreter's lock, and kept on disk.

    `fastmath` lets sums be taken in any order, and more: true, or LLVM's names of what is allowed. A division by zero
    gives infinity, as in NumPy.
    """

    def decorate(function: F) -> F:
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return function
        options = {
            "nopython": True,
            "boundscheck": None,
            "nogil": True,
            "error_model": "numpy",
            "fastmath": fastmath if isinstance(fastmath, bool) else set(fastmath),
            "no_cfunc_wrapper": True,
        }
        return Kernel(function, targetoptions=options)  # type: ignore[return-value]

    return decorate


class Kernel(CPUDispatcher):
    """A compiled function. What is called from Python is compiled as one piece with all that it calls.

    numba makes machine code of each function by itself, and again in each of its callers, which takes most of the time;
    and which of the copies runs depends on what was loaded before, so that the run that compiles could differ in the
    last digit from those that load. Here what another kernel calls is kept as LLVM's code alone, for its callers.
    """

    def __init__(self, function: Callable[..., Any], targetoptions: dict[str, Any]) -> None:
        super().__init__(function, targetoptions=targetoptions)
        self._cache: Any = _Cache(self)
        compiler: Any = vars(self)["_compiler"]
        compiler._customize_flags = self._without_wrapper

    def _without_wrapper(self, flags: Any) -> Any:
        flags.no_cpython_wrapper = _nesting.depth > 1
        return _Flags(flags)

    def compile(self, sig: Any) -> Any:
        """Compile for a signature: to be called from Python, or within the compilation of another function."""
        with global_compiler_lock:
            types = tuple(normalize_signature(sig)[0])
            known = self.overloads.get(types)
            if known is not None and isinstance(known.library, _Part) != (_nesting.depth > 0):
                del self.overloads[types]
            with _no_collection():
                return super().compile(sig)

    def add_overload(self, cres: Any) -> None:
        """Take what was compiled or loaded; a part cannot be called from Python."""
        if isinstance(cres.library, _Part):
            self.overloads[tuple(cres.signature.args)] = cres
            return
        for variable in cres.library._final_module.global_variables:
            # Constants and messages of the functions that are parts of it; their machine code is here.
            environment = lookup_environment(variable.name)
            if environment is not None:
                cres.library.codegen.set_env(variable.name, environment)
        super().add_overload(cres)


_FLAGS_HASH = hash(Flags())  # it counts the names of the options alone


class _Flags(Flags):
    """numba's options of a compilation, which it compares at every call that it meets; here without those not set."""

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, Flags):
            return NotImplemented
        own, others = self._values, other._values
        return own == others or all(getattr(self, name) == getattr(other, name) for name in own.keys() | others.keys())

    def __hash__(self) -> int:
        return _FLAGS_HASH


class _Library(JITCodeLibrary):
    def _optimize_functions(self, ll_module: Any) -> None:
        """As numba does, but not of the many functions that are only declared."""
        ll_module.data_layout = self._codegen._data_layout
        for function in ll_module.functions:
            if not function.is_declaration:
                passes, builder = self._codegen._function_pass_manager()
                passes.run(function, builder)


class _Whole(_Library):
    """The code of a function that Python calls, and of all that it calls: no other library's copy is ever used."""

    def _finalize_final_module(self) -> None:
        for function in self._final_module.functions:
            if function.linkage == Linkage.linkonce_odr and not function.is_declaration:
                function.linkage = Linkage.internal
        super()._finalize_final_module()


class _Part(_Library):
    """The code of a function for its callers, without machine code."""

    def _optimize_final_module(self) -> None:
        """Nothing: its callers optimise it as a part of them."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """No address: it is not called from Python."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """In whose place there is nowhere to put constants yet."""
        return _Nowhere()


class _Nowhere:
    def set_env(self, name: str, environment: object) -> None: ...


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the search for unused objects, which goes over all that a compilation holds, time and again."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Nesting(Listener):
    """How deep numba is in compiling functions for a kernel; 0 while it compiles none."""

    def __init__(self) -> None:
        self.depth = self._begun = self._total = 0

    def on_start(self, event: Any) -> None:
        """One function deeper."""
        compiled = event.data["dispatcher"]
        if isinstance(compiled, Kernel):
            if not self.depth:
                self._begun, self._total = (
                    0,
                    sum(part is Kernel for part in _parts(compiled, _package(compiled), set())),
                )
            self._begun += 1
            events.report(events.Compiling(compiled.__name__, min(self._begun, self._total), self._total))
        if self.depth or isinstance(compiled, Kernel):
            self._go_to(self.depth + 1)

    def on_end(self, event: Any) -> None:
        """Back in the caller."""
        if self.depth:
            self._go_to(self.depth - 1)
            if not self.depth:
                events.report(events.Compiling(event.data["dispatcher"].__name__, self._total + 1, self._total))

    def _go_to(self, depth: int) -> None:
        self.depth = depth
        context: Any = cpu_target.target_context
        context.codegen()._library_class = (JITCodeLibrary, _Whole, _Part)[min(depth, 2)]


_nesting = _Nesting()
register("numba:compile", _nesting)


class _Cache:
    """What numba asks of the cache of one function; each signature has a file.

    Everything works without it as well: what is damaged is compiled again, a full disk does no harm.
    """

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    @property
    def cache_path(self) -> Path | None:
        return _root()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled for a signature, or None."""
        target_context.refresh()
        if _nesting.depth:
            return None
        try:
            path = self._path(sig, target_context.codegen())
            if path is None or not path.exists():
                return None
            found = CompileResult._rebuild(target_context, *loads(path.read_bytes()))
            os.utime(path)  # in use
        except Exception:  # damage takes any form
            return None
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature."""
        path = None if _nesting.depth else self._path(sig, data.codegen)
        if path:
            with suppress(VarError):
                write_bytes(path, dumps(data._reduce()))
                _remove_unused(path.parent)

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        key = f"{_digest(self._compiled)} {[_spelled(kind) for kind in sig]} {codegen.magic_tuple()} {_TOOLS}"
        root, name = _root(), self._compiled.__qualname__
        return root and root / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.kernel"


def _spelled(kind: Any) -> str:
    """A type, with the names of a tuple's fields, by which compiled code finds them."""
    return f"{kind!r}{getattr(kind, 'fields', '')}{[_spelled(each) for each in getattr(kind, 'types', ())]}"


def _digest(compiled: Any) -> str:
    """Digest of a compiled function, of the functions that it calls and of the constants that they read."""
    total = hashlib.sha256()
    for part in _parts(compiled, _package(compiled), set()):
        total.update(f"{part}\0".encode())
    return total.hexdigest()


def _package(compiled: Any) -> str:
    return compiled.__module__.partition(".")[0]


def _parts(value: Any, package: str, met: set[int], names: Iterable[str] = ()) -> Iterator[object]:
    """What compiled code can depend on of a value that it reads; of a module, what has one of `names`."""
    if id(value) in met:
        return
    if isinstance(value, Dispatcher):
        met.add(id(value))
        function: Any = value.py_func
        fastmath = value.targetoptions["fastmath"]
        yield type(value)
        yield function.__qualname__, sorted(fastmath) if isinstance(fastmath, set) else fastmath
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
                    yield from _parts(known[name], package, met, code.co_names)
    elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] == package:
        # numba replaces it by what was registered for it (`overload`), which stands in its module.
        met.add(id(value))
        module = sys.modules[value.__module__]
        yield Path(str(module.__file__)).read_bytes()
        for each in vars(module).values():
            if isinstance(each, Dispatcher | dict):
                yield from _parts(each, package, met)
    elif isinstance(value, ModuleType):
        met.add(id(value))
        for name in names:
            if hasattr(value, name):
                yield from _parts(getattr(value, name), package, met, names)
        met.remove(id(value))
    elif isinstance(value, dict):
        for each in value.values():
            yield from _parts(each, package, met)
    elif isinstance(value, tuple | list):
        yield type(value).__qualname__, len(value)
        for each in value:
            yield from _parts(each, package, met)
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
