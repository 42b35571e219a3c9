"""Files written whole or not at all, and in one line why one could not be; the types of JSON; where caches lie."""

import errno
import math
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from varcli.errors import UsageError, VarError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def explain_os_error(error: OSError, path: Path | str) -> VarError:
    """Turn an operating-system error met while writing `path` into one line with a hint."""
    if error.errno in _FULL:
        return VarError(f"{path}: the disk is full", "free some space or choose another place")
    if error.errno in _FORBIDDEN:
        return VarError(f"{path}: may not be written", "change its permissions or choose another place")
    return VarError(f"{path}: cannot be written: {error.strerror or error}", "choose another place")


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it to `path` on success, remove it on failure.

    Raises VarError when the disk is full or the place cannot be written; `path` is then as it was before.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            # Some file systems report a full disk only here; after the rename it would be too late.
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(path)):
            raise
        raise explain_os_error(error, path) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` whole or not at all; raises VarError like atomic_write."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `path` whole or not at all; raises VarError like atomic_write."""
    write_bytes(path, text.encode())


def plain(value: Any) -> Any:
    """`value` with nothing but JSON's types in it: arrays become lists, what is not finite None, anything else text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def refuse_existing(paths: Iterable[Path | str], overwrite: bool) -> None:
    """Raise UsageError if any of `paths` exists and may not be replaced; folders are never replaced."""
    existing = [path for path in map(Path, paths) if path.exists() or path.is_symlink()]
    folders = [path for path in existing if path.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]} is a folder, not a file to write", "choose another output")
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]} exists{more}", "--overwrite replaces it, or choose another output")


def ensure_output_dir(path: Path | str) -> Path:
    """Create the folder `path` if need be and prove that files can be written in it; raises UsageError if not."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".varcli-"):
            pass
    except FileExistsError:
        raise UsageError(f"{path} is a file, not a folder to write in", "choose another --output-dir") from None
    except OSError as error:
        reason = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        raise UsageError(f"cannot write in the folder {path}: {reason}", "choose another --output-dir") from error
    return path


def user_cache_dir() -> Path:
    """The user's cache folder for this program: $XDG_CACHE_HOME/varcli, or ~/.cache/varcli.

    Raises RuntimeError where there is no home folder.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "varcli"
