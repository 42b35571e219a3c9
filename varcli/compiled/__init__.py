"""Functions compiled by numba, and their cache on disk, which notices an edit in whatever could change them.

numba's own cache knows a function by the file it stands in alone, and lies beside that file. This one names what is
compiled after a digest of the function, of all compiled functions that it calls and of the constants that they read,
wherever they stand, and keeps it in the user's cache folder. So an edit compiles what it changes and nothing else,
installed copies of the same code share what is compiled, and the package's own folder is only read.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any, TypeVar

import numba
from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.environment import lookup_environment
from numba.core.event import Listener, register
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.sigutils import normalize_signature
from numba.core.types import unliteral

from varcli import events
from varcli.compiled.cache import Cache, Helper, helpers, package_of, parts_of

F = TypeVar("F", bound=Callable[..., Any])

REORDERED = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
"""For `fastmath`: sums may be taken in any order, infinities stay what they are."""


def kernel(fastmath: bool | Iterable[str] = False, allocates: bool = True) -> Callable[[F], F]:
    """Decorate a function to be compiled when first called, without the interpreter's lock, and kept on disk.

    `fastmath` lets sums be taken in any order, and more: true, or LLVM's names of what is allowed. A division by zero
    gives infinity, as in NumPy. A function that neither makes nor returns arrays says so (`allocates`): it does not
    count the users of those that it is given, which took a fifth of the time of small functions with many.
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
            "_nrt": allocates,
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
        self._cache: Any = Cache(self, lambda: _nesting.depth > 0)
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

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """How another function calls it: constants are numbers like others, not each a reason to compile it anew."""
        return super().get_call_template([unliteral(each) for each in args], kws)

    def signature_of(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The types of arguments, as a call finds them."""
        return tuple(self.typeof_pyval(each) for each in arguments)

    def address(self, arguments: tuple[Any, ...]) -> int:
        """Where its machine code for such arguments begins, for `pieces.call`; compiled if it is not yet."""
        kinds = self.signature_of(arguments)
        self.compile(kinds)
        compiled = self.overloads[kinds]
        return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)

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


def compile_beside(example: Callable[[], tuple[Any, tuple[Any, ...]]]) -> None:
    """Let another process compile what will be needed soon, unless it is in the cache or there is one processor alone.

    `example`, a function of a module, gives the kernel and arguments as it will have them. The first call waits for the
    process; whatever befalls that, this one can compile by itself.
    """
    function, arguments = example()
    if not isinstance(function, Kernel) or _processors() < 2 or getattr(sys, "frozen", False):
        return
    path = function._cache.path(function.signature_of(arguments))
    if path and path not in helpers and not path.exists():
        with suppress(OSError):
            call = f"compile_here({example.__module__}.{example.__qualname__})"
            helpers[path] = Helper(f"import {example.__module__}; from varcli.compiled import compile_here; {call}")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compile_here(example: Callable[[], tuple[Any, tuple[Any, ...]]]) -> None:
    """The other process: compile, write what is being compiled to the output, and end when the input is closed."""

    def end() -> None:
        with open(0, "rb", closefd=False) as calls:
            calls.read()
        os._exit(1)

    def say(event: events.Event) -> None:
        if isinstance(event, events.Compiling):
            out.write(f"{event.number} {event.total} {event.name}\n")

    Thread(target=end, daemon=True).start()
    function, arguments = example()
    with open(1, "w", buffering=1, closefd=False) as out, events.watching(say):
        function.compile(function.signature_of(arguments))


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

    def finalize(self) -> None:
        """Link what it calls, and what that calls, each once; then optimise."""
        self._linking_libraries = list(_called(self, {}))
        super().finalize()

    def _finalize_final_module(self) -> None:
        for function in self._final_module.functions:
            if function.linkage == Linkage.linkonce_odr and not function.is_declaration:
                function.linkage = Linkage.internal
        super()._finalize_final_module()


class _Part(_Library):
    """The code of a function for its callers, without machine code, nor the code of what it calls."""

    def finalize(self) -> None:
        """Nothing to link or optimise: that is done once, with the whole that it is a part of."""
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


def _called(library: Any, met: dict[Any, None]) -> dict[Any, None]:
    """All libraries that one calls, in order, by way of parts too; added to those `met`."""
    for each in library._linking_libraries:
        if each not in met:
            met[each] = None
            if isinstance(each, _Part):
                _called(each, met)
    return met


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
                    sum(part is Kernel for part in parts_of(compiled, package_of(compiled), set())),
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
