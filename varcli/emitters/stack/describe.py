"""What a camera stack is, its numbers and its health: a plain dict that `var inspect` prints."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from varcli.emitters.stack.stack import Stack, StackHealth

STACK_SUFFIXES = {".tif", ".tiff", ".btf", ".tf8"}
_CHUNK_BYTES = 32 << 20


def describe_stack(path: Path) -> dict[str, Any]:
    """A stack, all of its frames read: size, type, range of values, pixel size, health.

    Raises VarError where it is no stack of grey frames or holds what no camera counts; a truncated one is described as
    far as it goes.
    """
    stack = Stack.open([path])
    health = StackHealth.of(stack)
    rows = max(1, _CHUNK_BYTES // (stack.height * stack.width * stack.dtype.itemsize))
    smallest, largest, total = np.inf, -np.inf, 0.0
    for start in range(0, stack.frames, rows):
        frames = stack.read(start, min(start + rows, stack.frames))
        health.add(start, frames)
        smallest, largest = min(smallest, float(frames.min())), max(largest, float(frames.max()))
        total += float(frames.sum(dtype=np.float64))
    problems = health.warnings()
    if stack.truncated is not None:
        problems.append(f"{stack.truncated.message.removeprefix(f'{path}: ')}; {stack.truncated.hint}")
    return {
        "kind": "stack",
        "path": str(path),
        "format": stack.metadata["kind"],
        "frames": stack.frames,
        "height": stack.height,
        "width": stack.width,
        "dtype": stack.dtype.name,
        "bytes": os.path.getsize(path),
        "smallest": smallest,
        "largest": largest,
        "mean": total / (stack.frames * stack.height * stack.width),
        "pixel_size_nm": stack.metadata.get("pixel_size_nm"),
        "pixel_size_from": stack.metadata.get("pixel_size_from"),
        "camera_hints": stack.metadata.get("camera_hints", {}),
        "assumed": list(stack.assumed),
        "saturated_frames": health.saturated,
        "constant_frames": health.constant,
        "complete": stack.truncated is None,
        "health": {"ok": not problems, "problems": problems},
    }
