"""Functions compiled by numba, and their cache on disk, which notices an edit in any file that could change them.

numba's own cache knows a function by the file it stands in alone, and lies beside that file. This one keeps the
functions of a module in a folder named after a digest of the module and of all modules of its package that it imports,
directly or not, in the user's cache folder. So an edit in a called function compiles its callers anew, installed copies
of the same sources share what is compiled, and the package's own folder is only read.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import llvmlite
import numba
import numpy as np

# numba lets a cache be placed by a global setting only, for all packages of a process alike. These classes have stood
# unchanged since numba 0.21 and are what its documentation of the cache describes.
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator

from varcli import events
from varcli.files import user_cache_dir

F = TypeVar("F", bound=Callable[..., Any])

REORDERED = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
"""For `fastmath`: sums may be taken in any order, infinities stay what they are."""
_KEPT_DAYS = 30
_KEPT_FOLDERS = 256
_IMPORTS = re.compile(r"^(?:from ([\w.]+) import (\([^)]*\)|.*)|import ([\w.]+))", re.MULTILINE)
_TOOLS = (numba.__version__, llvmlite.__version__, np.__version__, sys.version, str(numba.config.USING_SVML))  # type: ignore[attr-defined]


def kernel(fastmath: bool | Iterable[str] = False) -> Callable[[F], F]:
    """Decorate a function to be compiled when first called, without the interpreter's lock, and kept on disk.

    `fastmath` lets sums be taken in any order, and more: true, or LLVM's names of what is allowed. A division by zero
    gives infinity, as in NumPy.
    """

    def decorate(function: F) -> F:
        options = fastmath if isinstance(fastmath, bool) else set(fastmath)
        compiled: Any = numba.njit(nogil=True, error_model="numpy", fastmath=options)(function)
        if hasattr(compiled, "_cache") and cache_folder(function) is not None:  # not where numba is switched off
            compiled._cache = _Cache(function)
        return compiled

    return decorate


def cache_folder(function: Callable[..., Any]) -> Path | None:
    """Where what is compiled of the module of `function` is kept; None for want of a place or of its sources."""
    root = _root()
    try:
        return (
            root and root / f"{function.__module__}-{_digest(Path(function.__code__.co_filename), function.__module__)}"
        )
    except OSError:
        return None


class _Locator(_CacheLocator):
    """Names the place of a function in the cache, as numba asks for it."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._function, self._py_file = function, file  # numba names the file in its warnings

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "_Locator":
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        return str(cache_folder(self._function))

    def get_source_stamp(self) -> str:
        return ""  # the path has it

    def get_disambiguator(self) -> str:
        return str(self._function.__code__.co_firstlineno)


class _Implementation(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(FunctionCache):
    """A cache without which everything works as well: what is damaged is compiled again, a full disk does no harm.

    Each signature of a function has an index of its own. numba keeps one index for all of them, in which two processes
    that compile different signatures at once can give both the same file.
    """

    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            self._choose_index(sig, target_context.codegen())
            found = super().load_overload(sig, target_context)
        except Exception:  # damage takes any form
            return None
        if found is not None:
            with suppress(OSError):
                os.utime(self.cache_path)  # in use
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            if not os.path.isdir(self.cache_path):
                _remove_unused(Path(self.cache_path).parent)
            self._choose_index(sig, data.codegen)
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # a damaged index: begin it anew
                self._cache_file.flush()
                super().save_overload(sig, data)

    def _choose_index(self, sig: Any, codegen: Any) -> None:
        name = hashlib.sha256(repr(self._index_key(sig, codegen)).encode()).hexdigest()[:16]
        self._cache_file = IndexDataCacheFile(self.cache_path, f"{self._impl.filename_base}-{name}", "")


def _remove_unused(root: Path) -> None:
    """Remove what was compiled from sources that nobody has used for long, or that too many others have followed.

    A process that still uses such a folder compiles again and loses time, nothing else.
    """
    with suppress(OSError):
        ages = sorted((time.time() - folder.stat().st_mtime, folder) for folder in root.iterdir())
        for number, (age, folder) in enumerate(ages):
            if number >= _KEPT_FOLDERS or age > _KEPT_DAYS * 86400:
                shutil.rmtree(folder, ignore_errors=True)


@cache
def _root() -> Path | None:
    """The folder of all that is compiled: $NUMBA_CACHE_DIR if set, the user's, or a private temporary one; or none."""
    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    try:
        folder = Path(chosen or user_cache_dir()) / "kernels"
        reason = _unusable(folder)
    except RuntimeError as error:  # no home
        folder, reason = Path("~"), str(error)
    if not reason:
        return folder
    # The same place in each run, so that a second one need not compile; only where it is this user's alone, for whoever
    # writes there runs code here.
    temporary = Path(tempfile.gettempdir()) / f"varcli-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    found = None if _unusable(temporary, private=True) else temporary
    events.report(events.KernelCacheMoved(str(folder), reason, str(found) if found else None))
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


def _digest(file: Path, module: str) -> str:
    """Digest of a module, of all modules of its package that it imports, directly or not, and of what compiles them."""
    depth = len(module.split(".")) - (file.name != "__init__.py")
    base, package = file.parents[depth], module.split(".")[0]
    total = hashlib.sha256("\0".join(_TOOLS).encode())
    met, waiting = {file}, [file]
    while waiting:
        path = waiting.pop()
        status = path.stat()
        content, imported = _read(path, status.st_mtime_ns, status.st_size, base, package)
        total.update(f"{path.relative_to(base)}\0{content}\n".encode())
        waiting += [each for each in imported if each not in met]
        met.update(imported)
    return total.hexdigest()[:24]


@cache
def _read(path: Path, _mtime_ns: int, _size: int, base: Path, package: str) -> tuple[str, tuple[Path, ...]]:
    """Digest of a file as it is at a time, and the files of `package` that it imports when it is imported itself."""
    text = path.read_bytes()
    names: dict[str, None] = {}
    for module, members, whole in _IMPORTS.findall(text.decode()):
        names |= dict.fromkeys([module or whole, *(f"{module}.{each}" for each in re.findall(r"\w+", members))])
    return hashlib.sha256(text).hexdigest(), tuple(_files(names, base, package))


def _files(names: Iterable[str], base: Path, package: str) -> Iterator[Path]:
    for name in names:
        if name.split(".")[0] == package:
            path = base.joinpath(*name.split("."))
            yield from (each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file())
