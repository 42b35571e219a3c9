"""The finest level: what an occupied cell holds, "held" or an onset in a velocity bin."""

from typing import TYPE_CHECKING

from varcli.pianoroll.sampling.siblings import Decoder, Request, Response, Siblings

if TYPE_CHECKING:
    from varcli.pianoroll.generation.scheduler import Scheduler


def fill_value(run: "Scheduler", family: Siblings) -> Decoder:
    """Decide the code of one cell and write it."""
    answer = yield Request(family, 0, 1)
    assert isinstance(answer, Response)
    p, t = int(family.p[0]), int(family.t[0])
    family.sheet.write(p, t, family.sheet.policy.value(p, t, answer.logits[0]))


def fill_binary(run: "Scheduler", family: Siblings) -> Decoder:
    """Write an occupied cell of a binary canvas: there is nothing left to decide."""
    family.sheet.write(int(family.p[0]), int(family.t[0]), 1)
    return
    yield  # a worker that asks nothing
