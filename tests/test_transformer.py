"""Attention: positions are relative, masks say who looks at whom."""

import pytest
import torch

from varcli.pianoroll.model.networks import Transformer, rotary_tables, rotate

torch.set_num_threads(1)
B, L, D, H = 3, 7, 16, 2


@pytest.fixture(scope="module")
def stack() -> Transformer:
    torch.manual_seed(0)
    stack = Transformer(D, H, blocks=2, dropout=0.0).eval()
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return stack.requires_grad_(False)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


def test_rotation_keeps_lengths_and_its_products_depend_on_distance_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(1, 1, 1, 8, generator=generator), torch.randn(1, 1, 1, 8, generator=generator)

    def product(q_at: int, k_at: int) -> torch.Tensor:
        turned_q = rotate(q, rotary_tables(torch.tensor([q_at]), 8))
        assert torch.allclose(turned_q.norm(), q.norm())
        return (turned_q * rotate(k, rotary_tables(torch.tensor([k_at]), 8))).sum()

    torch.testing.assert_close(product(5, 2), product(105, 102), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(product(3, 3), product(0, 0))
    assert not torch.allclose(product(5, 2), product(2, 5), atol=1e-2)


def test_shifting_all_positions_changes_nothing(stack, tokens) -> None:
    near, far = (stack(tokens, causal=True, rotary=rotary_tables(torch.arange(L) + s, D // H)) for s in (0, 40))
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)
    still = stack(tokens, causal=True)
    assert not torch.allclose(near, still, atol=1e-2)


def test_causal_attention_does_not_look_ahead_and_full_attention_does(stack, tokens) -> None:
    changed = tokens.clone()
    changed[:, 4] = tokens[:, 4].flip(-1)
    causal, causal_changed = (stack(x, causal=True) for x in (tokens, changed))
    assert torch.equal(causal[:, :4], causal_changed[:, :4])
    assert (causal[:, 4:] - causal_changed[:, 4:]).abs().amax(-1).gt(1e-4).all()
    full, full_changed = (stack(x, causal=False) for x in (tokens, changed))
    assert (full - full_changed).abs().amax(-1).gt(1e-4).all()


def test_a_mask_says_where_a_query_may_look(stack, tokens) -> None:
    lower = torch.ones(L, L, dtype=torch.bool).tril()
    torch.testing.assert_close(stack(tokens, causal=True, mask=lower), stack(tokens, causal=True))
    # Who sees only itself does not care about the others; a mask of its own per sequence is heeded.
    alone = torch.eye(L, dtype=torch.bool).expand(B, 1, L, L).clone()
    alone[1] = True
    y = stack(tokens, causal=False, mask=alone)
    torch.testing.assert_close(y[0, :1], stack(tokens[:1, :1], causal=False)[0])
    torch.testing.assert_close(y[1], stack(tokens[1:2], causal=False)[0])
    # The mask, not the flag, decides where both are given.
    torch.testing.assert_close(stack(tokens, causal=True, mask=torch.ones_like(lower)), stack(tokens, causal=False))
