"""Which strategy decides the children of a level, and by what plan."""

from collections.abc import Sequence

from varcli.pianoroll.config import LEVEL_KINDS
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.fractal import FractalModel
from varcli.pianoroll.sampling.autoregressive import Autoregressive
from varcli.pianoroll.sampling.masked import Masked
from varcli.pianoroll.sampling.policy import DecisionPolicy
from varcli.pianoroll.sampling.strategy import LevelPlan, Strategy

DRAFT_ALONE = (6, 4, 8)
"""Children of level 0, level 1 and finer ones in one all-silent draft, for a single sample: its cost is the number of
requests, but a long draft is seldom used to its end."""
DRAFT_TOGETHER = (4, 4, 6)
"""The same for several samples, whose cost is the number of children."""
ONE_BY_ONE = 1_000_000
"""Iterations that are enough to unmask one child in each."""

IN_ORDER = Autoregressive()
"""Decides children of any kind in scan order, each knowing what comes before it."""
STRATEGIES: dict[str, Strategy] = {}


def register(strategy: Strategy) -> None:
    """Make a kind of level known: to configs by its name and traits, to the scheduler by its strategy."""
    LEVEL_KINDS[strategy.kind.name] = strategy.kind
    STRATEGIES[strategy.kind.name] = strategy


register(IN_ORDER)
register(Masked())


def plans_of(
    model: FractalModel,
    canvas: Canvas,
    policies: Sequence[DecisionPolicy],
    *,
    iterations: Sequence[int] | None,
    batch_generate_size: int,
    order: str,
) -> list[LevelPlan]:
    """The plans of all levels that have a shape, from arguments of `Scheduler`; order "random", "inner" or "scan"."""
    # Where masks show what is known, silence differs from what is unknown: nodes would tell a draft from it.
    speculates = canvas.reveal is None
    drafts = _draft_lengths(model, len(policies)) if speculates else [1] * len(model.levels)
    return [
        LevelPlan(
            level=level,
            kind=LEVEL_KINDS[model.config.model.levels[level].kind],
            shape=shape,
            is_finest=level == model.tree.depth - 1,
            draft=drafts[level],
            speculates=speculates,
            iterations=ONE_BY_ONE if iterations is None else iterations[level],
            batch=None if level else batch_generate_size,
            in_order=order == "scan" or (order == "inner" and level > 0),
        )
        for level, shape in enumerate(model.tree.shapes)
    ]


def most_at_once(model: FractalModel, plans: Sequence[LevelPlan], policies: Sequence[DecisionPolicy]) -> list[int]:
    """The most children of each level in one request of levels in order: all siblings, where a policy needs them."""
    drafts = [*(plan.draft for plan in plans), 1][: len(model.levels)]
    if not plans[0].speculates or not any(policy.needs_all_siblings for policy in policies):
        return drafts
    return [drafts[0], *(level.siblings for level in model.level_models[1:])]


def _draft_lengths(model: FractalModel, samples: int) -> list[int]:
    top, second, finer = DRAFT_ALONE if samples == 1 else DRAFT_TOGETHER
    column = model.tree.pitches // model.tree.shapes[0][0]
    siblings = [level.siblings for level in model.level_models[1:]]
    return [min(top, column), *(min(finer if index else second, n) for index, n in enumerate(siblings))]
