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

FORMAT_VERSION = 4  # raise it whenever parsing a file gives other cells or bars than before


def save_parsed(path: Path, results: Sequence[Parsed | Unread]) -> None:
    """Write what was parsed; a cache that cannot be written is none, and the next run parses again."""
    pieces = [result for result in results if isinstance(result, Parsed)]
    voices = list(pieces[0].voices) if pieces else []
    meta = {"version": FORMAT_VERSION, "voices": voices, "files": [_entry(result) for result in results]}
    arrays = {
        "cells": _in_a_row([piece.cells for piece in pieces]),
        "downbeats": np.concatenate([piece.downbeats for piece in pieces] or [np.zeros(0, np.int32)]),
        "meta": np.array(json.dumps(meta)),
        **{f"voice_{index}": _in_a_row([p.voices[name] for p in pieces]) for index, name in enumerate(voices)},
    }
    with suppress(VarError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            np.savez_compressed(beside, **arrays)


def _entry(result: Parsed | Unread) -> dict:
    if isinstance(result, Unread):
        return asdict(result)
    sizes = {"steps": result.cells.shape[1], "bars": len(result.downbeats)}
    about = {"loss": asdict(result.loss), "steps_per_bar": result.steps_per_bar, "note": result.note}
    about["beat_units"] = list(result.beat_units.items())
    return {"name": result.name, **sizes, **about}


def _in_a_row(canvases: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(canvases or [np.zeros((128, 0), np.uint8)], axis=1)


def load_parsed(path: Path) -> list[Parsed | Unread] | None:
    """What was parsed, or None where there is no cache, or a damaged one, or one of another version."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            cells, downbeats, meta = archive["cells"], archive["downbeats"], json.loads(str(archive["meta"]))
            if meta["version"] != FORMAT_VERSION:
                return None
            voices = {name: archive[f"voice_{index}"] for index, name in enumerate(meta["voices"])}
        return _unpack(cells, voices, downbeats, meta["files"])
    except Exception:  # damage takes any form, and the cache is rebuilt whatever it is
        return None


def _unpack(
    cells: np.ndarray, voices: dict[str, np.ndarray], downbeats: np.ndarray, files: list[dict]
) -> list[Parsed | Unread]:
    results: list[Parsed | Unread] = []
    step = bar = 0
    for file in files:
        if "reason" in file:
            results.append(Unread(file["name"], file["reason"]))
            continue
        steps, bars = slice(step, step + file["steps"]), downbeats[bar : bar + file["bars"]]
        parts = {name: canvas[:, steps] for name, canvas in voices.items()}
        loss, metre = LossReport(**file["loss"]), file["steps_per_bar"]
        units = dict(file["beat_units"])
        results.append(Parsed(file["name"], cells[:, steps], bars, loss, metre, parts, file["note"], units))
        step, bar = steps.stop, bar + file["bars"]
    if any(canvas.shape != (128, step) for canvas in (cells, *voices.values())) or downbeats.shape != (bar,):
        raise ValueError("the arrays do not fit their table")
    return results
