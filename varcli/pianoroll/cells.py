"""The finest level: what an occupied cell holds, "held" or an onset in a velocity bin."""

from varcli.pianoroll.family import Answer, Ask, Family, Worker


def fill_value(run: "Run", family: Family) -> Worker:  # noqa: F821
    """Decide the code of one cell and write it."""
    answer = yield Ask(family, 0, 1)
    assert isinstance(answer, Answer)
    p, t = int(family.p[0]), int(family.t[0])
    family.sheet.write(p, t, family.sheet.chooser.value(p, t, answer.logits[0]))


def fill_binary(run: "Run", family: Family) -> Worker:  # noqa: F821
    """Write an occupied cell of a binary canvas: there is nothing left to decide."""
    family.sheet.write(int(family.p[0]), int(family.t[0]), 1)
    return
    yield  # a worker that asks nothing
