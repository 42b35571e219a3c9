"""The network of one level: windows on the canvas, a transformer or perceptron, and decisions.

Shapes: N parents (or whole canvases for level 0), n children of one parent, W cells of a window, C channels of a cell,
D width of this level, V vocabulary of cell values.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varcli.pianoroll.config import LevelConfig, ModelConfig
from varcli.pianoroll.constants import FEATURES, GIVEN, MOST_BELOW, OWN_SHARE, PLAN_KINDS, UNKNOWN
from varcli.pianoroll.model.dropout import kept
from varcli.pianoroll.model.networks import ResidualMLP, Transformer, rotary_tables
from varcli.pianoroll.model.tree import CellWindow, Tree

START_COLUMNS, START_STEPS = 32, 256
"""Columns whose distance from the beginning is embedded: so many, and in so many steps."""


def cell_channels(config: ModelConfig) -> Tensor:
    """Input features of each code, f32 [256, C].

    Channels: sounding, onset, velocity; "known" if a level is MAR, else "given" if the model can be conditioned.
    """
    table = torch.zeros(256, 3)
    if config.vocabulary == "binary":
        table[1] = torch.tensor([1.0, 0.0, 0.0])
        table = table[:, :1]
    else:
        bins = config.velocity_bins
        table[1, 0] = 1
        table[2 : 2 + bins, :2] = 1
        table[2 : 2 + bins, 2] = torch.linspace(0, 1, bins) if bins > 1 else 0.5
    codes = config.velocity_bins + 2 if config.vocabulary == "notes" else 2
    if config.conditioning:
        table[GIVEN : GIVEN + codes] = table[:codes]
    last = torch.zeros(256, 1)
    last[GIVEN : GIVEN + codes] = 1
    if not all(level.is_causal for level in config.levels):
        last[:codes] = 1
    elif not config.conditioning:
        return table
    return torch.cat([table, last], 1)


def plain(codes: Tensor) -> Tensor:
    """Codes u8 without the flag of given cells; unknown cells count as silent."""
    return (codes & (GIVEN - 1)).mul_(codes != UNKNOWN)


class View(nn.Module):
    """A window of cells around the nodes of one level: offsets [W, 2], and when their cells are known."""

    offsets: Tensor
    follows: Tensor
    differs: Tensor
    channels: Tensor

    def __init__(self, level: int, window: CellWindow, config: ModelConfig) -> None:
        super().__init__()
        self.level = level
        self.register_buffer("offsets", torch.from_numpy(window.offsets), persistent=False)
        self.register_buffer("follows", torch.from_numpy(~window.precedes), persistent=False)
        self.register_buffer("differs", torch.from_numpy(window.differs), persistent=False)
        self.register_buffer("channels", cell_channels(config), persistent=False)


class LevelModel(View):
    """One level: embeds its nodes, runs its network, and gives the logit of each child being occupied.

    A node's token is the sum of its window of known cells, its place (pitch row, place in the bar, place in the
    parent), the state of its neighbour in the order (AR) or of itself (MAR), the parent's hidden vector, and what
    pitch classes and copy attention add. The value level has one node per occupied cell and gives logits of its code.
    A `stateless` level runs its tokens one by one, without attention: siblings enter by the window alone.
    """

    def __init__(self, level: int, config: ModelConfig, tree: Tree, parent_width: int) -> None:
        options: LevelConfig = config.levels[level]
        window: CellWindow = tree.window(level, options)
        super().__init__(level, window, config)
        self.is_causal, self.width, self.stateless = options.is_causal, options.width, options.network == "mlp"
        self.is_value = level == tree.depth
        self.child_pitches, self.child_steps = tree.shapes[min(level, tree.depth - 1)]
        self.steps_per_bar = config.steps_per_bar
        self.context_columns = max(1, config.context_steps // tree.shapes[0][1])
        self.note_dropout = config.note_dropout

        rows = config.rows // self.child_pitches
        inputs = window.offsets.shape[0] * self.channels.shape[1]
        D = options.width
        self.see = nn.Linear(inputs, D)
        self.pitch = nn.Embedding(rows, D)
        # Nodes stand at multiples of their width, so only these places in the bar exist.
        self.bar_unit = math.gcd(self.child_steps, config.steps_per_bar)
        self.bar = nn.Embedding(config.steps_per_bar // self.bar_unit, D)
        self.state = nn.Embedding(4, D)
        if level == 0:
            self.start = nn.Embedding(min(START_COLUMNS, max(1, START_STEPS // self.child_steps)), D)
        else:
            self.siblings = 1 if self.is_value else len(tree.children[level])
            self.place = nn.Embedding(self.siblings, D)
            self.inherit = nn.Linear(parent_width, D)
            self.share = nn.Linear(parent_width, self.siblings * OWN_SHARE)
            self.spread = nn.Linear(OWN_SHARE, D, bias=False)
        self.hear = nn.Linear(FEATURES, D, bias=False) if config.tonality else None
        self.plan = nn.Embedding(PLAN_KINDS, D) if config.harmony else None
        self.polyphony = nn.Embedding(MOST_BELOW + 1, D) if config.polyphony and level else None
        self.metre = nn.Embedding(2 * config.steps_per_bar + 1, D) if config.metre else None
        self.register_load_state_dict_pre_hook(_rename_old)
        self.transformer, self.perceptron = None, None
        if self.stateless:
            self.perceptron = ResidualMLP(D, options.blocks, config.dropout)
        else:
            self.transformer = Transformer(D, options.heads, options.blocks, config.dropout)
        outputs = config.velocity_bins + 1 if self.is_value else 1
        self.head = nn.Linear(D, outputs)
        self.row_bias = nn.Embedding(rows, outputs)
        if not self.is_value:
            # Every pitch row may read the hidden vector in its own way; on tonal data this is worth a lot.
            self.row_head = nn.Embedding(rows, D)
        self._initialise(window)

    @property
    def network(self) -> nn.Module:
        """What its tokens are run through."""
        network = self.transformer or self.perceptron
        assert network is not None
        return network

    def _initialise(self, window: CellWindow) -> None:
        # Cells far away in time start with less weight: most of what decides a note is near.
        lag = torch.from_numpy(window.offsets[:, 1]).abs().float().sub(1).clamp(min=0)
        scale = (1 + lag).pow(-0.5).repeat_interleave(self.channels.shape[1])
        with torch.no_grad():
            self.see.weight.normal_(0, 0.08).mul_(scale)
        for table in (self.pitch, self.bar, self.state, *((self.start,) if self.level == 0 else (self.place,))):
            nn.init.normal_(table.weight, 0, 0.1)
        nn.init.zeros_(self.row_bias.weight)
        if self.metre is not None:
            nn.init.zeros_(self.metre.weight)
        if self.plan is not None:
            nn.init.zeros_(self.plan.weight)
        if not self.is_value:
            nn.init.zeros_(self.row_head.weight)
        nn.init.normal_(self.head.weight, 0, 0.02)
        with torch.no_grad():
            # Most children are empty; starting there saves the first few hundred steps.
            self.head.bias.fill_(0.0 if self.is_value or self.level == 0 else -1.5)

    def embed_windows(self, codes_NnW: Tensor) -> Tensor:
        """Embed windows of cell codes u8 [N, n, W] (UNKNOWN where hidden) to [N, n, D]."""
        channels = self.channels
        if self.training and self.note_dropout > 0:
            codes_NnW = hide(codes_NnW, ~kept(codes_NnW.shape, self.note_dropout, codes_NnW.device))
            channels = channels / (1 - self.note_dropout)
        return embed_cells(lookup(codes_NnW, channels), self.see, channels.shape[1])

    def inherited(self, parent_ND: Tensor) -> Tensor:
        """What children take from their parent's vector [N, D'], as [N, n, D]: a common part and one of their own."""
        own = self.spread(self.share(parent_ND).view(len(parent_ND), self.siblings, OWN_SHARE))
        return self.inherit(parent_ND)[:, None] + own + self.place.weight

    def locate(self, p_Nn: Tensor, t_Nn: Tensor) -> Tensor:
        """Embedding of a node's place, [N, n, D]: its pitch row, its step in the bar, and on level 0 its column."""
        x = self.pitch(p_Nn // self.child_pitches) + self.bar(t_Nn % self.steps_per_bar // self.bar_unit)
        if self.level == 0:
            x = x + self.start((t_Nn // self.child_steps).clamp(max=self.start.num_embeddings - 1))
        return x

    def embed(
        self,
        codes_NnW: Tensor,
        place_NnD: Tensor,
        state_Nn: Tensor,
        from_parent_NnD: Tensor | None,
        pitch_classes_NnF: Tensor | None,
        more_NnD: Tensor | None = None,
    ) -> Tensor:
        """Tokens [N, n, D] of nodes: the sum of their windows, places, states, parents, pitch classes, and more."""
        x = self.embed_windows(codes_NnW) + place_NnD + self.state(state_Nn)
        if more_NnD is not None:
            x = x + more_NnD
        if self.hear is not None and pitch_classes_NnF is not None:
            x = x + self.hear(pitch_classes_NnF)
        return x if from_parent_NnD is None else x + from_parent_NnD

    def attend(self, x_NnD: Tensor, t_Nn: Tensor) -> Tensor:
        """Run the network over tokens; attention of level 0 is rotary by column and reaches `context_steps` far."""
        if self.perceptron is not None:
            return self.perceptron(x_NnD)
        assert self.transformer is not None
        rotary, mask = None, None
        if self.level == 0:
            columns = (t_Nn // self.child_steps)[:, None]
            rotary, mask = rotary_tables(columns, self.width // self.transformer.heads), self.top_mask(columns)
        return self.transformer(x_NnD, causal=self.is_causal, mask=mask, rotary=rotary)

    def top_mask(self, columns_N1n: Tensor) -> Tensor | None:
        """Which nodes of level 0 attend to which, or None where plain causal or full attention is the same."""
        n = columns_N1n.shape[-1]
        if int(columns_N1n.max()) < self.context_columns:
            return None
        distance = columns_N1n[..., :, None] - columns_N1n[..., None, :]
        mask = distance.abs() < self.context_columns
        if self.is_causal:
            mask = mask & torch.ones(n, n, dtype=torch.bool, device=mask.device).tril()
        return mask

    def decide(self, h_NnD: Tensor, p_Nn: Tensor) -> Tensor:
        """Logits: of being occupied [N, n], or of the value [N, n, V - 1] for (held, onset bins...)."""
        row = p_Nn // self.child_pitches
        logits = self.head(h_NnD) + self.row_bias(row)
        return logits if self.is_value else logits.squeeze(-1) + (self.row_head(row) * h_NnD).sum(-1)


def _rename_old(_module: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Older checkpoints hold the weights of `polyphony` as `voices`."""
    if f"{prefix}voices.weight" in weights:
        weights[f"{prefix}polyphony.weight"] = weights.pop(f"{prefix}voices.weight")


def hide(codes: Tensor, hidden: Tensor) -> Tensor:
    """Codes u8, UNKNOWN where `hidden` (bool of the same shape); many times faster than masked_fill."""
    return codes | hidden.view(torch.uint8).neg()


def lookup(codes: Tensor, channels_VC: Tensor) -> Tensor:
    """Channels [..., C] of cell codes u8 [...]; in bfloat16 under autocast, where C is 4 unless there is only one.

    Four bfloat16 channels are as wide as one int64, and a gather of int64 is five times faster than one of rows. To
    leave the channels out again that are not there would copy all that was gathered: they are 0.
    """
    if not torch.is_autocast_enabled(codes.device.type):
        return F.embedding(codes.int(), channels_VC)
    C = channels_VC.shape[1]
    if C == 1:
        packed = channels_VC.to(torch.bfloat16).view(torch.int16).squeeze(1)
        return packed.index_select(0, codes.reshape(-1).int()).view(torch.bfloat16).view(*codes.shape, 1)
    packed = F.pad(channels_VC, (0, 4 - C)).to(torch.bfloat16).view(torch.int64).squeeze(1)
    wide = packed.index_select(0, codes.reshape(-1).int()).view(torch.bfloat16)
    return wide.view(*codes.shape, 4)


def embed_cells(cells: Tensor, linear: nn.Linear, channels: int) -> Tensor:
    """A linear map [..., D] of the cells of windows [..., W, C'], of whose C' channels the first `channels` count."""
    weight_DX, missing = linear.weight, cells.shape[-1] - channels
    if missing:
        weight_DX = F.pad(weight_DX.unflatten(1, (-1, channels)), (0, missing)).flatten(1)
    return F.linear(cells.flatten(-2), weight_DX, linear.bias)


def level_parameters(model: nn.Module) -> int:
    """Number of trained values of a module."""
    return sum(math.prod(p.shape) for p in model.parameters())
