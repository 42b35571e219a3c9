"""The finest level: what an occupied cell holds, "held" or an onset in a velocity bin."""

from typing import TYPE_CHECKING

from varcli.pianoroll.sampling.siblings import Answer, Ask, Family, Worker

if TYPE_CHECKING:
    from varcli.pianoroll.generation.scheduler import Run


def fill_value(run: "Run", family: Family) -> Worker:
    """Decide the code of one cell and write it."""
    answer = yield Ask(family, 0, 1)
    assert isinstance(answer, Answer)
    p, t = int(family.p[0]), int(family.t[0])
    family.sheet.write(p, t, family.sheet.chooser.value(p, t, answer.logits[0]))


def fill_binary(run: "Run", family: Family) -> Worker:
    """Write an occupied cell of a binary canvas: there is nothing left to decide."""
    family.sheet.write(int(family.p[0]), int(family.t[0]), 1)
    return
    yield  # a worker that asks nothing
