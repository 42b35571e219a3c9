"""The next-scale emitter predictor: from an image to expected counts and positions of emitters, coarse to fine.

Every scale reads the image and a running map of what the scales before it said, and shares each cell's expected count
out among its four children. Fine scales are lists of the few cells that hold something.
Legend: B frames, Y X pixels or cells, C channels, D width, L cells of a list, K width of the conditions.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from varcli.emitters.config import FIELD_PX, EmitterModelConfig
from varcli.emitters.network.blocks import AdaLNSelfAttn, Memory, silu
from varcli.emitters.network.heads import CellHead, LeafHead
from varcli.emitters.network.inputs import CELL_PX, CHANNELS, CONDITIONS, Inputs, Knowledge, prepare
from varcli.emitters.network.quantizer import EmitterVectorQuantizer, bicubic
from varcli.emitters.network.scales import Cells, Grid, ScaleOutput
from varcli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from varcli.emitters.network.predict import Conditions, Prediction

_CONDITION_WIDTH = 48
_TYPICAL = {"sigma": 1.3, "read": 1.6, "excess": 1.0, "photons": 1000.0, "spread": 0.2}


class StridedConv(nn.Conv2d):
    """A convolution that skips pixels, in float32 whatever autocast asks for; takes and gives the same dtype.

    In bfloat16 PyTorch 2.13 (oneDNN) gets it wrong on processors with AMX: with 16 channels in, 32 out and a stride of
    4 hardly anything of the output is right.
    """

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float()).to(input.dtype)


class Encoder(nn.Module):
    """3x3 convolutions at full resolution, each scaled and shifted by the conditions."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(CHANNELS if layer == 0 else width, width, 3, padding=1) for layer in range(layers)
        )
        self.modulation = nn.Linear(_CONDITION_WIDTH, 2 * width * layers)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BCYX: Tensor, condition_BK: Tensor) -> Tensor:
        parts = self.modulation(condition_BK).chunk(len(self.convs), -1)
        for layer, (conv, part) in enumerate(zip(self.convs, parts, strict=True)):
            scale, shift = part[..., None, None].chunk(2, 1)
            y = silu(torch.addcmul(shift, conv(x_BCYX), 1 + scale))
            x_BCYX = y if layer == 0 else y.add_(x_BCYX)
        return x_BCYX


class TrueVAREmitterPredictor(nn.Module):
    """Next-scale prediction of emitters (after Tian et al. 2024, arXiv:2404.02905).

    `patch_nums` are the scales, `embed_dim` the width, `num_layers` the blocks per scale, `vocab_size` the entries of
    the codebook; `options` are further fields of `EmitterModelConfig`.
    """

    def __init__(
        self,
        patch_nums: tuple[int, ...] = (10, 20, 40, 80),
        embed_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        vocab_size: int = 8192,
        **options: Any,
    ) -> None:
        super().__init__()
        fields: dict[str, Any] = {"scales": tuple(patch_nums), "width": embed_dim, "heads": num_heads}
        fields |= {"layers": num_layers, "codebook": vocab_size, **options}
        if "mixing" not in fields:
            dense = fields.get("dense_scales", min(2, len(patch_nums)))
            rest = ["attention"] * dense if fields.get("grid") == "absolute" else ["attention"] + ["convolution"] * 9
            fields["mixing"] = (*rest[:dense], *["none"] * (len(patch_nums) - dense))
            fields["dense_scales"] = dense
        self.config = config = EmitterModelConfig(**fields)
        width = config.width
        self.condition = nn.Sequential(
            nn.Linear(CONDITIONS, _CONDITION_WIDTH), nn.SiLU(), nn.Linear(_CONDITION_WIDTH, _CONDITION_WIDTH)
        )
        self.scale_embedding = nn.Embedding(len(config.scales), _CONDITION_WIDTH)
        self.level_embedding = nn.Embedding(len(config.scales), width)
        nn.init.normal_(self.level_embedding.weight, 0, 0.02)
        self.position = nn.ParameterList(nn.Parameter(0.02 * torch.randn(n, n, width)) for n in self._position_sides())
        self.encoder = Encoder(config.encoder_width, config.encoder_layers)
        self.entries = nn.ModuleList(self._entry(scale) for scale in config.scales)
        self.blocks = nn.ModuleList(
            self._blocks(kind) for kind in (config.mixing[:1] if config.shared_blocks else config.mixing)
        )
        self.heads = nn.ModuleList(CellHead(width, config.decides, first=i == 0) for i in range(len(config.scales)))
        self.leaf = LeafHead(width)
        # The running map lies on the finest grid that is computed everywhere, or the one after it.
        self.map_scales = config.scales[: config.dense_scales + 1]
        self.quantizer = EmitterVectorQuantizer(
            config.codebook if config.quantize else 2,
            config.accumulated_width,
            self.map_scales,
            commitment=config.commitment,
        )
        said = config.dense_scales
        self.say = nn.ModuleList(nn.Linear(width + 1, config.accumulated_width) for _ in range(said))
        self.hear = nn.ModuleList(nn.Linear(config.accumulated_width, width) for _ in range(said))
        self.inherit = nn.ModuleList(nn.Linear(width, width) for _ in config.scales[said:])

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.leaf.linear.weight.device

    def grids(self, height: int, width: int) -> dict[int, Grid]:
        """The grid of each scale for frames of a size in pixels (rounded up to whole coarsest cells)."""
        if self.config.grid == "absolute":
            return {scale: Grid(scale, scale, scale / width) for scale in self.config.scales}
        height, width = (side + -side % CELL_PX for side in (height, width))
        return {
            scale: Grid(height * scale // FIELD_PX, width * scale // FIELD_PX, scale / FIELD_PX)
            for scale in self.config.scales
        }

    def _position_sides(self) -> list[int]:
        scales = self.config.scales
        if self.config.grid == "absolute":
            return list(scales)
        dense = self.config.dense_scales
        return [scale // scales[0] if i < dense else 2 for i, scale in enumerate(scales)]

    def _entry(self, scale: int) -> nn.Module:
        """How tokens of a scale read the image: strided patches, resized features, or windows of single cells."""
        config = self.config
        index = config.scales.index(scale)
        if config.grid == "absolute":
            return nn.Conv2d(config.encoder_width, config.width, 3, padding=1)
        if index < config.dense_scales:
            pixels = FIELD_PX // scale
            return StridedConv(config.encoder_width, config.width, max(3, 2 * pixels), pixels, max(1, pixels // 2))
        side = max(1, FIELD_PX // config.scales[index - 1]) + 2
        return nn.Linear(side * side * (config.encoder_width + config.accumulated_width), 4 * config.width)

    def _blocks(self, mixing: str) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            AdaLNSelfAttn(config.width, config.heads, _CONDITION_WIDTH, mixing=mixing, reach=config.reach)
            for _ in range(config.layers)
        )

    def forward(
        self,
        image: Tensor,
        known: Knowledge | None = None,
        *,
        truth: Mapping[int, Tensor] | None = None,
        forced_B: Tensor | None = None,
        until: int | None = None,
    ) -> list[ScaleOutput]:
        """Per-scale outputs for images [B, Y, X] or [B, 1, Y, X] in photoelectrons, coarse to fine.

        `known` says what is known of the frames; without it, a typical sCMOS camera and a PSF of 1.3 px are taken.
        With `truth` (true counts per scale) exactly the cells that hold emitters are refined, and the running map of
        the frames in `forced_B` is told the true counts. `until` ends at that scale.
        """
        frames_BYX = image[:, 0] if image.ndim == 4 else image
        known = known or typical_knowledge(len(frames_BYX), frames_BYX.device)
        Y, X = frames_BYX.shape[-2:]
        padded = pad_frames(frames_BYX)
        return self.run(prepare(padded, known), known, (Y, X), truth=truth, forced_B=forced_B, until=until)

    def run(
        self,
        inputs: Inputs,
        known: Knowledge,
        size: tuple[int, int],
        *,
        truth: Mapping[int, Tensor] | None = None,
        forced_B: Tensor | None = None,
        until: int | None = None,
    ) -> list[ScaleOutput]:
        """The same from prepared inputs, whose frames were `size` (Y, X) before they were padded."""
        config = self.config
        condition_BK = self.condition(inputs.conditions_BK)
        features = self.encoder(inputs.channels_BCYX.contiguous(memory_format=torch.channels_last), condition_BK)
        f_hat = self._empty_map(features)
        heard: Tensor | None = None
        memory: list[Memory] = [[] for _ in range(config.layers)]
        outputs: list[ScaleOutput] = []
        tokens = features.new_zeros(0)
        for index, scale in enumerate(config.scales):
            condition = condition_BK + self.scale_embedding.weight[index]
            if index < config.dense_scales:
                tokens = self._dense_tokens(index, features, heard, condition, memory)
                output = self._dense_output(index, tokens, outputs, inputs, known)
                if index + 1 < len(config.scales) and config.accumulate:
                    said, loss = self._say(index, tokens, output, truth, forced_B)
                    steps = len(self.map_scales)
                    f_hat, heard = self.quantizer.get_next_autoregressive_input(index, steps, f_hat, said)
                    output = replace(output, codebook_loss=loss)
            else:
                if index == config.dense_scales:
                    seen = _padded([features, f_hat])
                cells, place_L = self._parents(outputs[-1], truth, size)
                spare = 0 if torch.is_grad_enabled() else _round_up(len(place_L)) - len(place_L)
                parents = cells.padded(spare), F.pad(place_L, (0, spare))
                output, tokens = self._sparse(index, parents, outputs[-1], tokens, seen, condition, inputs, known)
                if spare:
                    output, tokens = output.first(4 * len(place_L)), tokens[: 4 * len(place_L)]
            outputs.append(output)
            if scale == until:
                break
        return outputs

    def _empty_map(self, features: Tensor) -> Tensor:
        B, _, Y, X = features.shape
        if self.config.grid == "absolute":
            Y = X = self.map_scales[-1]
        else:
            Y, X = (side * self.map_scales[-1] // FIELD_PX for side in (Y, X))
        return features.new_zeros(B, self.config.accumulated_width, Y, X)

    def _blocks_of(self, index: int) -> list[AdaLNSelfAttn]:
        blocks = self.blocks[0 if self.config.shared_blocks else index]
        return list(cast(Iterable[AdaLNSelfAttn], blocks))

    def _dense_tokens(
        self, index: int, features: Tensor, heard: Tensor | None, condition: Tensor, memory: list[Memory]
    ) -> Tensor:
        config = self.config
        absolute = config.grid == "absolute"
        if absolute:
            features = _resize(features, config.scales[index])
        tokens: Tensor = self.entries[index](features).permute(0, 2, 3, 1)
        if heard is not None:
            tokens = tokens + self.hear[index](heard.permute(0, 2, 3, 1).to(tokens.dtype))
        where = self.level_embedding.weight[index].expand(1, 1, -1)
        if config.positions:
            where = where + self.position[index]
        rows, columns = tokens.shape[1] // where.shape[0], tokens.shape[2] // where.shape[1]
        tokens = tokens + where.repeat(rows, columns, 1).to(tokens.dtype)
        twice = config.recompute and torch.is_grad_enabled()
        for layer, block in enumerate(self._blocks_of(index)):
            work = partial(checkpoint, use_reentrant=False) if twice else _call
            if absolute:
                tokens, added = work(block.windows, tokens, condition, config.window, list(memory[layer]))
                memory[layer].extend(added)
            else:
                tokens = work(block, tokens, condition)
        return tokens

    def _dense_output(
        self, index: int, tokens: Tensor, before: list[ScaleOutput], inputs: Inputs, known: Knowledge
    ) -> ScaleOutput:
        head: CellHead = self.heads[index]  # type: ignore[assignment]
        B, Y, X = tokens.shape[:3]
        with torch.autocast(tokens.device.type, enabled=False):
            logit, offset = head(tokens)
            if index == 0:
                share, log_count = None, head.log_first(logit)
            else:
                fours = F.pixel_unshuffle(logit[:, None], 2).movedim(1, -1)
                share = F.pixel_shuffle(head.log_share(fours).movedim(-1, 1), 2)[:, 0]
                log_count = share + before[-1].log_count.repeat_interleave(2, 1).repeat_interleave(2, 2)
            leaves = None
            if index == len(self.config.scales) - 1:
                noise = _resize(inputs.log_noise_BYX[:, None], Y)[:, 0]
                leaves = self.leaf(tokens, noise, known.sigma_B.log()[:, None, None])
        return ScaleOutput(self.config.scales[index], (B, Y, X), log_count, offset, share, leaves=leaves)

    def _say(
        self,
        index: int,
        tokens: Tensor,
        output: ScaleOutput,
        truth: Mapping[int, Tensor] | None,
        forced_B: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """What a scale adds to the running map: its tokens and its counts, from the codebook where one is used."""
        counts = output.log_count.exp()
        if truth is not None and forced_B is not None:
            counts = torch.where(forced_B[:, None, None], truth[output.scale].to(counts.dtype), counts)
        seen = torch.cat([tokens, torch.log1p(counts)[..., None].to(tokens.dtype)], -1)
        said = self.say[index](seen).permute(0, 3, 1, 2)
        if not self.config.quantize:
            return said, None
        codes, _, loss = self.quantizer(said)
        return codes.to(said.dtype), loss

    def _parents(
        self, output: ScaleOutput, truth: Mapping[int, Tensor] | None, size: tuple[int, int]
    ) -> tuple[Cells, Tensor]:
        """The cells to refine, and where they stand in the list of the scale (or in its flattened map)."""
        if truth is not None:
            wanted = truth[output.scale] > 0
            chosen = wanted if output.cells is None else wanted[_index(output.cells)]
        else:
            chosen = output.log_count > math.log(max(self.config.active_count, 1e-12))
        if output.cells is None:
            if truth is None:
                # Cells that lie wholly in the padding hold nothing that anyone asked for.
                rows, columns = (math.ceil(side * output.scale / FIELD_PX) for side in size)
                chosen = chosen.clone()
                chosen[:, rows:], chosen[:, :, columns:] = False, False
            return Cells(*chosen.nonzero(as_tuple=True)), chosen.flatten().nonzero()[:, 0]
        return output.cells.chosen(chosen), chosen.nonzero()[:, 0]

    def _sparse(
        self,
        index: int,
        parents: tuple[Cells, Tensor],
        before: ScaleOutput,
        tokens: Tensor,
        seen: Tensor,
        condition: Tensor,
        inputs: Inputs,
        known: Knowledge,
    ) -> tuple[ScaleOutput, Tensor]:
        """Refine a list of cells: four children each, that see the pixels around their parent."""
        config, width = self.config, self.config.width
        cells, place_L = parents
        parent_scale, scale = config.scales[index - 1], config.scales[index]
        inner = tokens.reshape(-1, width)[place_L]
        fresh = self.entries[index](_windows(seen, cells, parent_scale)).view(-1, 4, width)
        fresh = fresh + self.inherit[index - config.dense_scales](inner)[:, None]
        fresh = fresh + self.level_embedding.weight[index].to(fresh.dtype)
        if config.positions:
            fresh = fresh + self.position[index].flatten(0, 1).to(fresh.dtype)
        children = cells.children()
        tokens = fresh.reshape(-1, width)
        for block in self._blocks_of(index):
            tokens = block.sparse(tokens, condition, children.frame_L)
        head: CellHead = self.heads[index]  # type: ignore[assignment]
        B, Y, X = before.shape
        with torch.autocast(tokens.device.type, enabled=False):
            logit, offset = head(tokens)
            share = head.log_share(logit.view(-1, 4)).flatten()
            above = before.log_count.flatten()[place_L].repeat_interleave(4)
            leaves = None
            if index == len(config.scales) - 1:
                row, column = (
                    place.mul(FIELD_PX).div(scale, rounding_mode="floor")
                    for place in (children.row_L, children.column_L)
                )
                noise = inputs.log_noise_BYX[children.frame_L, row, column]
                leaves = self.leaf(tokens, noise, known.sigma_B.log()[children.frame_L])
        return ScaleOutput(scale, (B, 2 * Y, 2 * X), share + above, offset, share, children, leaves), tokens

    @torch.inference_mode()
    def autoregressive_inference(
        self, x: Tensor, target_resolution: int = 80, known: Knowledge | None = None
    ) -> list[ScaleOutput]:
        """Predict scale after scale up to the grid of `target_resolution` cells per side; the last output is that grid.

        Raises UsageError when no scale of the model gives such a grid for images of this size.
        """
        side = max(x.shape[-2:])
        for scale in self.config.scales:
            cells = scale if self.config.grid == "absolute" else side * scale / FIELD_PX
            if cells == target_resolution:
                return self(x, known, until=scale)
        grids = [s if self.config.grid == "absolute" else side * s / FIELD_PX for s in self.config.scales]
        raise UsageError(
            f"no scale of the model has {target_resolution} cells for images of {side} pixels",
            f"it has {', '.join(f'{cells:g}' for cells in grids)}",
        )

    def predict(self, frames_e: "np.ndarray", conditions: "Conditions", **options: Any) -> "Prediction":
        """Candidates in frames of any size, as `varcli.emitters.predict.predict` finds them."""
        from varcli.emitters.network.predict import predict

        return predict(self, frames_e, conditions, **options)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def build(config: EmitterModelConfig) -> TrueVAREmitterPredictor:
    """The predictor that a config describes, freshly initialised."""
    fields = config.model_dump()
    names = {"scales": "patch_nums", "width": "embed_dim", "heads": "num_heads", "layers": "num_layers"}
    names |= {"codebook": "vocab_size"}
    return TrueVAREmitterPredictor(**{names.get(name, name): value for name, value in fields.items()})


def typical_knowledge(frames: int, device: torch.device | str = "cpu") -> Knowledge:
    """A typical sCMOS camera and a PSF of 1.3 px, photons unknown: for calls that say nothing."""
    full = {name: torch.full((frames,), value, device=device) for name, value in _TYPICAL.items()}
    unknown = torch.zeros(frames, dtype=torch.bool, device=device)
    return Knowledge(full["sigma"], full["read"], full["excess"], full["photons"], full["spread"], unknown)


def pad_frames(frames_BYX: Tensor) -> Tensor:
    """Continue frames below and to the right by their last rows and columns, up to multiples of 4 pixels."""
    Y, X = frames_BYX.shape[-2:]
    down, right = -Y % CELL_PX, -X % CELL_PX
    return F.pad(frames_BYX[:, None], (0, right, 0, down), mode="replicate")[:, 0] if down or right else frames_BYX


def _round_up(count: int) -> int:
    """The next of a few lengths, at most an eighth longer: products are compiled and kept for every new length."""
    step = max(64, 1 << max(0, count.bit_length() - 4))
    return -(-count // step) * step


def _resize(x_BCYX: Tensor, side: int) -> Tensor:
    """To a square grid: means of what falls into a cell, or bicubic where cells are finer."""
    if x_BCYX.shape[-1] >= side:
        return F.interpolate(x_BCYX, size=(side, side), mode="area")
    return bicubic(x_BCYX, (side, side))


def _index(cells: Cells) -> tuple[Tensor, Tensor, Tensor]:
    return cells.frame_L, cells.row_L, cells.column_L


def _padded(maps: list[Tensor]) -> Tensor:
    """Maps [B, C, Y, X] side by side as [B, Y + 2, X + 2, C], with one pixel of zeros around."""
    B, _, Y, X = maps[0].shape
    out = maps[0].new_zeros(B, Y + 2, X + 2, sum(part.shape[1] for part in maps))
    first = 0
    for part in maps:
        last = first + part.shape[1]
        out[:, 1:-1, 1:-1, first:last] = part.permute(0, 2, 3, 1)
        first = last
    return out


def _windows(seen_BYXC: Tensor, cells: Cells, scale: int) -> Tensor:
    """The pixels of each cell and one around [L, side² C], from a map with one pixel of padding."""
    pixels = max(1, FIELD_PX // scale)
    B, Y, X, C = seen_BYXC.shape
    row, column = (place.mul(FIELD_PX).div(scale, rounding_mode="floor") for place in (cells.row_L, cells.column_L))
    step = torch.arange(pixels + 2, device=row.device)
    offset = (step[:, None] * X + step).flatten()
    index = ((cells.frame_L * Y + row) * X + column)[:, None] + offset
    return seen_BYXC.reshape(B * Y * X, C).index_select(0, index.flatten()).view(len(index), len(offset) * C)
