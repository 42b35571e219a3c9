"""What lies inside a node that is not divided any further: the value of a cell, or nothing to decide."""

from varcli.pianoroll.sampling.siblings import SampleState, Siblings
from varcli.pianoroll.sampling.strategy import Decoder, Request


def fill_value(siblings: Siblings) -> Decoder:
    """Decide what one cell holds, "held" or an onset in a velocity bin, and write its code."""
    response = yield Request(siblings, 0, 1)
    assert response is not None
    p, t = siblings.place(0)
    siblings.sample.write(p, t, siblings.sample.policy.value(p, t, response.logits[0]))


def fill_binary(sample: SampleState, p: int, t: int) -> Decoder:
    """Write an occupied cell of a binary canvas: there is nothing left to decide."""
    sample.write(p, t, 1)
    return
    yield  # a coroutine without requests


def fill_given(sample: SampleState, level: int, p: int, t: int, shape: tuple[int, int]) -> Decoder:
    """Finish a node of `level` and a shape in which nothing is left to decide."""
    sample.finish(level, p, t, shape, empty=True)
    return
    yield
