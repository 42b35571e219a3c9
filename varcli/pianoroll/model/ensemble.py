"""Several models as one: every decision has the mean of their probabilities, which is an exact model again.

Shapes: B canvases, P pitches, T steps.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from varcli.pianoroll.config import PianorollConfig
from varcli.pianoroll.model.decisions import Decisions, Draw
from varcli.pianoroll.model.fractal import FractalModel


class Ensemble(nn.Module):
    """`model.members` autoregressive models of one config, each with its own weights; it scores and does not sample."""

    def __init__(self, config: PianorollConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(FractalModel(config) for _ in range(config.model.members))
        self.masked = False

    @property
    def parts(self) -> list[FractalModel]:
        """The members."""
        return [member for member in self.members if isinstance(member, FractalModel)]

    @property
    def levels(self) -> nn.ModuleList:
        """The levels of the first member, whose shapes are those of all."""
        return self.parts[0].levels

    @property
    def tree(self) -> Any:
        """The tree that all members walk."""
        return self.parts[0].tree

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.parts[0].device

    def walk(self, codes_BPT: Tensor, draw: Draw, **options: Any) -> Iterator[Decisions]:
        """Price canvases as FractalModel.walk does, every decision by the mean of the members' probabilities.

        All members draw alike: each gets a generator in the state of `draw`'s.
        """
        state = draw.generator.get_state()
        walks = []
        for part in self.parts:
            generator = torch.Generator()
            generator.set_state(state)
            walks.append(part.walk(codes_BPT, replace(draw, generator=generator), **options))
        for decisions in zip(*walks, strict=True):
            nats = torch.stack([part.nats for part in decisions])
            mean = math.log(len(decisions)) - torch.logsumexp(-nats, 0)
            yield replace(decisions[0], nats=mean)


def build(config: PianorollConfig) -> FractalModel | Ensemble:
    """A model with fresh weights from its config: one, or an ensemble where `model.members` says so."""
    return Ensemble(config) if config.model.members > 1 else FractalModel(config)
