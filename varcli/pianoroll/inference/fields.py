"""Where the compiled engine finds things: the columns of its integer tables, and the arrays that it works on.

Compiled code knows arrays alone, and few kinds of them compile fastest. So all weights stand in one flat array, and a
table with a row per level says where; a node's rows in the arrays of a sample follow from its level and its number
among its siblings.

Shapes: L levels, n siblings, R rows (all siblings of all levels), D the widest level, P pitches, T steps.
"""

from typing import ClassVar

import numpy as np

from varcli.compiled.records import Record

(
    # What a level is.
    IN_ORDER,
    CAUSAL,
    ATTENDS,
    WIDTH,
    HEADS,
    BLOCKS,
    PARENT_WIDTH,
    HEIGHT,
    STEPS,
    SIBLINGS,
    # Where its weights begin.
    CELLS_WEIGHT,
    BIAS,
    PITCH,
    BAR,
    START,
    STATE,
    PLACE,
    INHERIT,
    SHARE,
    SPREAD,
    PITCH_CLASSES,
    PLAN,
    POLYPHONY,
    METRE,
    NETWORK,
    HEAD,
    ROW_BIAS,
    JUDGE,
    COPIED_CELLS,
    COPIED_TRAITS,
    ROTARY,
    VELOCITY_SCORES,
    VELOCITY_TOKEN,
    VELOCITY_LOGITS,
    # Sizes of tables, and how masked children come.
    OUTPUTS,
    BAR_UNIT,
    STARTS,
    BEFORE,
    ITERATIONS,
    TOGETHER,
    SORTED,
    # Where its windows and children begin in the tables of offsets, and its nodes in the arrays of a sample.
    WINDOW,
    WINDOW_CELLS,
    WINDOW_RULES,
    COPY_WINDOW,
    COPY_CELLS,
    COPY_RULES,
    VELOCITY_WINDOW,
    VELOCITY_CELLS,
    VELOCITY_RULES,
    CHILDREN,
    ROWS,
    KEYS,
    GRID,
    FREE,
    LEVEL_FIELDS,
) = range(56)
"""Columns of `ModelArrays.levels`."""

(
    DEPTH,
    PITCHES,
    PLAN_ROWS,
    FORM_ROWS,
    CANVAS_STEPS,
    STRIDE,
    ORIGIN,
    PATCH_HEIGHT,
    COLUMN,
    COLUMNS,
    MASKED,
    CONDITIONING,
    COLUMNS_IN_ORDER,
    KNOWS_BELOW,
    SIDES,
    CANDIDATES,
    HEARS,
    CHANNELS,
    CHANNEL_TABLE,
    STEPS_PER_BAR,
    CONTEXT_COLUMNS,
    BINARY,
    GRID_NODES,
    MOVING,
    FOLLOWS,
    RUN_FIELDS,
) = range(26)
"""Entries of `ModelArrays.run`."""

PAST, GIVEN_LATER, BOTH = range(3)
"""Sides that copy attention compares, see `copy_attention.find`."""

(LEVEL, KNOWN, LOGGED, PAUSE, POSITION_FIELDS) = range(5)
"""Entries of `SampleArrays.position`: where it stands. `LEVEL` is -1 at the end; `KNOWN` is the column last looked at,
three times, one more once the plan of its form is written and two more once that of its harmony is."""

(
    P,
    T,
    LAST,
    ON_CANVAS,
    OCCUPIED,
    CHILD,
    RETURNED,
    FILLED,
    CLOSED,
    TURNS,
    TAKEN,
    ITERATION,
    TOLD,
    ITERATION_COUNT,
    TURN_STOP,
    BATCH,
    BATCH_FIRST,
    BATCH_STOP,
    HITS,
    HIT,
    GROUP,
    FRAME_FIELDS,
) = range(22)
"""Columns of `SampleArrays.frames`: the siblings of each level that are being decided."""

(ORDER, CHOSEN, OUTCOME, STATE_OF, FLAGS) = range(5)
"""Rows of `SampleArrays.lists`: masked siblings in their order, those that are decided or filled next, whether siblings
are occupied, their states, and what held of them at the start:"""
EXISTS, MUST, OPEN = 1, 2, 4

(STARTED, DONE, BOX, WROTE, PRICED, LOG_FIELDS) = (0, 1, 2, 3, 4, 8)
"""Kinds of rows of `SampleArrays.log`, in the first of its columns."""


(MAKE_TOKEN, RUN) = range(2)
"""Entries of `ModelArrays.calls`."""


class ModelArrays(Record):
    """What all samples of a batch share. weights f32; levels i64 [L, LEVEL_FIELDS]; run i64 [RUN_FIELDS]; offsets i64:
    cells of windows in the flat canvas, and first cells of children; rules u8: when cells of windows are known; sharp
    f64 [L, 2]: temperature and top-p; calls i64: addresses of the pieces that make tokens and run networks."""

    kinds: ClassVar = {
        "weights": (np.float32, 1),
        "levels": (np.int64, 2),
        "run": (np.int64, 1),
        "offsets": (np.int64, 1),
        "rules": (np.uint8, 1),
        "sharp": (np.float64, 2),
        "calls": (np.int64, 1),
    }


class SampleArrays(Record):
    """One sample on its way. codes, reveal: the flat canvas; truth u8 [P, T]: what is followed; free, must, tied u8,
    left i64 [T]: where it may and must sound; draws f64: uniform numbers and priorities by place; metres i64 [C]:
    what its columns are, see `canvas.Limits`.

    Of all siblings: lists i64 [5, R], see `ORDER`; tokens, inherited, hidden f32 [R, D], logits f64 [R].
    keys f32 [rows of all blocks, 2 D]; normed, mixed f32 [n, D] and wide f32 [n, 4 D] are room for one run of a
    network, vector f32 and numbers f64 for one node, votes f32 [2, heads * (classes + 1)] for its
    velocity, window u8 [2, cells] for its codes, there u8 [K, cells].
    said i64 [1 + 2 C, 4] is what the plan says at each half of each column, see `harmony_said`.
    shift i64 [C, K], traits f32 [C * K, F] and heard f32 [C, F] say what columns know of the canvas, and below
    i64 [nodes of level 0 * K, 3] how it agrees with its candidates below a node; patterns u8 [C, P * w], counted
    i64 [C, 2] and scores f32 [C, 4] are room for finding them. log f64: what happened.
    """

    kinds: ClassVar = {
        **dict.fromkeys(("codes", "reveal", "free", "must", "tied"), (np.uint8, 1)),
        **dict.fromkeys(("truth", "window", "there", "patterns"), (np.uint8, 2)),
        **dict.fromkeys(("left", "position", "metres"), (np.int64, 1)),
        **dict.fromkeys(("frames", "lists", "said", "shift", "below", "counted"), (np.int64, 2)),
        **dict.fromkeys(("draws", "numbers", "logits"), (np.float64, 1)),
        "log": (np.float64, 2),
        "vector": (np.float32, 1),
        "votes": (np.float32, 2),
        **dict.fromkeys(("tokens", "inherited", "hidden", "keys", "normed", "mixed", "wide"), (np.float32, 2)),
        **dict.fromkeys(("traits", "heard", "scores"), (np.float32, 2)),
    }
