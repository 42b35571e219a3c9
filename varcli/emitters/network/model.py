"""The next-scale emitter predictor: from an image to expected counts and positions of emitters, coarse to fine.

Every scale reads the image and a running map that the scales before it added to, and shares each cell's expected count
out among its four children. Fine scales are lists of the few cells that hold something.
Legend: B frames, Y X pixels or cells, C channels, D width, L cells of a list, K width of the conditions.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from varcli.emitters.config import FIELD_PX, EmitterModelConfig
from varcli.emitters.network.blocks import AdaLNSelfAttn, Memory
from varcli.emitters.network.encoder import Encoder, StridedConv, cell_windows, pad_and_join, resize
from varcli.emitters.network.heads import CellHead, LeafHead
from varcli.emitters.network.inputs import CELL_PX, CONDITIONS, FrameConditions, Inputs, pad_frames, prepare
from varcli.emitters.network.prediction import TYPICAL
from varcli.emitters.network.quantizer import EmitterVectorQuantizer
from varcli.emitters.network.scales import Cells, Grid, ScaleOutput, cells_to_refine
from varcli.errors import UsageError

_CONDITION_WIDTH = 48


class TrueVAREmitterPredictor(nn.Module):
    """Next-scale prediction of emitters (after Tian et al. 2024, arXiv:2404.02905).

    `patch_nums` are the scales, `embed_dim` the width of the tokens, `num_layers` the blocks that each scale goes
    through, `vocab_size` the entries of the codebook; `options` are further fields of `EmitterModelConfig`. Scales are
    cells per side of the image, and share their blocks, unless `options` say otherwise.
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
        fields |= {"layers": num_layers, "codebook": vocab_size, "grid": "absolute", **options}
        if fields["grid"] == "absolute":
            count = len(patch_nums)
            fields = {"dense_scales": count, "mixing": ("attention",) * count, "shared_blocks": True} | fields
        self.config = config = EmitterModelConfig(**fields)
        width = config.width
        self.condition = nn.Sequential(
            nn.Linear(CONDITIONS, _CONDITION_WIDTH), nn.SiLU(), nn.Linear(_CONDITION_WIDTH, _CONDITION_WIDTH)
        )
        self.scale_embedding = nn.Embedding(len(config.scales), _CONDITION_WIDTH)
        self.level_embedding = nn.Embedding(len(config.scales), width)
        nn.init.normal_(self.level_embedding.weight, 0, 0.02)
        self.position = nn.ParameterList(nn.Parameter(0.02 * torch.randn(n, n, width)) for n in self._position_sides())
        self.encoder = Encoder(config.encoder_width, config.encoder_layers, _CONDITION_WIDTH)
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
        # To and from the running map, and from a parent's token to its children's; the names are those of the weights.
        dense = config.dense_scales
        self.say = nn.ModuleList(nn.Linear(width + 1, config.accumulated_width) for _ in range(dense))
        self.hear = nn.ModuleList(nn.Linear(config.accumulated_width, width) for _ in range(dense))
        self.inherit = nn.ModuleList(nn.Linear(width, width) for _ in config.scales[dense:])

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.leaf.linear.weight.device

    def grids(self, height: int, width: int) -> dict[int, Grid]:
        """The grid of each scale for frames of a size in pixels (rounded up to whole coarsest cells)."""
        return {scale: self._grid(scale, height, width) for scale in self.config.scales}

    def _grid(self, scale: int, height: int, width: int) -> Grid:
        if self.config.grid == "absolute":
            return Grid(scale, scale, scale / width)
        rows, columns = ((side + -side % CELL_PX) * scale // FIELD_PX for side in (height, width))
        return Grid(rows, columns, scale / FIELD_PX)

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
        conditions: FrameConditions | None = None,
        *,
        truth: Mapping[int, Tensor] | None = None,
        forced_B: Tensor | None = None,
        until: int | None = None,
    ) -> list[ScaleOutput]:
        """Per-scale outputs for images [B, Y, X] or [B, 1, Y, X] in photoelectrons, coarse to fine.

        `conditions` are those of the frames; without them, those of a typical sCMOS camera and a PSF of 1.3 px.
        With `truth` (true counts per scale) exactly the cells that hold emitters are refined, and the running map of
        the frames in `forced_B` gets the true counts. `until` ends at that scale.
        """
        frames_BYX = image[:, 0] if image.ndim == 4 else image
        conditions = conditions or FrameConditions.of(TYPICAL, len(frames_BYX), frames_BYX.device)
        Y, X = frames_BYX.shape[-2:]
        padded = pad_frames(frames_BYX)
        return self.run(prepare(padded, conditions), conditions, (Y, X), truth=truth, forced_B=forced_B, until=until)

    def run(
        self,
        inputs: Inputs,
        conditions: FrameConditions,
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
        coarser: Tensor | None = None
        memory: list[Memory] = [[] for _ in range(config.layers)]
        outputs: list[ScaleOutput] = []
        tokens = features.new_zeros(0)
        for index, scale in enumerate(config.scales):
            condition = condition_BK + self.scale_embedding.weight[index]
            if index < config.dense_scales:
                tokens = self._dense_tokens(index, features, coarser, condition, memory)
                output = self._dense_output(index, tokens, outputs, inputs, conditions)
                if index + 1 < len(config.scales) and config.accumulate:
                    added, loss = self._to_map(index, tokens, output, truth, forced_B)
                    steps = len(self.map_scales)
                    f_hat, coarser = self.quantizer.get_next_autoregressive_input(index, steps, f_hat, added)
                    output = replace(output, codebook_loss=loss)
            else:
                if index == config.dense_scales:
                    seen = pad_and_join([features, f_hat])
                cells, place_L = cells_to_refine(outputs[-1], config.active_count, truth, size)
                spare = 0 if torch.is_grad_enabled() else _round_up(len(place_L)) - len(place_L)
                parents = cells.padded(spare), F.pad(place_L, (0, spare))
                output, tokens = self._sparse(index, parents, outputs[-1], tokens, seen, condition, inputs, conditions)
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
        self, index: int, features: Tensor, coarser: Tensor | None, condition: Tensor, memory: list[Memory]
    ) -> Tensor:
        config = self.config
        absolute = config.grid == "absolute"
        if absolute:
            features = resize(features, config.scales[index])
        tokens: Tensor = self.entries[index](features).permute(0, 2, 3, 1)
        if coarser is not None:
            tokens = tokens + self.hear[index](coarser.permute(0, 2, 3, 1).to(tokens.dtype))
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
        self, index: int, tokens: Tensor, before: list[ScaleOutput], inputs: Inputs, conditions: FrameConditions
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
                noise = resize(inputs.log_noise_BYX[:, None], Y)[:, 0]
                leaves = self.leaf(tokens, noise, conditions.sigma_B.log()[:, None, None])
        cell_px = (inputs.log_noise_BYX.shape[2] / X, inputs.log_noise_BYX.shape[1] / Y)
        return ScaleOutput(self.config.scales[index], (B, Y, X), cell_px, log_count, offset, share, leaves=leaves)

    def _to_map(
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
        added = self.say[index](seen).permute(0, 3, 1, 2)
        if not self.config.quantize:
            return added, None
        codes, _, loss = self.quantizer(added)
        return codes.to(added.dtype), loss

    def _sparse(
        self,
        index: int,
        parents: tuple[Cells, Tensor],
        before: ScaleOutput,
        tokens: Tensor,
        seen: Tensor,
        condition: Tensor,
        inputs: Inputs,
        conditions: FrameConditions,
    ) -> tuple[ScaleOutput, Tensor]:
        """Refine a list of cells: four children each, that see the pixels around their parent."""
        config, width = self.config, self.config.width
        cells, place_L = parents
        parent_scale, scale = config.scales[index - 1], config.scales[index]
        inner = tokens.reshape(-1, width)[place_L]
        fresh = self.entries[index](cell_windows(seen, cells, parent_scale)).view(-1, 4, width)
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
                leaves = self.leaf(tokens, noise, conditions.sigma_B.log()[children.frame_L])
        x_px, y_px = before.cell_px
        fine = ScaleOutput(
            scale, (B, 2 * Y, 2 * X), (x_px / 2, y_px / 2), share + above, offset, share, children, leaves
        )
        return fine, tokens

    @torch.inference_mode()
    def autoregressive_inference(
        self, x: Tensor, target_resolution: int = 80, conditions: FrameConditions | None = None
    ) -> ScaleOutput:
        """Predict scale after scale up to the grid of `target_resolution` cells per side of images [B, 1, Y, X].

        Raises UsageError when no scale of the model gives such a grid for images of this size.
        """
        side = max(x.shape[-2:])
        cells = {scale: side * self._grid(scale, side, side).cells_per_px for scale in self.config.scales}
        for scale in self.config.scales:
            if cells[scale] == target_resolution:
                return self(x, conditions, until=scale)[-1]
        raise UsageError(
            f"no scale of the model has {target_resolution} cells for images of {side} pixels",
            f"it has {', '.join(f'{count:g}' for count in cells.values())}",
        )


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def build(config: EmitterModelConfig) -> TrueVAREmitterPredictor:
    """The predictor that a config describes, freshly initialised."""
    fields = config.model_dump()
    names = {"scales": "patch_nums", "width": "embed_dim", "heads": "num_heads", "layers": "num_layers"}
    names |= {"codebook": "vocab_size"}
    return TrueVAREmitterPredictor(**{names.get(name, name): value for name, value in fields.items()})


def _round_up(count: int) -> int:
    """The next of a few lengths, at most an eighth longer: products are compiled and kept for every new length."""
    step = max(64, 1 << max(0, count.bit_length() - 4))
    return -(-count // step) * step
