"""Numbers that the trained modules and the compiled engine share; importable without torch."""

from varcli.pianoroll.config import CLOSENESS, DENSITIES
from varcli.pianoroll.harmony import QUALITIES

UNKNOWN = 255
"""Code of a cell that is hidden from a node, or not decided yet."""
GIVEN = 128
"""Flag on the code of a cell that is known beforehand: it is hidden from no node, whatever the order or the masks."""
STATE_START, STATE_EMPTY, STATE_OCCUPIED, STATE_MASKED = range(4)

MOST_BELOW = 7
"""Cells counted below a node in its step; more are as many."""
OWN_SHARE = 32
"""Width of the part of its parent's vector that belongs to one child alone."""

REACH = 16
"""Columns on a side over which the agreement of two places is added up."""
LONGEST_RUN = 32
SLOW, FAST = 0.85, 0.5
"""How much less each further column counts, in the long and in the short view."""
METRE = (0.125, 0.25, 0.5, 1, 2, 4, 8)
"""Bars of which a distance may be a multiple."""
TRAITS = 5 + len(METRE)
PLANNED = 1 + len(CLOSENESS)
"""Features of candidates beside these where there is a plan: that a candidate is the planned one, and how closely."""
COUNTS = 6
"""Counts of cells that agree or differ, in a node's window and below it in its column."""
JUDGED = 24
"""Hidden units of the network that scores candidates."""
ROW = 8
"""Pitches of a row in which the agreement inside a column is kept."""

PITCH_CLASSES = 12
NEAR_COLUMNS_IN_STEPS = 64
FEATURES = 2 * PITCH_CLASSES + 2
"""Shares of the pitch classes near and in all, and how much sounds at all."""

CHORD_KINDS = 1 + PITCH_CLASSES * len(QUALITIES) + 1
"""What the plan may say of a chord: nothing, a chord relative to a node's pitch class, or that there is none."""
PLAN_OF_KEY = 2 * CHORD_KINDS
PLAN_OF_DENSITY = PLAN_OF_KEY + 1 + 2 * PITCH_CLASSES
PLAN_KINDS = PLAN_OF_DENSITY + 1 + len(DENSITIES) + 1
"""Rows of the table of what the plan says to nodes: their chord, the one after it, the key, and the density."""

FALLS = ((0.5, 0.1), (3.0, 0.2), (0.1, 3.0), (0.15, 0.0), (0.4, 0.4), (1.0, 0.0))
"""How much the score of each head of velocity attention falls at first, for each step and each pitch away."""
