"""The next-scale predictor: scales agree, positions do not matter, lists equal maps, and it learns."""

import math
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from varcli.emitters.network import predict
from varcli.emitters.network.blocks import AdaLNSelfAttn, neighbourhood_attention
from varcli.emitters.network.encoder import StridedConv
from varcli.emitters.network.inputs import FrameConditions
from varcli.emitters.network.loss import Truth, VAREmitterLoss
from varcli.emitters.network.model import TrueVAREmitterPredictor
from varcli.emitters.network.predict import Predictor
from varcli.emitters.network.prediction import TYPICAL, Conditions
from varcli.emitters.network.quantizer import EmitterVectorQuantizer, Phi, bicubic
from varcli.emitters.prior import PhotonPrior
from varcli.errors import UsageError

SMALL: dict[str, Any] = {
    "grid": "field",
    "embed_dim": 16,
    "num_heads": 2,
    "num_layers": 1,
    "vocab_size": 32,
    "encoder_width": 8,
    "accumulated_width": 6,
}


def small(**options: Any) -> TrueVAREmitterPredictor:
    torch.manual_seed(1)
    model = TrueVAREmitterPredictor(**(SMALL | options)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.15)
    return model


def frames(count: int = 2, height: int = 40, width: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    image = torch.poisson(torch.full((count, height, width), 8.0), generator=generator)
    image[:, 9:12, 20:23] += 60
    return image


def test_outputs_per_scale_and_children_share_their_parents_count() -> None:
    outputs = small(active_count=0.0)(frames())
    assert [output.shape for output in outputs] == [(2, n, n) for n in (10, 20, 40, 80)]
    for coarse, fine in pairwise(outputs):
        summed = 4 * F.avg_pool2d(fine.counts_BYX[:, None], 2)[:, 0]
        assert torch.allclose(summed, coarse.counts_BYX, rtol=1e-4)
    leaves = outputs[-1].leaves
    assert leaves is not None and leaves.offset_L2.abs().max() < 0.56 and (leaves.sd_L3 > 0).all()
    probability = outputs[0].probability_BYX
    assert ((probability >= 0) & (probability <= 1)).all()


def test_occupancy_never_grows_from_parent_to_child() -> None:
    outputs = small(active_count=0.0, decides="occupancy")(frames())
    for coarse, fine in pairwise(outputs):
        most = F.max_pool2d(fine.counts_BYX[:, None], 2)[:, 0]
        assert (most <= coarse.counts_BYX + 1e-6).all() and (coarse.counts_BYX <= 1).all()


def test_only_cells_that_hold_something_are_refined() -> None:
    model = small(active_count=0.02)
    all_of_them = small(active_count=0.0)(frames())
    outputs = model(frames())
    for coarse, fine, full in zip(outputs[1:], outputs[2:], all_of_them[2:], strict=False):
        assert fine.cells is not None
        assert len(fine.cells.row_L) == 4 * int((coarse.counts_BYX > 0.02).sum())
        there = fine.counts_BYX > 0
        assert torch.allclose(fine.counts_BYX[there], full.counts_BYX[there], rtol=1e-4)


@pytest.mark.parametrize("height, width", [(40, 40), (37, 45), (8, 120)])
def test_any_frame_size(height: int, width: int) -> None:
    outputs = small(active_count=0.0)(frames(1, height, width))
    rows, columns = math.ceil(height / 4), math.ceil(width / 4)
    assert [output.shape[1:] for output in outputs] == [(rows * n, columns * n) for n in (1, 2, 4, 8)]


def test_a_frame_moved_by_whole_cells_gives_the_same_answer_moved() -> None:
    model = small(active_count=0.0)
    image = frames(1, 120, 120)
    here, there = model(image), model(torch.roll(image, (8, 4), (1, 2)))
    for output, moved in zip(here, there, strict=True):
        k = output.scale // 10
        inner = slice(14 * k, 18 * k)
        expected = torch.roll(output.counts_BYX, (2 * k, k), (1, 2))[:, inner, inner]
        # The median noise of the frame is the same; what lies near the edges is not compared.
        assert torch.allclose(moved.counts_BYX[:, inner, inner], expected, rtol=1e-3)


def test_tiles_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(active_count=0.001)
    image = frames(1, 200, 168).numpy()
    conditions = Conditions(1.3, 2.56, 1.0, PhotonPrior(math.log(800.0), 0.3))
    monkeypatch.setattr(predict, "bf16_is_fast", lambda device: False)
    whole = Predictor(model).predict(image, conditions, threshold=0.1, scales=(10, 80))
    monkeypatch.setattr(predict, "_TILE_PX", 64)
    tiled = Predictor(model).predict(image, conditions, threshold=0.1, scales=(10, 80))
    assert np.abs(whole.counts[10] - tiled.counts[10]).max() < 1e-3
    assert np.abs(whole.counts[80] - tiled.counts[80]).max() < 1e-3
    assert whole.candidates.probability.sum() == pytest.approx(tiled.candidates.probability.sum(), rel=1e-3)
    assert whole.cells[10] == whole.of_cells[10] == 50 * 42


def test_targets_in_cells_of_the_image() -> None:
    model = small()
    assert model.autoregressive_inference(frames(1), target_resolution=80).shape == (1, 80, 80)
    assert model.autoregressive_inference(frames(1, 80, 80), target_resolution=40).scale == 20
    with pytest.raises(UsageError, match="no scale"):
        model.autoregressive_inference(frames(1), target_resolution=70)


def test_absolute_grids_see_windows_and_all_coarser_cells() -> None:
    options = {"grid": "absolute", "dense_scales": 3, "shared_blocks": True, "window": 8, "quantize": True}
    model = small(patch_nums=(4, 8, 16), mixing=("attention",) * 3, **options)
    for side in (16, 32):
        outputs = model(frames(2, side, side))
        assert [output.shape for output in outputs] == [(2, 4, 4), (2, 8, 8), (2, 16, 16)]
    assert outputs[-1].leaves is not None and outputs[0].codebook_loss is not None


def test_patch_nums_are_cells_of_the_whole_image() -> None:
    torch.manual_seed(2)
    model = TrueVAREmitterPredictor(patch_nums=(10, 20, 40, 80), embed_dim=24, num_heads=3, num_layers=2)
    image = frames(1, 160, 160)[:, None]
    assert [output.probability_BYX.shape for output in model(image)] == [(1, n, n) for n in (10, 20, 40, 80)]
    answer = model.autoregressive_inference(image, target_resolution=80)
    assert answer.probability_BYX.shape == (1, 80, 80)
    within = answer.position_BYX2 / 2 - torch.stack(
        torch.meshgrid(torch.arange(80), torch.arange(80), indexing="xy"), -1
    )
    assert answer.position_BYX2.shape == (1, 80, 80, 2) and ((within > -0.06) & (within < 1.06)).all()
    assert model.autoregressive_inference(image, target_resolution=20).position_BYX2.shape == (1, 20, 20, 2)


def test_positions_of_a_list_are_those_of_the_map() -> None:
    everywhere, some = small(active_count=0.0)(frames())[-1], small(active_count=0.02)(frames())[-1]
    there = some.counts_BYX > 0
    assert some.position_BYX2[~there].isnan().all()
    assert torch.allclose(some.position_BYX2[there], everywhere.position_BYX2[there], atol=1e-3)
    assert (everywhere.position_BYX2[..., 0] > 39).any() and (everywhere.position_BYX2[..., 0] < 41).all()


@pytest.mark.parametrize("block", [5, 12], ids=["in blocks", "at once"])
def test_attention_is_that_of_each_cell_over_its_neighbours(block: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7, 13, 4)
    bias = torch.randn(2, 25)
    found = neighbourhood_attention(q, k, v, bias, reach=2, block=block)
    for y, x in ((0, 0), (3, 6), (6, 12)):
        keys = [(r, c) for r in range(7) for c in range(13) if max(abs(r - y), abs(c - x)) <= 2]
        for head in range(2):
            logits = torch.stack(
                [q[0, head, y, x] @ k[0, head, r, c] / 2 + bias[head, (r - y + 2) * 5 + c - x + 2] for r, c in keys]
            )
            wanted = torch.softmax(logits, 0) @ torch.stack([v[0, head, r, c] for r, c in keys])
            assert torch.allclose(found[0, y, x, head], wanted, atol=1e-5)


@pytest.mark.parametrize("mixing", ["attention", "convolution"])
def test_blocks_depend_on_the_conditions(mixing: str) -> None:
    torch.manual_seed(0)
    block = AdaLNSelfAttn(16, 2, 5, mixing=mixing, reach=1)
    torch.nn.init.normal_(block.modulation.linear.weight)
    x = torch.randn(1, 6, 6, 16)
    assert not torch.allclose(block(x, torch.zeros(1, 5)), block(x, torch.ones(1, 5)))
    cells = block.sparse(x[0, 0], torch.ones(1, 5), torch.zeros(6, dtype=torch.long))
    assert cells.shape == (6, 16)


def test_bicubic_is_pytorchs() -> None:
    x = torch.randn(2, 3, 10, 7)
    assert torch.allclose(bicubic(x, (40, 21)), F.interpolate(x, size=(40, 21), mode="bicubic"), atol=1e-5)


def test_a_model_that_has_predicted_can_still_learn() -> None:
    model = small(embed_dim=18)
    Predictor(model).predict(frames(1, 44, 52).numpy(), Conditions(1.3, 2.56, 1.0))
    torch.stack([output.log_count.sum() for output in model(frames(1, 44, 52))]).sum().backward()
    assert model.leaf.norm.weight.grad is None and model.encoder.modulation.weight.grad is not None


@pytest.mark.parametrize("grid", ["field", "absolute"])
def test_recomputing_changes_no_gradient(grid: str) -> None:
    options = {"patch_nums": (10, 20), "grid": grid, "dense_scales": 2, "window": 4, "shared_blocks": True}
    options["mixing"] = ("attention", "attention")
    torch.manual_seed(0)
    kept, twice = small(**options), small(**options, recompute=True)
    twice.load_state_dict(kept.state_dict())
    image = frames(1, 20, 20)
    for model in (kept, twice):
        torch.stack([output.log_count.sum() for output in model(image)]).sum().backward()
    for (name, one), other in zip(kept.named_parameters(), twice.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None and other.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-6), name


def test_the_running_map_follows_its_definition() -> None:
    quantizer = EmitterVectorQuantizer(8, 3, (2, 4, 8))
    f_hat, h = torch.randn(1, 3, 8, 8), torch.randn(1, 3, 2, 2)
    added, following = quantizer.get_next_autoregressive_input(0, 3, f_hat, h)
    up = F.interpolate(h, size=(8, 8), mode="bicubic")
    assert torch.allclose(added, f_hat + 0.5 * up + 0.5 * cast(Phi, quantizer.phi[0]).conv(up), atol=1e-5)
    assert torch.allclose(following, F.interpolate(added, size=(4, 4), mode="area"), atol=1e-5)
    last = torch.randn(1, 3, 8, 8)
    end, again = quantizer.get_next_autoregressive_input(2, 3, f_hat, last)
    assert end is again and torch.equal(end, f_hat + last)


def test_codes_are_nearest_and_gradients_pass_straight_through() -> None:
    torch.manual_seed(0)
    quantizer = EmitterVectorQuantizer(16, 3, (2, 4))
    h = torch.randn(2, 3, 4, 4, requires_grad=True)
    codes, index, loss = quantizer(h)
    vectors = h.permute(0, 2, 3, 1).reshape(-1, 3)
    assert torch.equal(index.flatten(), torch.cdist(vectors, quantizer.embedding.weight).argmin(1))
    gradient = torch.randn_like(codes)
    codes.backward(gradient, retain_graph=True)
    assert h.grad is not None and torch.equal(h.grad, gradient)
    loss.backward()
    assert quantizer.embedding.weight.grad is not None and quantizer.embedding.weight.grad.abs().sum() > 0


def truth_of(positions: list[tuple[int, float, float, float]], count: int) -> Truth:
    emitters, inside = torch.ones(count, len(positions), 3), torch.zeros(count, len(positions), dtype=torch.bool)
    for place, (frame, x, y, electrons) in enumerate(positions):
        emitters[frame, place] = torch.tensor([x, y, electrons])
        inside[frame, place] = True
    return Truth(emitters, inside)


def test_counts_of_the_truth() -> None:
    model = small()
    truth = truth_of([(0, 0.2, 39.9, 100.0), (0, 0.4, 39.6, 50.0), (1, 20.0, 3.0, 9.0)], 2)
    counts = truth.counts(model.grids(40, 40))
    assert all(float(counts[scale].sum()) == 3 for scale in counts)
    assert counts[10][0, 9, 0] == 2 and counts[80][0, 79, 0] == 2 and counts[80][1, 6, 40] == 1


@pytest.mark.parametrize("decides", ["counts", "occupancy"])
def test_one_batch_overfits(decides: str) -> None:
    torch.manual_seed(0)
    model = TrueVAREmitterPredictor(**SMALL, decides=decides)
    truth = truth_of([(0, 21.4, 10.6, 600.0), (0, 30.1, 33.2, 400.0), (1, 8.8, 5.1, 700.0)], 2)
    image = torch.full((2, 40, 40), 8.0)
    grid = torch.arange(40) + 0.5
    for frame, x, y, electrons in ((0, 21.4, 10.6, 600.0), (0, 30.1, 33.2, 400.0), (1, 8.8, 5.1, 700.0)):
        spot = torch.exp(-((grid - x) ** 2) / 3.4)[None] * torch.exp(-((grid - y) ** 2) / 3.4)[:, None]
        image[frame] += electrons * spot / spot.sum()
    grids, loss = model.grids(40, 40), VAREmitterLoss(decides=decides)
    optimizer = torch.optim.Adam(model.parameters(), 8e-3)
    nats = []
    for _ in range(200):
        parts = loss(model(image, truth=truth.counts(grids)), truth, grids)
        optimizer.zero_grad()
        parts.loss.backward()
        optimizer.step()
        nats.append(parts.nats)
    assert nats[-1] < nats[0] - 8
    found = Predictor(model.eval()).predict(image.numpy(), Conditions(1.3, 2.56, 1.0)).candidates
    assert len(found) == 3
    order = np.lexsort((found.x_px, found.frame))
    assert np.abs(found.x_px[order] - [21.4, 30.1, 8.8]).max() < (0.2 if decides == "counts" else 0.8)
    assert np.abs(np.log(found.electrons[order] / [600, 400, 700])).max() < 0.3


def test_teacher_forcing_changes_what_later_scales_hear() -> None:
    model = small()
    truth = truth_of([(0, 21.4, 10.6, 600.0), (0, 30.1, 33.2, 400.0)], 2)
    counts = truth.counts(model.grids(40, 40))
    own, forced = (model(frames(), truth=counts, forced_B=torch.tensor(f)) for f in ([False, False], [True, False]))
    assert torch.equal(own[0].log_count, forced[0].log_count)
    assert not torch.allclose(own[1].log_count[0], forced[1].log_count[0])
    assert torch.allclose(own[1].log_count[1], forced[1].log_count[1], atol=1e-6)


def test_accumulation_can_be_left_out() -> None:
    with_map, without = small(accumulate=True), small(accumulate=False)
    assert not torch.allclose(with_map(frames())[1].log_count, without(frames())[1].log_count)


def test_what_is_known_matters() -> None:
    model = small()
    conditions = FrameConditions.of(TYPICAL, 2)
    wider = type(conditions)(2 * conditions.sigma_B, *(getattr(conditions, n) for n in list(vars(conditions))[1:]))
    assert not torch.allclose(model(frames(), conditions)[0].log_count, model(frames(), wider)[0].log_count)


@pytest.mark.parametrize(("inputs", "outputs", "kernel", "stride"), [(8, 16, 8, 4), (16, 32, 4, 4), (16, 32, 8, 4)])
@pytest.mark.parametrize("side", [40, 128])
def test_strided_convolutions_are_right_under_autocast(
    inputs: int, outputs: int, kernel: int, stride: int, side: int
) -> None:
    torch.manual_seed(0)
    conv = StridedConv(inputs, outputs, kernel, stride, 2)
    image = torch.randn(2, inputs, side, side)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        low = conv(image.bfloat16())
    assert low.dtype == torch.bfloat16
    with torch.inference_mode():
        expected = F.conv2d(image.bfloat16().float(), conv.weight, conv.bias, stride, 2)
    assert float((low.float() - expected).norm() / expected.norm()) < 0.01
