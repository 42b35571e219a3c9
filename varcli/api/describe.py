"""What a file is, its numbers and its health: plain dicts that `var inspect` prints; needs no torch."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from varcli import loading, registry
from varcli.checkpoint import PICKLED, Checked, Layout, header_of, read_checked
from varcli.config import config_from_json, load_config
from varcli.emitters.stack.describe import STACK_SUFFIXES, describe_stack
from varcli.emitters.tables.describe import describe_table, table_suffixes
from varcli.errors import UsageError

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_KINDS = (
    "a checkpoint (.safetensors), a run folder, a preset or config (.toml), frames (.npz), MIDI (.mid), "
    "a camera stack (.tif) or a table of emitters"
)


def describe(name_or_path: str | Path) -> dict[str, Any]:
    """Say what a registered name or a path is.

    "kind" is checkpoint, training-state, config, frames, midi, stack or table;
    "health" holds "ok" and a list of "problems". Raises UsageError for a missing or unknown kind of file, VarError for
    one that cannot be read.
    """
    path = Path(name_or_path)
    if str(name_or_path) in registry.names():
        entry = registry.get(str(name_or_path))
        return describe_config(entry.name) if entry.weights is None else describe_checkpoint(entry.weights)
    if path.is_dir():
        return describe_checkpoint(loading.resolve_checkpoint(path))
    if not path.exists():
        hint = registry.suggestion(str(name_or_path)) or "without a path, `var inspect` lists models and presets"
        raise UsageError(f"{path}: no such file, and no model or preset of that name", hint)
    suffix = path.suffix.lower()
    if suffix == ".safetensors" or suffix in PICKLED:
        return describe_checkpoint(path)
    if suffix == ".toml":
        return describe_config(path)
    if suffix == ".npz":
        return describe_frames(path)
    if suffix in {".mid", ".midi"} or _begins_like_midi(path):
        return describe_midi(path)
    if suffix in STACK_SUFFIXES:
        return describe_stack(path)
    if suffix in table_suffixes():
        return describe_table(path)
    raise UsageError(f"{path}: unknown kind of file", f"var inspect reads {_KINDS}")


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint or training state: every byte checked against its digest, and its numbers for NaN."""
    checked = read_checked(path)
    health = _health(_not_finite(checked))
    if "state" in checked.fields:
        return {"kind": "training-state", "path": str(path), "numbers": checked.fields["state"], "health": health}
    header = header_of(checked.fields, path)
    config = config_from_json(header.config, str(path))
    return {
        "kind": "checkpoint",
        "path": str(path),
        "name": config.name,
        "task": header.task,
        "version": header.version,
        "steps": header.steps,
        "seed": header.seed,
        "bytes": path.stat().st_size,
        "digest": header.digest,
        "parameters": _parameters(checked.layout),
        "levels": _levels(config),
        "data": header.data,
        "metrics": header.metrics,
        "config": header.config,
        "health": health,
    }


def describe_config(source: str | Path) -> dict[str, Any]:
    """A preset by name or a config file, every option resolved."""
    config = load_config(source)
    return {
        "kind": "config",
        "path": str(source),
        "name": config.name,
        "task": config.task,
        "levels": _levels(config),
        "config": config.model_dump(mode="json"),
        "health": _health([]),
    }


def describe_frames(path: Path) -> dict[str, Any]:
    """A recording as `var gif` reads it."""
    from varcli.animation.frames import load_frames

    recording = load_frames(path)
    count, height, width = recording.frames.shape
    problems = [] if recording.frames[-1].any() else ["the last frame is empty"]
    return {
        "kind": "frames",
        "path": str(path),
        "title": recording.meta.title,
        "frames": count,
        "height": height,
        "width": width,
        "levels": sorted({int(level) for level in recording.level if level >= 0}),
        "labels": list(recording.labels),
        "seconds": float(recording.seconds[-1]),
        "seconds_at_2_fps": count / 2,
        "health": _health(problems),
    }


def describe_midi(path: Path) -> dict[str, Any]:
    """A MIDI file as the tool reads it: 16th-note steps, and what that grid costs its notes."""
    import dataclasses

    import mido

    from varcli.pianoroll.score.midi import read_midi

    piece = read_midi(path)
    roll, loss = piece.roll, piece.loss
    file = mido.MidiFile(path, clip=True)
    notes = roll.notes
    problems = []
    if loss.off_grid > 0.1:
        problems.append(f"onsets lie {loss.off_grid:.2f} of a step off the grid on average")
    if loss.unended:
        problems.append(f"{loss.unended} notes have no end")
    return {
        "kind": "midi",
        "path": str(path),
        "title": roll.title,
        "tracks": sum(any(message.type == "note_on" for message in track) for track in file.tracks),
        "ticks_per_beat": file.ticks_per_beat,
        "tempo_bpm": roll.tempo_bpm,
        "seconds": roll.steps / roll.steps_per_beat * 60 / roll.tempo_bpm,
        "steps": roll.steps,
        "bars": math.ceil(roll.steps / roll.steps_per_bar),
        "notes": len(notes),
        "lowest_pitch": min(note.pitch for note in notes),
        "highest_pitch": max(note.pitch for note in notes),
        "loss": dataclasses.asdict(loss),
        "health": _health(problems),
    }


def _begins_like_midi(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"MThd"


def _levels(config: Any) -> list[dict[str, Any]]:
    """One entry per level of a piano-roll model, or per scale of an emitter model."""
    model = config.model
    if config.task == "emitters":
        return [
            {"kind": mixing, "child": f"{scale}x{scale}", "width": model.width, "blocks": model.layers}
            for scale, mixing in zip(model.scales, model.mixing, strict=True)
        ]
    return [
        {"kind": level.kind, "child": level.shape or "value", "width": level.width, "blocks": level.blocks}
        for level in model.levels
    ]


def _parameters(layout: Layout) -> dict[str, Any]:
    """Numbers in the tensors, in all and per level of the model ("levels.0.…" belongs to level 0)."""
    counts: Counter[str] = Counter()
    for entry in layout.tensors:
        parts = entry.name.split(".")
        where = f"level {parts[1]}" if parts[0] == "levels" and len(parts) > 1 else "shared"
        counts[where] += math.prod(entry.shape)
    return {"total": counts.total(), **dict(sorted(counts.items()))}


def _not_finite(checked: Checked) -> list[str]:
    problems = []
    tensors = memoryview(checked.blob)[checked.layout.data_start :]
    for entry in checked.layout.tensors:
        data = tensors[entry.start : entry.end]
        if entry.dtype in _FLOATS:
            bad = int((~np.isfinite(np.frombuffer(data, _FLOATS[entry.dtype]))).sum())
        elif entry.dtype == "BF16":
            # numpy has no bfloat16; all eight exponent bits set means infinite or NaN.
            bad = int(((np.frombuffer(data, "<u2") & 0x7F80) == 0x7F80).sum())
        else:
            continue
        if bad:
            problems.append(f"{entry.name}: {bad} values are not finite")
    return problems


def _health(problems: list[str]) -> dict[str, Any]:
    return {"ok": not problems, "problems": problems}
