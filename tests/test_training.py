"""Training: it learns, it resumes to the bit, it leaves what it says, alone and in two processes."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli
import tomli_w
import torch
from fractal_support import config_of, price
from roll_support import notes_to_cells

from varcli.checkpoint import load_checkpoint, load_state, read_header
from varcli.config import dump_toml, load_config
from varcli.errors import UsageError, VarError
from varcli.events import CheckpointSaved, FilesRead, TrainStep, Validated
from varcli.loading import load_model
from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.model.decisions import Draw
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.roll import Note, Roll, Vocabulary
from varcli.pianoroll.score.midi import write_midi
from varcli.pianoroll.training.task import PianorollTask
from varcli.schema import TrainConfig
from varcli.train import loop
from varcli.train.loop import learning_rate, train
from varcli.train.tasks import plan


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Binary pieces as .npz: a scale that climbs, at several lengths."""
    path = tmp_path_factory.mktemp("data") / "pieces.npz"
    arrays = {}
    for number, split in enumerate(("train", "train", "train", "valid")):
        roll = np.zeros((20 + 7 * number, 88), np.uint8)
        for step in range(len(roll)):
            roll[step, 30 + (step // 2 + number) % 12] = 1
        arrays[f"{split}_{number:03d}"] = roll
    np.savez(path, **arrays)
    return path


def finish(config: PianorollConfig, data: Path, folder: Path, **options: Any) -> list[Any]:
    folder.mkdir(exist_ok=True)
    return list(train(config, data=data, output_dir=folder, **options))


def log_of(folder: Path) -> Iterator[dict[str, Any]]:
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        yield {name: value for name, value in json.loads(line).items() if name not in ("seconds", "path")}


@pytest.mark.parametrize(("kind", "optimizer"), [("ar", "adamw"), ("mar", "adamw"), ("ar", "muon")])
def test_stopping_and_resuming_is_training_straight_through(kind, optimizer, pieces, tmp_path) -> None:
    data = {"transpose_down": 2, "transpose_up": 2}
    config = config_of(kind, model={"dropout": 0.1}, data=data, optimizer=optimizer)
    finish(config, pieces, tmp_path / "straight")
    finish(config, pieces, tmp_path / "halves", max_steps=3)
    assert load_state(tmp_path / "halves" / "last.state.safetensors")[1]["step"] == 3
    finish(config, pieces, tmp_path / "halves", resume=True)
    assert list(log_of(tmp_path / "halves")) == list(log_of(tmp_path / "straight"))
    for name in ("best.safetensors", "last.safetensors", "last.state.safetensors", "config.toml"):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_stop_between_validations_changes_no_loss_and_no_weight(pieces, tmp_path) -> None:
    config = config_of()
    finish(config, pieces, tmp_path / "straight")
    for stop in (1, 2, 5, None):
        finish(config, pieces, tmp_path / "parts", max_steps=stop, resume=stop != 1)
    losses = [
        [line for line in log_of(tmp_path / name) if line["event"] == "TrainStep"] for name in ("straight", "parts")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 6
    tensors = [load_state(tmp_path / name / "last.state.safetensors")[0] for name in ("straight", "parts")]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])


@pytest.fixture(scope="module")
def finished(pieces, tmp_path_factory: pytest.TempPathFactory) -> tuple[PianorollConfig, Path, list[Any]]:
    config = config_of(sample_every=6)
    folder = tmp_path_factory.mktemp("run")
    return config, folder, finish(config, pieces, folder)


def test_a_run_yields_and_logs_what_happens(finished) -> None:
    config, folder, events = finished
    assert isinstance(events[0], FilesRead)
    steps = [event for event in events if isinstance(event, TrainStep)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6]
    assert [event.lr for event in steps] == [learning_rate(config.train, step) for step in range(6)]
    assert all(math.isfinite(event.loss) and event.nats_per_frame > 0 and event.seconds > 0 for event in steps)
    validated = [event for event in events if isinstance(event, Validated)]
    assert [event.step for event in validated] == [3, 6]
    assert validated[0].best
    assert sum(validated[0].bits_per_level) * math.log(2) == pytest.approx(validated[0].nats_per_frame)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    logged = [line for line in lines if line["event"] == "TrainStep"]
    assert [line["loss"] for line in logged] == [event.loss for event in steps]
    assert len(lines) == sum(not isinstance(event, FilesRead) for event in events)


def test_a_run_leaves_a_folder_that_describes_itself(finished) -> None:
    config, folder, events = finished
    saved = {Path(event.path).name for event in events if isinstance(event, CheckpointSaved)}
    assert saved == {"best.safetensors", "last.safetensors", "step_0000006.png"}
    assert (folder / "samples" / "step_0000006.png").stat().st_size > 0
    assert load_config(folder / "config.toml") == config
    header = read_header(folder / "last.safetensors")
    assert (header.task, header.steps, header.seed) == ("pianoroll", 6, 0)
    assert header.data["pieces"] == 3 and header.data["steps"] == 20 + 27 + 34
    best = min(event.nats_per_frame for event in events if isinstance(event, Validated))
    assert read_header(folder / "best.safetensors").metrics["valid_nats_per_frame"] == best
    model, _ = load_model(folder)
    assert model.config == config and not model.training


def test_what_is_saved_is_the_average_of_the_weights(finished) -> None:
    config, folder, _ = finished
    _, weights = load_checkpoint(folder / "last.safetensors")
    state, numbers = load_state(folder / "last.state.safetensors")
    assert numbers["step"] == 6
    assert weights.keys() == {name for name, _ in FractalModel(config).named_parameters()}
    assert all(torch.equal(weights[name], state[f"average.{name}"]) for name in weights)
    assert not any(
        torch.equal(weights[name], state[f"model.{name}"]) for name in weights if name.endswith("see.weight")
    )


def test_weights_may_be_stored_in_half_precision(pieces, tmp_path) -> None:
    finish(config_of(store="fp16", steps=1), pieces, tmp_path)
    _, weights = load_checkpoint(tmp_path / "best.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    model, _ = load_model(tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert np.isfinite(price(model, np.zeros((1, 128, 4), np.uint8))).all()


def test_resuming_with_another_config_or_from_nothing_is_refused(finished, pieces, tmp_path) -> None:
    config, folder, _ = finished
    other = config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": 0.5})})
    with pytest.raises(UsageError, match=r"config differs from .*: train\.learning_rate is 0\.5, there 0\.0"):
        finish(other, pieces, folder, resume=True)
    with pytest.raises(UsageError, match=r"no last\.state\.safetensors"):
        finish(config, pieces, tmp_path, resume=True)
    done = finish(config, pieces, folder, resume=True)
    assert not [event for event in done if isinstance(event, TrainStep)]


def test_a_run_whose_file_has_its_keys_in_another_order_resumes(pieces, tmp_path) -> None:
    config = config_of()
    finish(config, pieces, tmp_path, max_steps=3)
    tables = tomli.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))
    tables["train"] = dict(reversed(tables["train"].items()))
    text = tomli_w.dumps(dict(reversed(tables.items())))
    assert text != dump_toml(config)
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    finish(config, pieces, tmp_path, resume=True)
    assert load_state(tmp_path / "last.state.safetensors")[1]["step"] == 6
    shorter = config.model_copy(update={"data": config.data.model_copy(update={"crop_steps": 8})})
    with pytest.raises(UsageError, match=r"data\.crop_steps is 8, there 16"):
        finish(shorter, pieces, tmp_path, resume=True)


def test_a_loss_that_is_no_number_stops_the_run(pieces, tmp_path) -> None:
    with pytest.raises(VarError, match="the loss is") as caught:
        finish(config_of(learning_rate=1e30, warmup_steps=0), pieces, tmp_path)
    assert caught.value.hint


def test_a_corpus_without_validation_pieces_is_refused(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", train_0=np.ones((9, 88), np.uint8))
    with pytest.raises(UsageError, match="no validation pieces"):
        finish(config_of(), tmp_path / "a.npz", tmp_path)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    options = TrainConfig(steps=110, warmup_steps=10, learning_rate=2.0, final_lr_share=0.1)
    rates = [learning_rate(options, step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert rates[110] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert learning_rate(TrainConfig(steps=1, warmup_steps=0), 0) == 1e-3


def test_the_learning_rate_may_stay_until_it_falls_in_a_straight_line() -> None:
    options = TrainConfig(steps=100, warmup_steps=10, learning_rate=2.0, final_lr_share=0.0, decay_share=0.2)
    assert {learning_rate(options, step) for step in range(10, 81)} == {2.0}
    assert [learning_rate(options, step) for step in (85, 90, 100)] == pytest.approx([1.5, 1.0, 0.0])


def test_muon_moves_inner_matrices_and_adamw_the_rest(pieces, tmp_path) -> None:
    config = config_of(optimizer="muon", muon_learning_rate=1e-30, warmup_steps=0, weight_decay=0.0)
    finish(config, pieces, tmp_path, max_steps=1)
    torch.manual_seed(config.train.seed)
    before = dict(FractalModel(config).named_parameters())
    after, _ = load_state(tmp_path / "last.state.safetensors")
    still = {name for name, p in before.items() if torch.equal(p, after[f"model.{name}"])}
    inner = {name for name, p in before.items() if ".transformer." in name and p.ndim == 2}
    assert inner
    assert inner <= still
    assert not [name for name in still - inner if name.endswith("see.weight")]


def test_a_plan_counts_what_would_be_trained() -> None:
    config = config_of("mar", notes=True)
    planned = plan(config)
    assert planned["parameters"] == sum(p.numel() for p in FractalModel(config).parameters())
    assert planned["parameters"] == sum(planned["parameters_per_level"].values())
    assert list(planned["parameters_per_level"]) == ["L0", "L1", "L2", "L3"]
    assert (planned["steps"], planned["crops"], planned["frames"]) == (6, 12, 12 * 16)


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_a_step_in_bfloat16_runs_and_stays_near_single_precision(kind, pieces, tmp_path) -> None:
    nats = {}
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        events = finish(config_of(kind, precision=precision, steps=2), pieces, folder)
        nats[precision] = [event.nats_per_frame for event in events if isinstance(event, TrainStep | Validated)]
        assert {tensor.dtype for tensor in load_checkpoint(folder / "last.safetensors")[1].values()} == {torch.float32}
    assert nats["bf16"] == pytest.approx(nats["fp32"], rel=0.03)
    assert nats["bf16"] != nats["fp32"]


def test_a_folder_of_midi_trains_a_model_of_notes(tmp_path) -> None:
    for number in (0, 1, 2):
        notes = [Note(60 + number + step % 5, step, 2, 60) for step in range(0, 32, 2)]
        cells, _ = notes_to_cells(notes, 32, Vocabulary())
        write_midi(Roll(cells, Vocabulary()), tmp_path / f"{number:03d}.mid")
    events = finish(config_of(notes=True, steps=2), tmp_path, tmp_path / "run")
    assert [event.total for event in events if isinstance(event, FilesRead)][-1] == 3
    assert math.isfinite(events[-1].step) and (tmp_path / "run" / "best.safetensors").exists()


def test_two_processes_learn_from_the_mean_of_their_gradients(pieces, tmp_path) -> None:
    # Clipping and AdamW would hide a sum in the place of a mean; the moments of unclipped gradients do not.
    config = config_of(steps=2, validate_every=2, save_every=2, grad_clip=1e9)
    (tmp_path / "config.toml").write_text(dump_toml(config), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "varcli"]
    command += ["train", str(tmp_path / "config.toml"), "--data", str(pieces), "--output-dir", str(tmp_path / "run")]
    package = str(Path(loop.__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": package}
    done = subprocess.run(
        [*command, "--device", "cpu", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 2
    logged = [line for line in log_of(tmp_path / "run") if line["event"] == "TrainStep"]
    assert [line["step"] for line in logged] == [1, 2]
    assert all(math.isfinite(line["loss"]) for line in logged)
    state, _ = load_state(tmp_path / "run" / "last.state.safetensors")
    for name, (weight, moment) in alone_with_both_gradients(config, pieces).items():
        torch.testing.assert_close(state[f"model.{name}"], weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(state[f"optimizer.exp_avg.{name}"], moment, rtol=1e-4, atol=1e-6)


def alone_with_both_gradients(config: PianorollConfig, data: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weights and first moments after the steps of `config` on the mean gradient of two ranks, in one process."""
    *_, task = PianorollTask.read(config, data)
    assert isinstance(task, PianorollTask)
    options = config.train
    run = loop._start(config, task, "cpu")
    model = run.model.train()
    assert isinstance(model, FractalModel)
    for step in range(options.steps):
        means = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        for rank in (0, 1):
            seed = options.seed * 1_000_003 + step * 97 + rank
            draw = Draw(torch.Generator().manual_seed(seed), options.parents_per_level)
            model.zero_grad()
            task.loss(model, task.batch(step, rank, options.batch_size), draw).loss.backward()
            for name, p in model.named_parameters():
                means[name] += 0 if p.grad is None else p.grad / 2
        for name, p in model.named_parameters():
            p.grad = means[name]
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.grad_clip)
        (optimizer,) = run.optimizers
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(options, step)
        optimizer.step()
    return {name: (p.detach(), optimizer.state[p]["exp_avg"]) for name, p in model.named_parameters()}
