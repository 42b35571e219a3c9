"""Copy attention: attention of nodes to similar passages of the same piece.

Music repeats itself. For every column of level 0, `find` finds other columns whose surroundings agree with its own,
as far as they are known: these are the candidates. A plan of the form gives one more: the bar that it says returns. At
every node a `CopyAttention` scores them by all that is known there, and returns the cells at the places they lead to,
weighted by a softmax of the scores.

Shapes: B canvases, P pitches, C columns of level 0, w steps of a column, K candidates, M cells of a window, D width.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.config import CLOSENESS, FORM_ROWS, ModelConfig, parse_shape
from varcli.pianoroll.constants import COUNTS, GIVEN, JUDGED, METRE, PLANNED, ROW, TRAITS, UNKNOWN
from varcli.pianoroll.model.agreement import agreement, agreement_with_given
from varcli.pianoroll.model.canvas import Canvas
from varcli.pianoroll.model.decisions import Parents
from varcli.pianoroll.model.level import View, embed_cells, hide, lookup, plain
from varcli.pianoroll.model.tree import Tree, rectangle
from varcli.pianoroll.roll import ONSET

Sides = Literal["past", "given", "both"]
EXACT = 256
"""Whole numbers that bfloat16 holds."""
FAR = 1 << 14
"""Steps that are farther than any window reaches."""


@dataclass(frozen=True)
class Candidates:
    """Where columns may copy from: shift in steps i32 [B, C, K] (0: nowhere) and features of each f32 [B, C, K, F].

    `below` u8 [B, C, K, rows + 1, 3] counts, in the rows under each, cells that sound in both columns, here alone, and
    there alone.
    """

    shift: Tensor
    traits: Tensor
    below: Tensor

    def to(self, device: torch.device) -> "Candidates":
        """The same on another device."""
        return Candidates(self.shift.to(device), self.traits.to(device), self.below.to(device))


def candidates_of(known_BPT: Tensor, config: ModelConfig, *, in_order: bool | None = None) -> Candidates:
    """Candidates of canvases u8 [B, P, T] by what a model's config says; see `find`.

    `in_order`, level 0 knows the columns before its own; None: if it is autoregressive.
    """
    column = parse_shape(str(config.levels[0].shape))[1]
    is_causal = config.levels[0].is_causal
    return find(
        F.pad(known_BPT, (0, -known_BPT.shape[2] % column)),
        column=column,
        count=config.echo.candidates,
        bar=config.steps_per_bar,
        binary=config.vocabulary == "binary",
        sides="past" if is_causal else "given" if in_order else "both",
        plan_rows=config.plan_rows,
    )


def pad_candidates(parts: list[Candidates], steps: int, config: ModelConfig) -> Candidates:
    """Candidates of canvases of different lengths as those of one batch of `steps` steps."""
    columns = -(-steps // parse_shape(str(config.levels[0].shape))[1])

    def padded(name: str) -> Tensor:
        tensors = [getattr(part, name)[0] for part in parts]
        rows = [F.pad(x, (0, 0) * (x.ndim - 1) + (0, columns - len(x))) for x in tensors]
        return torch.stack(rows)

    return Candidates(padded("shift"), padded("traits").float(), padded("below"))


def find(
    known_BPK: Tensor, *, column: int, count: int, bar: int, binary: bool, sides: Sides, plan_rows: int = 0
) -> Candidates:
    """Candidates for every column of codes u8 [B, P, C * w] (UNKNOWN where nothing is known).

    Sides "past": candidates lie before a column, and what comes before both is compared. Sides "given": given columns
    after it are candidates too, and what is given after it is compared as well. "both": candidates lie anywhere, and
    all that is known counts. The first `plan_rows` rows hold a plan, a bar being a column wide; where that of the form,
    its first rows, says that a bar returns, one candidate more leads there.
    """
    planned = plain(known_BPK[:, : min(plan_rows, FORM_ROWS)])
    known_BPK = known_BPK[:, plan_rows:]
    B, P, steps = known_BPK.shape
    codes = plain(known_BPK)
    pattern = (codes > (0 if binary else 1)).view(B, P, -1, column).transpose(1, 2).flatten(2).float()
    C = steps // column
    place = torch.arange(C, device=codes.device)
    distance = place[:, None] - place
    allowed = distance != 0 if sides == "both" else distance > 0
    if sides == "given":
        given = ((known_BPK >= GIVEN) & (known_BPK != UNKNOWN)).view(B, P, -1, column).transpose(1, 2).flatten(2)
        allowed = allowed | ((distance < 0) & given.any(2)[:, None])
        slow, fast, run = agreement_with_given(pattern, given)
    else:
        slow, fast, run = agreement(pattern, sides == "past")
    recent = distance.abs() * -1e-5
    shift, traits = [], []
    exact = 0 if sides == "both" else min(count // 2, C)
    taken = ~allowed.expand(B, C, C)
    for number, score in ((exact, run + 0.02 * slow), (count - exact, slow)):
        best = (score + recent).masked_fill(taken, float("-inf")).topk(min(number, C), -1)
        taken = taken.scatter(2, best.indices, True)
        steps_away = (best.indices - place[:, None]) * column
        shift.append(F.pad(steps_away.masked_fill(best.values.isinf(), 0), (0, number - best.indices.shape[2])))
        known = torch.stack([part.gather(2, best.indices) for part in (slow / 4, fast, run.log1p() / 2)], -1)
        traits.append(F.pad(known, (0, 0, 0, number - best.indices.shape[2])))
    shift_BCK = torch.cat(shift, 2).int()
    if plan_rows:
        back, how = _planned(planned, column)
        count += 1
        shift_BCK = torch.cat([shift_BCK, (-back * column).int()[..., None]], 2)
        source = (place - back)[..., None]
        traits.append(torch.stack([part.gather(2, source) for part in (slow / 4, fast, run.log1p() / 2)], -1))
    away = shift_BCK.abs()
    metre = torch.stack([away % max(1, round(bar * bars)) == 0 for bars in METRE], -1).float()
    where = torch.stack([away.float().clamp(min=1).log2() / 8, (shift_BCK > 0).float()], -1)
    kinds = [torch.cat(traits, 2), where, metre]
    if plan_rows:
        is_planned = F.pad(torch.ones_like(where[:, :, :1, :1]), (0, 0, count - 1, 0))
        kinds += [is_planned, how[:, :, None].expand(-1, -1, count, -1)]
    traits_BCKF = torch.cat(kinds, -1) * (shift_BCK != 0)[..., None]
    if sides == "both":
        below = agreement_in_all(known_BPK, shift_BCK, column)
    else:
        columns = torch.arange(B * C, device=codes.device)
        below = agreement_below(known_BPK, shift_BCK.view(B * C, -1), columns, column).view(B, C, count, -1, 3)
    return Candidates(shift_BCK, traits_BCKF, below)


def _planned(plan_BRK: Tensor, column: int) -> tuple[Tensor, Tensor]:
    """What plain codes of a plan say: how many columns back each one's bar lies that returns i64 [B, C], 0 if it is
    new or that is before the beginning, and the class of their likeness as one-hot f32 [B, C, classes]."""
    by_column = plan_BRK.unflatten(2, (-1, column)).amax(3).transpose(1, 2).long()
    back = by_column.argmax(2)
    back = back.masked_fill(back > torch.arange(back.shape[1], device=back.device), 0)
    code = by_column.gather(2, back[..., None]).squeeze(2)
    how = F.one_hot((code - ONSET).clamp(0, len(CLOSENESS) - 1), len(CLOSENESS))
    return back, how.float()


def agreement_in_all(known_BPK: Tensor, shift_BCK: Tensor, column: int) -> Tensor:
    """Agreement of all columns with their candidates, in `Candidates.below`: every entry counts all rows there are.

    As products of numbers, which are many times faster than sums of bools.
    """
    B, P, steps = known_BPK.shape
    cells = known_BPK.view(B, P, -1, column).transpose(1, 2).flatten(2)
    on, known = (plain(cells) > 0).float(), (cells != UNKNOWN).float()
    both = on @ on.transpose(1, 2)
    counts = torch.stack([both, on @ known.transpose(1, 2) - both, known @ on.transpose(1, 2) - both], -1)
    away = torch.div(shift_BCK, column, rounding_mode="trunc")
    source = torch.arange(steps // column, device=cells.device)[:, None] + away
    found = counts.gather(2, source.long()[..., None].expand(-1, -1, -1, 3)) * (shift_BCK != 0)[..., None]
    return found.clamp(max=255).to(torch.uint8)[:, :, :, None].repeat(1, 1, 1, -(-P // ROW) + 1, 1)


def agreement_below(known_BPK: Tensor, shift_QK: Tensor, columns_Q: Tensor, column: int) -> Tensor:
    """Agreement of columns with their candidates, counted in rows of pitches, u8 [Q, K, rows + 1, 3].

    Entry r counts all rows under r. `columns_Q` are flat, b * C + c.
    """
    B, P, steps = known_BPK.shape
    C = steps // column
    cells = known_BPK.view(B, P, C, column).transpose(1, 2).reshape(B * C, P, column)
    source = columns_Q[:, None] + torch.div(shift_QK, column, rounding_mode="trunc")
    here, there = cells[columns_Q][:, None], cells[source]
    later = (shift_QK > 0)[..., None, None]  # of what comes after, no more than what is given is known
    there = there.masked_fill(later & (there < GIVEN), UNKNOWN)
    known = (here != UNKNOWN) & (there != UNKNOWN) & (shift_QK != 0)[..., None, None]
    on, there_on = (plain(here) > 0) & known, (plain(there) > 0) & known
    counts = torch.stack([(on & there_on).sum(-1), (on & ~there_on).sum(-1), (there_on & ~on).sum(-1)], -1)
    counts = F.pad(counts, (0, 0, 0, -P % ROW)).unflatten(2, (-1, ROW)).sum(3)
    return F.pad(counts.cumsum(2), (0, 0, 1, 0)).clamp(max=255).to(torch.uint8)


class CopyAttention(View):
    """Scores the candidates at the nodes of one level and embeds their cells by the softmax of the scores."""

    def __init__(self, level: int, config: ModelConfig, tree: Tree, width: int) -> None:
        options = config.echo
        h, w = tree.shapes[min(level, tree.depth - 1)]
        around = options.pitches_around
        offsets = rectangle(range(-around, h + around), range(-options.steps_before, w + options.steps_after))
        super().__init__(level, tree.window_weights(level, offsets), config)
        self.centre = np.flatnonzero((offsets >= 0).all(1) & (offsets < (h, w)).all(1))
        self.column = tree.shapes[0][1]
        self.plan_rows = config.plan_rows
        K, channels = options.candidates + config.form, self.channels.shape[1]
        traits = TRAITS + (PLANNED if config.form else 0)
        self.judge = nn.Sequential(nn.Linear(traits + COUNTS, JUDGED), nn.SiLU(), nn.Linear(JUDGED, 1))
        self.show = nn.Linear(len(offsets) * channels, width, bias=False)
        self.tell = nn.Linear(3 * K, width, bias=False)
        nn.init.normal_(self.show.weight, 0, 0.05)

    def forward(self, canvas: Canvas, candidates: Candidates, nodes: Parents, position_Nn: Tensor) -> Tensor:
        """What the candidates add to nodes [N, n] at `position` in their patch, [N, n, D]."""
        c_Nn, p_Nn, t_Nn = nodes.canvas, nodes.pitch, nodes.step
        column = (c_Nn * canvas.columns + t_Nn // self.column).view(-1)
        K = candidates.shift.shape[2]  # -1 would fail where there are no nodes
        shift = candidates.shift.flatten(0, 1).index_select(0, column).view(*c_Nn.shape, K)
        if self.plan_rows:
            # What nodes of the form decide is where to copy from: they copy nothing themselves.
            shift = shift * (p_Nn >= FORM_ROWS)[..., None]
        first = canvas.flat(c_Nn, p_Nn, t_Nn).int()
        own = canvas.windows(self, first, position_Nn)
        there = self._windows_there(canvas, first, t_Nn, shift)
        sounding = torch.cat([self._sounding(there), there != UNKNOWN], -2)
        own_sounding = torch.stack([self._sounding(own), own != UNKNOWN], -1)
        sounding, counts = _overlaps(sounding, own_sounding)
        both = counts[..., :K, 0]
        here_only, there_only = counts[..., K:, 0] - both, counts[..., :K, 1] - both
        row = (canvas.layout.rows_known_below(p_Nn) - self.plan_rows).clamp(min=0) // ROW
        below = candidates.below.flatten(0, 1)[column, :, row.view(-1)].view(*c_Nn.shape, K, 3)
        counted = torch.cat([torch.stack([both, here_only, there_only], -1), below], -1).float().log1p() / 2
        traits = candidates.traits.flatten(0, 1).index_select(0, column).view(*c_Nn.shape, *candidates.traits.shape[2:])
        score = self.judge(torch.cat([traits, counted], -1)).squeeze(-1).float()
        nowhere = torch.zeros_like(score[..., :1])
        weight = torch.cat([score.masked_fill(shift == 0, float("-inf")), nowhere], -1).softmax(-1)[..., :-1]
        on = sounding[..., :K, :]
        centre = on[..., self.centre].amax(-1).float()
        # One channel is that of sounding cells, which are at hand.
        C = self.channels.shape[1]
        shown = on if C == 1 else lookup(there, self.channels).flatten(-2)
        copied = (weight.to(shown.dtype)[..., None, :] @ shown).squeeze(-2).unflatten(-1, (len(self.offsets), -1))
        return embed_cells(copied, self.show, C) + self.tell(torch.cat([weight, centre, 4 * weight * centre], -1))

    def _windows_there(self, canvas: Canvas, first_Nn: Tensor, t_Nn: Tensor, shift_NnK: Tensor) -> Tensor:
        """Codes u8 [N, n, K, M] around the candidates' places; UNKNOWN what is hidden from level 0 of this column."""
        index = (first_Nn[..., None] + shift_NnK)[..., None] + canvas.flat_offsets(self)
        codes = canvas.codes.view(-1).index_select(0, index.view(-1)).view(index.shape)
        if canvas.columns_in_order:
            # A cell is past if it lies left of the node's column; a candidate that leads nowhere shows nothing.
            left = -(t_Nn % self.column)[..., None] - shift_NnK
            left = left.masked_fill(shift_NnK == 0, -FAR).clamp(-FAR, FAR).to(torch.int16)
            hidden = self.offsets[:, 1].to(torch.int16) >= left[..., None]
        else:
            assert canvas.reveal is not None
            hidden = canvas.reveal.view(-1).index_select(0, index.view(-1)).view(index.shape) != 0
            hidden |= (shift_NnK == 0)[..., None]
        if canvas.layout.conditioning:
            hidden &= (codes < GIVEN) | (shift_NnK == 0)[..., None]
        return hide(codes, hidden)

    def _sounding(self, codes: Tensor) -> Tensor:
        return ((codes & (GIVEN - 1)) > 0) & (codes != UNKNOWN)


def _overlaps(sounding: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Bools [..., R, M] as numbers, and how many cells they have in common with each of `own` [..., M, 2].

    As products, which are many times faster than sums of bools; small whole numbers are exact in bfloat16 too.
    """
    M = sounding.shape[-1]
    device = sounding.device.type
    fast = torch.is_autocast_enabled(device) and M <= EXACT
    dtype = torch.bfloat16 if fast else torch.float32
    numbers = sounding.view(torch.uint8).to(dtype)
    with torch.autocast(device, enabled=False):
        return numbers, numbers @ own.to(dtype)
