"""TOML, presets and --set become one of the domains' typed configs.

Precedence: defaults < preset < file < --set. A file may name its base with `preset = "name"`.
"""

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varcli import registry
from varcli.errors import UsageError, VarError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    from varcli.emitters.simulation.config import StackConfig
    from varcli.pianoroll.config import PianorollConfig

TASKS = {
    "pianoroll": "varcli.pianoroll.config:PianorollConfig",
    "emitters": "varcli.emitters.config:EmittersConfig",
}
SIMULATION = {"simulation": "varcli.emitters.simulation.config:StackConfig"}
_NEVER_READ = {"emitters": frozenset({"parents_per_level", "top_nodes", "in_order_share"})}
"""Keys of `train` that every family accepted before each had its own: older checkpoints hold them."""
_MOST_PROBLEMS = 8


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> "PianorollConfig":
    """Read a preset by name or a TOML file, then apply "section.key=value" overrides in order.

    Values of overrides are TOML, or text where they are not TOML; "none" takes an optional value away; list entries
    go by index (model.levels.0.width=128). Raises UsageError with one line per problem.
    """
    tables, origin = _read_source(source)
    return _overridden(_validate(tables, origin, UsageError), overrides, TASKS)


def load_simulation(source: str | Path, overrides: Sequence[str] = ()) -> "StackConfig":
    """Like load_config for `var simulate emitters`: its presets, or a TOML file."""
    preset = registry.simulation_preset(str(source))
    path = preset or Path(source)
    if not path.exists():
        known = ", ".join(name for name, _ in registry.SIMULATIONS)
        raise UsageError(f"no preset or config file {str(source)!r}", f"presets: {known}")
    tables = {"task": "simulation", **_read_toml(path)}
    config = _validate(tables, preset.name if preset else str(path), UsageError, SIMULATION)
    return _overridden(config, overrides, SIMULATION)


def _overridden(config: Any, overrides: Sequence[str], tasks: Mapping[str, str]) -> Any:
    if not overrides:
        return config
    tables = config.model_dump(mode="json")
    for override in overrides:
        _apply(tables, override, type(config))
    return _validate(tables, "--set", UsageError, tasks)


def config_from_json(tables: Mapping[str, Any], source: str = "config") -> "PianorollConfig":
    """Build the config that a checkpoint carries; `source` names it in the VarError raised for a bad one.

    Keys that a family once accepted without reading them are left out, and those that had another name get today's.
    """
    task, train, model = tables.get("task"), tables.get("train"), tables.get("model")
    unread = _NEVER_READ.get(task, frozenset()) if isinstance(task, str) else frozenset()
    if isinstance(train, dict):
        tables = {**tables, "train": {key: value for key, value in train.items() if key not in unread}}
    if task in (None, "pianoroll") and isinstance(model, dict) and isinstance(model.get("voices"), bool):
        # The number of notes below a node was called so.
        tables = {**tables, "model": {"polyphony" if key == "voices" else key: model[key] for key in model}}
    return _validate(dict(tables), source, VarError)


def check_same_config(path: Path, config: "BaseModel") -> None:
    """Raise UsageError unless the config.toml at `path` says the same as `config`, in whatever order of keys."""
    options, earlier = (
        dict(_options(one.model_dump(mode="json"))) for one in (config, config_from_json(_read_toml(path), str(path)))
    )
    differing = [key for key in options | earlier if options.get(key) != earlier.get(key)]
    if differing:
        key = differing[0]
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise UsageError(
            f"the config differs from {path}: {key} is {options.get(key)!r}, there {earlier.get(key)!r}{more}",
            "resume with the config of the run",
        )


def _options(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of all options, entries of lists included; None, as nothing, is left out."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _options(part, f"{name}.{key}".lstrip("."))
    elif value is not None:
        yield name, value


def dump_toml(config: "BaseModel") -> str:
    """Write every option of a config as TOML, such that load_config gives an equal one back."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _read_source(source: str | Path) -> tuple[dict[str, Any], str]:
    if str(source) in registry.names():
        path = registry.get(str(source)).preset
        return _read_toml(path), path.name
    path = Path(source)
    if not path.exists():
        hint = None if path.suffix == ".toml" else registry.suggestion(str(source))
        raise UsageError(f"no preset or config file {str(source)!r}", hint or f"presets: {', '.join(registry.names())}")
    tables = _read_toml(path)
    base = tables.pop("preset", None)
    if base is None:
        return tables, str(path)
    if not isinstance(base, str) or base not in registry.names():
        hint = registry.suggestion(str(base)) or f"presets: {', '.join(registry.names())}"
        raise UsageError(f"{path}: preset: no preset {base!r}", hint)
    return _merge(_read_toml(registry.get(base).preset), tables), str(path)


def _read_toml(path: Path) -> dict[str, Any]:
    import tomli

    try:
        return tomli.loads(path.read_text(encoding="utf-8"))
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", "presets and configs are TOML files") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; anything else, lists included, replaces what it covers."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply(tables: dict[str, Any], override: str, model: "type[BaseModel]") -> None:
    """Put one "section.key=value" into `tables`, in place."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {override}: not of the form section.key=value", "for example --set train.steps=500")
    place: Any = tables
    for depth, part in enumerate(parts):
        at = ".".join(parts[:depth])
        index: Any = part
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                raise UsageError(f"--set {override}: {at} has entries 0 to {len(place) - 1}, not {part!r}")
            index = int(part)
        elif not isinstance(place, dict):
            raise UsageError(f"--set {override}: {at} is a value, it has no {part!r}")
        elif part not in place:
            raise UsageError(f"--set {override}: {_unknown(model, tuple(parts[: depth + 1]))}")
        if depth == len(parts) - 1:
            place[index] = _value(text.strip())
        place = place[index]


def _value(text: str) -> Any:
    import tomli

    if text.lower() == "none":
        return None
    try:
        tables = tomli.loads(f"value = {text}")
    except tomli.TOMLDecodeError:
        return text
    value = tables["value"]
    return value if len(tables) == 1 and isinstance(value, bool | int | float | str | list | dict) else text


def _validate(tables: dict[str, Any], source: str, error_type: type[VarError], tasks: Mapping[str, str] = TASKS) -> Any:
    from pydantic import ValidationError

    task = tables.get("task", "pianoroll")
    if not isinstance(task, str) or task not in tasks:
        raise error_type(f"{source}: task: no task {task!r}", f"tasks: {', '.join(tasks)}")
    module, name = tasks[task].split(":")
    model = getattr(import_module(module), name)
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        problems = [f"{source}: {line}" for line in _problems(error, model)]
        more = [f"... and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
        raise error_type("\n".join(problems[:_MOST_PROBLEMS] + more)) from None


def _problems(error: "ValidationError", model: "type[BaseModel]") -> Iterator[str]:
    """One line per problem: where, what was expected, what stood there."""
    for problem in error.errors(include_url=False):
        if problem["type"] == "extra_forbidden":
            yield _unknown(model, problem["loc"])
            continue
        text = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        text = text.replace("Input should be", "must be").replace("greater than or equal to", "at least")
        text = text.replace("less than or equal to", "at most")
        at = ".".join(map(str, problem["loc"])) or "config"
        shown = problem["type"] != "value_error" and problem["type"] != "missing"
        given = f", got {problem['input']!r}" if shown and len(repr(problem["input"])) < 60 else ""
        yield f"{at}: {text}{given}"


def _unknown(model: "type[BaseModel]", loc: tuple[int | str, ...]) -> str:
    *section, key = map(str, loc)
    known = _fields_at(model, loc[:-1])
    at = ".".join([*section, key])
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"unknown key {at}; did you mean {'.'.join([*section, near[0]])}?"
    elsewhere = [path for path in _paths(model) if path.rsplit(".", 1)[-1] == key]
    if elsewhere:
        return f"unknown key {at}; did you mean {elsewhere[0]}?"
    return f"unknown key {at}; known here: {', '.join(known)}"


def _fields_at(model: "type[BaseModel]", loc: tuple[int | str, ...]) -> list[str]:
    place: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, str) and not part.isdecimal() and place is not None:
            field = place.model_fields.get(part)
            place = _submodel(field.annotation) if field else None
    return list(place.model_fields) if place else []


def _paths(model: "type[BaseModel]", prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        below = _submodel(field.annotation)
        if below is None:
            yield prefix + name
        else:
            listed = typing.get_origin(field.annotation) is tuple
            yield prefix + name
            yield from _paths(below, f"{prefix}{name}.{'0.' if listed else ''}")


def _submodel(annotation: Any) -> "type[BaseModel] | None":
    """The config section inside an annotation, such as LevelConfig in tuple[LevelConfig, ...]."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in typing.get_args(annotation) if (found := _submodel(inner))), None)
