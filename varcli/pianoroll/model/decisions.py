"""What a walk prices: parents whose children come next, the rules of siblings, and the prices.

A child that cannot hold anything is empty, one that must is occupied, and neither costs anything; the network decides
the others. An occupied parent has at least one occupied child: the last one that could be it costs nothing either.

Shapes: N parents (or whole canvases), n children of one parent, M decisions, D width.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from varcli.pianoroll.constants import STATE_EMPTY, STATE_MASKED, STATE_OCCUPIED, STATE_START


@dataclass(frozen=True)
class Parents:
    """Nodes whose children come next: canvas index [N], first pitch and step [N], hidden vector [N, D], weight [N].

    The weight makes sums over drawn nodes unbiased: one over the probability that the node was drawn and priced.
    """

    canvas: Tensor
    pitch: Tensor
    step: Tensor
    hidden: Tensor | None
    weight: Tensor

    def take(self, index: Tensor) -> "Parents":
        """The parents at `index` (integers or booleans)."""
        hidden = None if self.hidden is None else self.hidden[index]
        return Parents(self.canvas[index], self.pitch[index], self.step[index], hidden, self.weight[index])


@dataclass(frozen=True)
class Decisions:
    """Priced decisions of one level: nats [M] and their weight [M], and where they stand: canvas, pitch, step [M].

    `total` counts the decisions that the level has on these canvases in all, drawn or not.
    """

    level: int
    nats: Tensor
    weight: Tensor
    canvas: Tensor
    pitch: Tensor
    step: Tensor
    total: int


R = TypeVar("R", Decisions, Parents)


@dataclass(frozen=True)
class Draw:
    """How a walk draws: MAR masks and parents come from `generator`; `parents` caps the parents per inner level.

    `top` caps the nodes of a stateless level 0. `known_share` in [0, 1), if given, takes the place of the uniform
    number that says how much of level 0 is known, so that scoring canvases one by one can spread it evenly.
    `in_order` is the share of masked siblings of which the first ones in scan order are known, not random ones.
    `scan` walks masked levels as AR ones: every child knows all before it; for models that are `scannable`.
    """

    generator: torch.Generator
    parents: int | None = None
    top: int | None = None
    known_share: float | None = None
    in_order: float = 0.0
    scan: bool = False


@dataclass(frozen=True)
class DecisionMasks:
    """What holds for siblings [N, n] before the network decides.

    `asked` children are visited, of which `free` ones are decided by the network; `forced` free ones cost nothing.
    `scale` [N, 1] is how many decisions of a random order a priced one stands for.
    """

    asked: Tensor
    free: Tensor
    forced: Tensor
    state: Tensor
    scale: Tensor


def in_order(
    occupied: Tensor, can: Tensor, must: Tensor | None, *, top: bool, is_masked: bool = False
) -> DecisionMasks:
    """AR: every child that can be occupied is visited; the last one of a parent that had none so far is forced.

    A child's state says whether the one before it is occupied, or, if `is_masked`, that it is masked itself.
    """
    n = can.shape[1]
    after = torch.cumsum(occupied.int(), 1) - occupied.int()
    last = n - 1 - can.flip(1).int().argmax(1, keepdim=True)
    forced = (after == 0) & (torch.arange(n, device=can.device) == last) & can
    state = torch.where(occupied, STATE_OCCUPIED, STATE_EMPTY).roll(1, 1)
    state[:, 0] = STATE_START
    free = can if must is None else can & ~must
    if is_masked:
        state = torch.where(occupied, STATE_OCCUPIED, STATE_EMPTY).masked_fill(free, STATE_MASKED)
    return DecisionMasks(
        can, free, torch.zeros_like(can) if top else forced, state, torch.ones_like(can[:, :1]).float()
    )


def masked(occupied: Tensor, can: Tensor, must: Tensor | None, draw: Draw, *, top: bool) -> DecisionMasks:
    """MAR: a uniform number of the children that can be occupied is known; the others are asked about.

    Which ones are known is random, or the first in order. A child asked about after k of n known ones stands for
    n / (n - k) decisions.
    """
    N, n = occupied.shape
    device, generator = can.device, draw.generator
    count = can.sum(1, keepdim=True)
    share = draw.known_share if top else None
    # One stratified draw over the batch: less noise than independent ones, and each is still uniform.
    first = torch.rand(1, generator=generator) if share is None else torch.tensor([share])
    u = (first + torch.randperm(N, generator=generator) / N).remainder(1)[:, None].to(device)
    known_count = (u * count).long().clamp(max=(count - 1).clamp(min=0))
    rank = torch.rand(N, n, generator=generator).to(device)
    if draw.in_order:
        plainly = (torch.rand(N, 1, generator=generator) < draw.in_order).to(device)
        rank = torch.where(plainly, torch.arange(n, device=device) / n, rank)
    order = rank.masked_fill(~can, 2.0).argsort(1).argsort(1)
    known = can & (order < known_count)
    asked = can & ~known
    free = asked if must is None else asked & ~must
    forced = asked & (known_count == count - 1) & ~(known & occupied).any(1, keepdim=True)
    state = torch.where(occupied, STATE_OCCUPIED, STATE_EMPTY).masked_fill(free, STATE_MASKED)
    scale = count / (count - known_count).clamp(min=1).float()
    return DecisionMasks(asked, free, torch.zeros_like(can) if top else forced, state, scale)


def draw_parents(parents: Parents, cap: int | None, generator: torch.Generator) -> Parents:
    """At most `cap` of the parents, drawn at random and weighted for it."""
    N = len(parents.canvas)
    if cap is None or cap >= N:
        return parents
    index = torch.randperm(N, generator=generator)[:cap].to(parents.canvas.device)
    return replace(parents.take(index), weight=parents.weight[index] * (N / cap))


def chunks(count: int, size: int | None, device: torch.device) -> list[Tensor]:
    """Indices 0..count in pieces of at most `size`."""
    index = torch.arange(count, device=device)
    return [index] if size is None or count <= size else list(index.split(size))


def join(parts: list[R]) -> R:
    """Decisions or parents of one level, in one."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
    tensors = {name: torch.cat(column) for name, column in columns.items() if isinstance(column[0], Tensor)}
    return replace(parts[0], **tensors)
