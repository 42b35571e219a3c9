"""`var inspect`: what a file is, its numbers and its health."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from varcli.cli.options import JsonOption, complete_preset
from varcli.cli.output import emit, table


def inspect(
    path: Annotated[
        str | None,
        typer.Argument(
            help="A checkpoint, run folder, preset, config, frames.npz, .mid, .tif or table; absent: the registry.",
            autocompletion=complete_preset,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a checkpoint, preset, config, recording, MIDI file, stack or table is, its numbers and its health.

    Without PATH: the registered models and presets. JSON keys: kind, path, health {ok, problems} and those of the kind;
    without PATH: models [{name, task, summary, preset, weights}].
    """
    if path is None:
        _list_models(as_json)
        return
    from varcli.api.describe import describe

    document = describe(path)
    emit(document, _lines(document), as_json)


def _list_models(as_json: bool) -> None:
    from varcli import registry

    models = [
        {
            "name": entry.name,
            "task": entry.task,
            "summary": entry.summary,
            "preset": str(entry.preset),
            "weights": str(entry.weights) if entry.weights else None,
        }
        for entry in registry.entries()
    ]
    lines = table((f"{model['name']}{'' if model['weights'] else ' (preset)'}", model["summary"]) for model in models)
    emit({"kind": "registry", "models": models}, lines, as_json)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    """The document for people: one aligned row per key, long ones left to --json."""
    health = document["health"]
    shown = {key: value for key, value in document.items() if key not in {"config", "health"}}
    if document["kind"] in {"checkpoint", "config"}:
        shown["levels"] = [f"{at['child']} {at['kind']} {at['width']}x{at['blocks']}" for at in document["levels"]]
        shown["sampling"] = _sampling(document["config"].get("sample", {}))
    if document["kind"] == "table":
        shown["medians"] = ", ".join(f"{name} {value:.4g}" for name, value in document["medians"].items())
        shown["columns"], shown["ignored_columns"] = (
            ", ".join(document[name]) for name in ("columns", "ignored_columns")
        )
        del shown["provenance"]
    if document["kind"] == "frames":
        shown["labels"] = f"{document['labels'][0]} ... {document['labels'][-1]}"
    shown["health"] = "good" if health["ok"] else "; ".join(health["problems"])
    yield from table((key, value) for key, value in shown.items() if value not in ("", {}, []))


def _sampling(defaults: dict[str, Any]) -> str:
    """How a music model samples unless told otherwise: "order scan, top_p 1 1 0.95 0.98"; empty for others."""
    said = {name: value if isinstance(value, list) else [value] for name, value in defaults.items() if value}
    return ", ".join(f"{name} {' '.join(map(str, values))}" for name, values in said.items())
