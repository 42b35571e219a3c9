"""The sum, the norm and the rounding in one go are those of torch."""

import pytest
import torch
import torch.nn.functional as F

from varcli.pianoroll.inference.fused_norm import ROWS, FusedAddNorm, Gelu
from varcli.pianoroll.inference.packed_transformer import PackedTransformer
from varcli.pianoroll.model.transformer import Transformer

torch.set_num_threads(1)


@pytest.mark.parametrize("rows", [1, 3, ROWS + 5])
def test_a_sum_and_its_norm_are_those_of_torch(rows) -> None:
    x, y = torch.randn(rows, 24), torch.randn(rows, 24).bfloat16()
    norm = (torch.randn(24), torch.randn(24))
    sums, normed = FusedAddNorm()(x, y, norm)
    torch.testing.assert_close(sums, x + y)
    assert normed.dtype == torch.bfloat16
    torch.testing.assert_close(normed, F.layer_norm(x + y, (24,), *norm).bfloat16(), rtol=1e-2, atol=1e-4)
    assert (normed == F.layer_norm(x + y, (24,), *norm).bfloat16()).float().mean() > 0.98


def test_gelu_of_every_number_is_that_of_torch() -> None:
    numbers = torch.arange(1 << 16).to(torch.uint16).view(torch.bfloat16).view(-1, 64)
    numbers = numbers[numbers.isfinite().all(1)]
    said = F.gelu(numbers.float(), approximate="tanh").bfloat16()
    assert torch.equal(Gelu()(numbers.clone()), said)


def test_a_transformer_of_bfloat16_says_what_the_module_says_roughly() -> None:
    torch.manual_seed(0)
    stack, tokens = Transformer(32, 2, blocks=3, dropout=0.0).eval().requires_grad_(False), torch.randn(2, 7, 32)
    whole = stack(tokens, causal=False).flatten(0, 1)
    packed = PackedTransformer(stack, torch.bfloat16)
    torch.testing.assert_close(packed(tokens.flatten(0, 1), 2), whole, rtol=0.05, atol=0.05)
    wanted = torch.tensor([3, 6, 7, 12])
    torch.testing.assert_close(packed.some(tokens.flatten(0, 1), wanted, 2), whole[wanted], rtol=0.05, atol=0.05)
