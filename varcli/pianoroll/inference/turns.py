"""In which order masked siblings are decided, and how many at a time, compiled.

Few are unmasked at first, along a cosine, as MaskGIT and fractal MAR do; equally many where they come in order.
"""

import math

from varcli.compiled import kernel
from varcli.pianoroll.constants import STATE_EMPTY
from varcli.pianoroll.inference import fields as f
from varcli.pianoroll.inference.fields import ModelArrays, SampleArrays
from varcli.pianoroll.inference.nodes import finish, grid, place


@kernel(allocates=False)
def iterations_of(n: int, most: int, in_order: int) -> int:
    """How many iterations there are at most for n children: with these, each already unmasks one child."""
    return min(most, n if in_order else math.ceil(n * math.pi / 2))


@kernel(allocates=False)
def unmasked_after(n: int, iterations: int, iteration: int, in_order: int) -> int:
    """How many of n children are unmasked after an iteration, of `iterations_of` them."""
    if iteration >= iterations:
        return n
    if not in_order:
        return n - math.floor(n * math.cos(math.pi / 2 * iteration / iterations))
    even = iteration * (n / iterations)
    whole = math.floor(even)
    rest = even - whole
    return int(whole + (rest > 0.5 or (rest == 0.5 and whole % 2 == 1)))


@kernel(allocates=False)
def take_turns(number: int, model: ModelArrays, sample: SampleArrays) -> int:
    """Put the children that can sound in their order, and show those that are known to be empty; returns in how many
    iterations they are unmasked."""
    level, frame = model.levels[number], sample.frames[number]
    rows, order = level[f.ROWS], sample.lists[f.ORDER]
    count = 0
    for child in range(frame[f.LAST]):
        flags = sample.lists[f.FLAGS, rows + child]
        if flags & (f.MUST + f.OPEN):
            at = count
            while (
                not level[f.SORTED]
                and at
                and _priority(number, model, sample, order[rows + at - 1]) > _priority(number, model, sample, child)
            ):
                order[rows + at] = order[rows + at - 1]
                at -= 1
            order[rows + at] = child
            count += 1
        elif flags & f.EXISTS:
            p, t = place(level, model, frame, child)
            finish(number, model, sample, p, t, True)
            sample.lists[f.STATE_OF, rows + child] = STATE_EMPTY
            frame[f.CLOSED] += 1
    iterations, before, different = iterations_of(count, level[f.ITERATIONS], level[f.SORTED]), 0, 0
    for iteration in range(1, iterations + 1):
        after = unmasked_after(count, iterations, iteration, level[f.SORTED])
        different += after > before
        before = after
    frame[f.TURNS], frame[f.ITERATION_COUNT] = count, different
    return different


@kernel(allocates=False)
def _priority(number: int, model: ModelArrays, sample: SampleArrays, child: int) -> float:
    level = model.levels[number]
    p, t = place(level, model, sample.frames[number], child)
    return sample.draws[model.run[f.GRID_NODES] + grid(level, model, p, t)]
