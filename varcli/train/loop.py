"""The training loop: plain, resumable to the bit, on one process or under torchrun.

A task brings batches, a loss and a validation figure; the loop brings the optimiser, the averaged weights, the
schedule, the files and the events.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from varcli.checkpoint import load_state, save_checkpoint, save_state
from varcli.config import check_same_config, dump_toml
from varcli.errors import UsageError, VarError
from varcli.events import CheckpointSaved, Event, TrainStep, Validated
from varcli.files import write_text
from varcli.schema import TrainConfig
from varcli.train.tasks import Config, Task, open_task

_OPTIMIZER_STATE = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
"""What AdamW and Muon remember of a parameter."""


@dataclass
class Run:
    """Everything that changes while training: weights, their average, the optimiser, and how far it got."""

    model: nn.Module
    device: torch.device
    average: dict[str, Tensor]
    optimizers: tuple[torch.optim.Optimizer, ...]
    step: int = 0
    best: float = math.inf
    bits_per_level: tuple[float, ...] = ()
    history: dict[str, Any] = field(default_factory=dict)


def train(
    config: Config,
    *,
    data: Path | None = None,
    output_dir: Path,
    max_steps: int | None = None,
    resume: bool = False,
    device: str = "cpu",
) -> Iterator[Event]:
    """Train a model and leave config.toml, best and last weights, the state and log.jsonl in `output_dir`.

    `data` is what its task reads; emitter models, whose frames are simulated, need none.
    `max_steps` stops early without changing the schedule. `resume` goes on from last.state.safetensors with the same
    losses as an uninterrupted run. Raises UsageError when there is nothing to resume or the config has changed,
    VarError when the loss is no longer finite.
    """
    rank, world = _join_group(device)
    task: Task | None = None
    for item in open_task(config, data, device):
        if isinstance(item, Event):
            yield item
        else:
            task = item
    assert task is not None
    run = _start(config, task, device)
    if resume:
        _restore(run, output_dir, config)
    elif rank == 0:
        write_text(output_dir / "config.toml", dump_toml(config))
        (output_dir / "log.jsonl").unlink(missing_ok=True)
    stop = min(config.train.steps, max_steps or config.train.steps)
    writer = _tensorboard(output_dir) if config.train.tensorboard and rank == 0 else None
    try:
        for event in _steps(run, task, config, output_dir, stop, rank, world):
            if rank == 0:
                _log(output_dir, event, writer)
                yield event
    finally:
        if writer is not None:
            writer.close()
        if world > 1:
            dist.destroy_process_group()


def _steps(run: Run, task: Task, config: Config, output_dir: Path, stop: int, rank: int, world: int) -> Iterator[Event]:
    options = config.train
    while run.step < stop:
        began = time.perf_counter()
        lr = learning_rate(options, run.step)
        nats = _step(run, task, options, lr, rank, world)
        run.step += 1
        yield TrainStep(run.step, options.steps, nats[0], nats[1], lr, time.perf_counter() - began)
        last = run.step == stop
        if run.step % options.validate_every == 0 or last:
            yield _validate(run, task, config)
            if rank == 0 and run.history["best"]:
                yield _save(run, task, config, output_dir / "best.safetensors")
        if rank == 0 and (run.step % options.save_every == 0 or last):
            yield _save(run, task, config, output_dir / "last.safetensors")
            _save_state(run, output_dir / "last.state.safetensors")
        if rank == 0 and options.sample_every and run.step % options.sample_every == 0:
            yield CheckpointSaved(run.step, str(task.draw_sample(run.average, output_dir, run.step)))


def _step(run: Run, task: Task, options: TrainConfig, lr: float, rank: int, world: int) -> tuple[float, float]:
    """One optimiser step; returns the loss and the nats per frame of its batch (both of this process)."""
    model = run.model.train()
    torch.manual_seed(options.seed * 1_000_003 + run.step * 97 + rank)
    with _precision(options, run.device):
        result = task.step(model, run.step, rank)
        run.model.zero_grad(set_to_none=True)
        result.loss.backward()
    loss = float(result.loss.detach())
    if not math.isfinite(loss):
        raise VarError(f"the loss is {loss} at step {run.step + 1}", "lower train.learning_rate or train.grad_clip")
    if world > 1:
        _share_gradients(model, world)
    nn.utils.clip_grad_norm_(model.parameters(), options.grad_clip)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        optimizer.step()
    # The average forgets its start faster than its decay says while it is young.
    decay = min(options.ema_decay, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        for name, value in model.named_parameters():
            run.average[name].lerp_(value, 1 - decay)
    return loss, result.nats_per_frame


def learning_rate(options: TrainConfig, step: int) -> float:
    """Linear warm-up, then down to `final_lr_share` of the peak as `decay_share` says."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    floor = options.final_lr_share
    if options.decay_share < 1:
        left = (options.steps - step) / (options.decay_share * options.steps)
        return options.learning_rate * (floor + (1 - floor) * min(1.0, left))
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return options.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def _start(config: Config, task: Task, device: str) -> Run:
    torch.manual_seed(config.train.seed)
    model = task.build().to(device)
    if config.train.compile:
        for part in task.networks(model):
            part.compile(dynamic=True)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    return Run(model, torch.device(device), average, tuple(_optimizers(config.train, task, model)))


def _optimizers(options: TrainConfig, task: Task, model: nn.Module) -> Iterator[torch.optim.Optimizer]:
    decay, inner = options.weight_decay, []
    if options.optimizer == "muon":
        inner = [p for part in task.networks(model) for p in part.parameters() if p.ndim == 2]
    if inner:
        group = {"params": inner, "scale": options.muon_learning_rate / options.learning_rate}
        yield torch.optim.Muon([group], weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    taken = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay, "scale": 1.0},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0, "scale": 1.0},
    ]
    yield torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def _validate(run: Run, task: Task, config: Config) -> Validated:
    """Score the averaged weights; `run.history["best"]` says whether they are the best so far."""
    model = run.model.eval()
    kept = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.load_state_dict(run.average)
    with _precision(config.train, run.device):
        nats, bits = task.validate(model, config.train.batch_size)
    model.load_state_dict(kept)
    run.history["best"] = nats < run.best
    run.best = min(run.best, nats)
    run.bits_per_level = bits
    run.history["valid_nats_per_frame"] = nats
    return Validated(run.step, nats, bits, run.history["best"])


def _save(run: Run, task: Task, config: Config, path: Path) -> CheckpointSaved:
    metrics = {"bits_per_level": list(run.bits_per_level)}
    if "valid_nats_per_frame" in run.history:
        metrics["valid_nats_per_frame"] = run.history["valid_nats_per_frame"]
    dtype = torch.float16 if config.train.store == "fp16" else torch.float32
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in run.average.items()}
    save_checkpoint(
        path,
        tensors,
        task=config.task,
        config=config.model_dump(mode="json"),
        data=task.provenance,
        steps=run.step,
        metrics=metrics,
        seed=config.train.seed,
    )
    return CheckpointSaved(run.step, str(path))


def _save_state(run: Run, path: Path) -> None:
    tensors = {f"model.{name}": p.detach().cpu().contiguous() for name, p in run.model.named_parameters()}
    tensors |= {f"average.{name}": value.cpu().contiguous() for name, value in run.average.items()}
    for name, p in run.model.named_parameters():
        for key, value in _optimizer_of(run, p).state.get(p, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value.detach().cpu().contiguous()
    best = run.best if math.isfinite(run.best) else None
    save_state(path, tensors, {"step": run.step, "best": best, "bits_per_level": list(run.bits_per_level)})


def _restore(run: Run, output_dir: Path, config: Config) -> None:
    """Load the state that `_save_state` wrote; raises UsageError if it is missing or belongs to another config."""
    path = output_dir / "last.state.safetensors"
    if not path.exists():
        raise UsageError(f"{output_dir} has no last.state.safetensors to resume from", "train without --resume")
    check_same_config(output_dir / "config.toml", config)
    tensors, numbers = load_state(path)
    device = run.device
    for name, p in run.model.named_parameters():
        p.data.copy_(tensors[f"model.{name}"])
        run.average[name].copy_(tensors[f"average.{name}"])
        state = {key: tensors.get(f"optimizer.{key}.{name}") for key in _OPTIMIZER_STATE}
        # AdamW keeps its step count on the CPU.
        state = {key: v if key == "step" else v.to(device) for key, v in state.items() if v is not None}
        if state:
            _optimizer_of(run, p).state[p] = state
    run.step = int(numbers["step"])
    run.best = math.inf if numbers["best"] is None else float(numbers["best"])
    run.bits_per_level = tuple(numbers["bits_per_level"])


def _optimizer_of(run: Run, parameter: nn.Parameter) -> torch.optim.Optimizer:
    groups = ((optimizer, group) for optimizer in run.optimizers for group in optimizer.param_groups)
    return next(optimizer for optimizer, group in groups if any(p is parameter for p in group["params"]))


def _precision(options: TrainConfig, device: torch.device) -> Any:
    if options.precision == "fp32":
        return nullcontext()
    stack = ExitStack()
    stack.enter_context(torch.autocast(device.type, torch.bfloat16))
    if device.type == "cpu":
        # The flash kernel's bfloat16 backward takes ten times as long as plain matrices on short sequences.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack


def _join_group(device: str) -> tuple[int, int]:
    """Rank and number of processes; joins them if torchrun started more than one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return dist.get_rank(), world


def _share_gradients(model: nn.Module, world: int) -> None:
    """Average the gradients over all processes, in one message."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for p, part in zip(parameters, flat.div_(world).split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)


def _log(output_dir: Path, event: Event, writer: Any) -> None:
    """Append an event to log.jsonl, and its numbers to TensorBoard where asked."""
    record = {"event": type(event).__name__, **asdict(event)}  # type: ignore[call-overload]
    with (output_dir / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")
    if writer is not None and isinstance(event, TrainStep | Validated):
        name = "train" if isinstance(event, TrainStep) else "valid"
        writer.add_scalar(f"{name}/nats_per_frame", event.nats_per_frame, event.step)


def _tensorboard(output_dir: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("train.tensorboard needs the tensorboard package", "pip install tensorboard") from error
    return SummaryWriter(str(output_dir))
