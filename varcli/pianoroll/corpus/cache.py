"""The cache of a parsed corpus: one npz, which is rebuilt when anything about it is odd."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from varcli.errors import VarError
from varcli.files import atomic_write
from varcli.pianoroll.corpus.parse import Parsed, Unread
from varcli.pianoroll.score.midi import LossReport

FORMAT_VERSION = 1  # raise it whenever parsing a file gives other cells than before


def save_parsed(path: Path, results: Sequence[Parsed | Unread]) -> None:
    """Write what was parsed; a cache that cannot be written is none, and the next run parses again."""
    pieces = [result for result in results if isinstance(result, Parsed)]
    entries = [
        {"name": r.name, "reason": r.reason}
        if isinstance(r, Unread)
        else {"name": r.name, "steps": r.cells.shape[1], "bars": len(r.downbeats), "loss": asdict(r.loss)}
        for r in results
    ]
    arrays = {
        "cells": np.concatenate([piece.cells for piece in pieces] or [np.zeros((128, 0), np.uint8)], axis=1),
        "downbeats": np.concatenate([piece.downbeats for piece in pieces] or [np.zeros(0, np.int32)]),
        "meta": np.array(json.dumps({"version": FORMAT_VERSION, "files": entries})),
    }
    with suppress(VarError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            np.savez_compressed(beside, **arrays)


def load_parsed(path: Path) -> list[Parsed | Unread] | None:
    """What was parsed, or None where there is no cache, or a damaged one, or one of another version."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            cells, downbeats, meta = archive["cells"], archive["downbeats"], json.loads(str(archive["meta"]))
        if meta["version"] != FORMAT_VERSION:
            return None
        return _unpack(cells, downbeats, meta["files"])
    except Exception:  # damage takes any form, and the cache is rebuilt whatever it is
        return None


def _unpack(cells: np.ndarray, downbeats: np.ndarray, files: list[dict]) -> list[Parsed | Unread]:
    results: list[Parsed | Unread] = []
    step = bar = 0
    for file in files:
        if "reason" in file:
            results.append(Unread(file["name"], file["reason"]))
            continue
        part, bars = cells[:, step : step + file["steps"]], downbeats[bar : bar + file["bars"]]
        results.append(Parsed(file["name"], part, bars, LossReport(**file["loss"])))
        step, bar = step + file["steps"], bar + file["bars"]
    if cells.shape != (128, step) or downbeats.shape != (bar,):
        raise ValueError("the arrays do not fit their table")
    return results
