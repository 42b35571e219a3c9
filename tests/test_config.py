"""Configs: where values come from, which one wins, and what is said about a wrong one."""

import ast
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from varcli import registry
from varcli.config import config_from_json, dump_toml, load_config
from varcli.emitters.config import EmittersConfig
from varcli.errors import UsageError, VarError
from varcli.pianoroll.config import PianorollConfig


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", registry.names())
def test_every_preset_loads_and_bears_its_name(name: str) -> None:
    assert load_config(name).name == name


def test_precedence_is_defaults_preset_file_set(tmp_path: Path) -> None:
    preset = load_config("fractal-ar")
    file = write(tmp_path / "mine.toml", 'preset = "fractal-ar"\nname = "mine"\n[train]\nsteps = 77\nbatch_size = 3\n')
    config = load_config(file, ["train.steps=78", "train.seed = 4"])
    assert (config.train.steps, config.train.batch_size, config.train.seed) == (78, 3, 4)
    assert config.name == "mine"
    assert config.model == preset.model
    assert config.train.warmup_steps == preset.train.warmup_steps


def test_a_file_without_a_preset_stands_on_the_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "plain.toml", "[train]\nsteps = 5\n"))
    assert config == PianorollConfig.model_validate({"train": {"steps": 5}})


def test_overrides_reach_into_lists_and_take_text_as_it_is(tmp_path: Path) -> None:
    overrides = ["model.levels.0.width=128", "data.path=/some/where", "model.levels.1.lags=[16, 32]", "name=7up"]
    config = load_config("fractal-mar-reference", overrides)
    assert config.model.levels[0].width == 128
    assert config.model.levels[1].lags == (16, 32)
    assert (config.data.path, config.name) == ("/some/where", "7up")
    assert load_config("fractal-mar-reference", ["sample.num_iter_list=none"]).sample.num_iter_list is None


@pytest.mark.parametrize("name", registry.names())
def test_toml_round_trip(tmp_path: Path, name: str) -> None:
    config = load_config(name, ["train.learning_rate=3e-4"])
    assert load_config(write(tmp_path / "config.toml", dump_toml(config))) == config


@settings(deadline=None)
@given(
    steps=st.integers(1, 10**9),
    rate=st.floats(1e-9, 10, allow_nan=False),
    name=st.text(st.characters(blacklist_categories=["Cs"])),
)
def test_any_values_survive_toml_and_json(steps: int, rate: float, name: str) -> None:
    import tomli

    config = PianorollConfig.model_validate({"name": name, "train": {"steps": steps, "learning_rate": rate}})
    assert config_from_json(tomli.loads(dump_toml(config))) == config
    assert config_from_json(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[trian]\nsteps = 5", "unknown key trian; did you mean train?"),
        ("[train]\nstesp = 5", "unknown key train.stesp; did you mean train.steps?"),
        ("[model]\nwidth = 5", "unknown key model.width; did you mean model.levels.0.width?"),
        ("[model]\ndropuot = 5", "unknown key model.dropuot; did you mean model.dropout?"),
        (
            "[[model.levels]]\nshape = '1x1'\nwidht = 64",
            "unknown key model.levels.0.widht; did you mean model.levels.0.width?",
        ),
        ("[train]\nzzz = 5", "unknown key train.zzz; known here: steps,"),
        ("[[model.levels]]\nshape = '1x1'\nwidth = 0", "model.levels.0.width: must be at least 8, got 0"),
        ("[train]\nsteps = 'many'", "train.steps: must be a valid integer"),
        ("[data]\nmax_off_grid = 0.7", "data.max_off_grid: must be at most 0.5, got 0.7"),
        ("[sample]\ntop_p = 1.5", "sample.top_p: must be a number above 0 and at most 1, or one per level, got 1.5"),
        ("[sample]\ntop_p = [1, 1, 'a', 1]", "sample.top_p: must be a number above 0"),
        ("[sample]\ntemperature = [1, 1, 0, 1]", "sample.temperature: must be a number above 0, or one per level"),
        ("[sample]\ntop_p = [1, 0.9]", "sample.top_p has 2 numbers for 4 levels"),
        ("model = 3", "model: must be"),
        ("task = 'emitters3'", "task: no task 'emitters3'"),
        ("train = [", "is not TOML"),
        ("preset = 'fractal-a'", "preset: no preset 'fractal-a'"),
    ],
)
def test_a_wrong_file_is_a_line_that_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path / "bad.toml", text)
    with pytest.raises(UsageError) as raised:
        load_config(file)
    assert said in raised.value.message
    assert str(file) in raised.value.message
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.stesp=5", "did you mean train.steps?"),
        ("modle.dropout=0.1", "did you mean model?"),
        ("model.levels.9.width=64", "model.levels has entries 0 to 3, not '9'"),
        ("model.levels.x.width=64", "not 'x'"),
        ("name.first=1", "name is a value"),
        ("train.steps", "not of the form section.key=value"),
        ("train..steps=4", "not of the form section.key=value"),
        ("train.steps=0", "train.steps: must be at least 1, got 0"),
        ("train.steps=1\nx = 2", "train.steps: must be a valid integer"),
    ],
)
def test_a_wrong_override_is_a_line(override: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_config("fractal-ar-reference", [override])
    assert said in raised.value.message
    assert "--set" in raised.value.message


PACKAGE = Path(registry.__file__).parent
FAMILIES = {"pianoroll": PianorollConfig, "emitters": EmittersConfig}


def keys_of(section: type[BaseModel]) -> Iterator[str]:
    """Names of all options of a config and the sections in it."""
    for name, field in section.model_fields.items():
        yield name
        below = field.annotation
        while typing.get_origin(below) is not None:
            below = typing.get_args(below)[0]
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from keys_of(below)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_of_a_family_is_read_by_it(family: str) -> None:
    others = {*FAMILIES} - {family}
    files = [path for path in PACKAGE.rglob("*.py") if not others & {*path.relative_to(PACKAGE).parts}]
    trees = [
        ast.parse(path.read_text(encoding="utf-8")) for path in files if path.name not in ("config.py", "schema.py")
    ]
    read = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {*keys_of(FAMILIES[family])} - {"task"} <= read


@pytest.mark.parametrize("key", ["parents_per_level", "top_nodes", "in_order_share"])
def test_keys_of_music_are_refused_by_emitters_but_in_old_checkpoints(key: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown key train\.{key}; (known here|did you mean)"):
        load_config("emitter-2d", [f"train.{key}=1"])
    old = {"task": "emitters", "train": {"steps": 7, key: 1}}
    assert config_from_json(old) == EmittersConfig.model_validate({"train": {"steps": 7}})


def test_each_problem_has_its_own_line(tmp_path: Path) -> None:
    file = write(tmp_path / "bad.toml", "[train]\nsteps = 0\nseed = -1\n[data]\nwhere = 'x'\n")
    with pytest.raises(UsageError) as raised:
        load_config(file)
    assert len(raised.value.message.splitlines()) == 3


def test_a_missing_source_suggests(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        load_config("fractal-arr")
    assert "fractal-ar" in str(raised.value.hint)
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path)


def test_a_bad_config_in_a_checkpoint_is_no_usage_error() -> None:
    with pytest.raises(VarError) as raised:
        config_from_json({"train": {"steps": 0}}, "some.safetensors")
    assert raised.value.exit_code == 1
    assert "some.safetensors: train.steps" in raised.value.message
