"""Options that several commands share, their completions and how their text is read; importable without torch."""

import re
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from varcli import registry
from varcli.errors import UsageError


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command of Typer's whose parameters that are dataclasses of options are an option for each of their fields."""
    parameters = signature(command).parameters.values()
    groups: dict[str, Any] = {one.name: one.annotation for one in parameters if is_dataclass(one.annotation)}
    flat: list[Parameter] = []
    for one in parameters:
        found = fields(groups[one.name]) if one.name in groups else []
        flat += [_parameter(field.name, field.type, field.default) for field in found]
        flat += [] if found else [_parameter(one.name, one.annotation, one.default)]

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        command(**given)

    run.__signature__ = Signature(flat)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {one.name: one.annotation for one in flat}
    return run


def _parameter(name: str, annotation: Any, default: Any) -> Parameter:
    default = Parameter.empty if default is MISSING else default
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def complete_checkpoint(incomplete: str) -> list[tuple[str, str]]:
    """Names of the music models whose weights ship; files complete where none fits."""
    return _complete_weights(incomplete, "pianoroll")


def complete_emitters(incomplete: str) -> list[tuple[str, str]]:
    """Names of the emitter models whose weights ship; files complete where none fits."""
    return _complete_weights(incomplete, "emitters")


def complete_formats(incomplete: str) -> list[tuple[str, str]]:
    """Formats of tables, the last of a list that commas separate."""
    from varcli.emitters.tables import FORMATS

    before, _, last = incomplete.rpartition(",")
    given = before.split(",") if before else []
    beginning = f"{before}," if before else ""
    return [
        (beginning + token, format.summary)
        for token, format in FORMATS.items()
        if token.startswith(last) and token not in given
    ]


def read_formats(text: str) -> tuple[str, ...]:
    """Formats of tables, separated by commas."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _complete_weights(incomplete: str, task: str) -> list[tuple[str, str]]:
    return [
        (entry.name, entry.summary)
        for entry in registry.entries()
        if entry.weights is not None and entry.task == task and entry.name.startswith(incomplete)
    ]


def complete_preset(incomplete: str) -> list[tuple[str, str]]:
    """Names of the presets; files complete where none fits."""
    return [(entry.name, entry.summary) for entry in registry.entries() if entry.name.startswith(incomplete)]


DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    typer.Option("--device", help="Where the model runs; auto takes a GPU if there is one."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed; equal seeds give equal bytes.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set one config value, as TOML; may be repeated."),
]
OutputDirOption = Annotated[Path, typer.Option("--output-dir", help="Folder for the outputs, made if missing.")]


def parse_counts(text: str | None, option: str) -> tuple[int, ...] | None:
    """Read whole numbers from 1, separated by spaces or commas; None stays None; raises UsageError."""
    return None if text is None else _numbers(text, option, least=1)


def parse_levels(text: str, option: str) -> frozenset[int]:
    """Read level numbers from 0, separated by spaces or commas; raises UsageError."""
    return frozenset(_numbers(text, option, least=0))


def parse_per_level(text: str | None, option: str) -> "float | tuple[float, ...] | None":
    """Read one number for all levels, or one per level, separated by spaces or commas; None stays None.

    Raises UsageError for anything that is no number; whether the model can take them is seen where it is known.
    """
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in re.split(r"[\s,]+", text.strip()))
    except ValueError:
        raise UsageError(f"{option} {text!r}: not numbers", f"for example {option} 0.9, or one per level") from None
    return values[0] if len(values) == 1 else values


def parse_every(text: str, option: str) -> int | None:
    """Read "auto" (None) or a whole number from 1; raises UsageError."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{option} {text!r}: not a whole number from 1", f"for example {option} auto, or {option} 4")
    return int(text)


def _numbers(text: str, option: str, least: int) -> tuple[int, ...]:
    parts = [part for part in re.split(r"[\s,]+", text.strip()) if part]
    if not parts or not all(part.isdecimal() and int(part) >= least for part in parts):
        raise UsageError(
            f"{option} {text!r}: not whole numbers from {least}", f'for example {option} "{least} {least + 1}"'
        )
    return tuple(int(part) for part in parts)
