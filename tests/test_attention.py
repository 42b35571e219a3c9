"""Attention: what is cached is what would be computed, positions are relative, masks say who looks at whom."""

import itertools

import pytest
import torch

from varcli.nn.attention import CacheSlots, KeyValueCache, Transformer, rotary_tables, rotate

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


def causal_mask(start: int, length: int) -> torch.Tensor:
    return torch.ones(length, start + length, dtype=torch.bool).tril(start)


@pytest.mark.parametrize("cuts", [c for n in range(L) for c in itertools.combinations(range(1, L), n)][::5])
def test_a_cache_filled_in_any_chunks_gives_what_one_pass_gives(stack, tokens, cuts) -> None:
    rotary = rotary_tables(torch.arange(L), D // H)
    whole = stack(tokens, causal=True, rotary=rotary)
    cache = KeyValueCache.empty(stack, B, L)
    parts = []
    for start, stop in itertools.pairwise((0, *cuts, L)):
        mask = causal_mask(start, stop - start)
        here = (rotary[0][start:stop], rotary[1][start:stop])
        slots = CacheSlots(cache, start)
        parts.append(stack(tokens[:, start:stop], causal=True, mask=mask, rotary=here, slots=slots))
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_rows_of_a_cache_may_stand_at_different_places_and_come_in_any_order(stack, tokens) -> None:
    whole = stack(tokens, causal=True)
    cache = KeyValueCache.empty(stack, B, L + 2)
    known = torch.tensor([2, 0, 4])
    for row, length in enumerate(known.tolist()):
        if length:
            rows, starts = torch.tensor([row]), torch.tensor([0])
            stack(tokens[row : row + 1, :length], causal=True, slots=CacheSlots(cache, starts, rows))
    rows, starts, m = torch.tensor([2, 0, 1]), known[[2, 0, 1]], 3
    columns = starts[:, None] + torch.arange(m)
    mask = (torch.arange(int(starts.max()) + m) <= columns[..., None])[:, None]
    new = stack(tokens[rows[:, None], columns], causal=True, mask=mask, slots=CacheSlots(cache, starts, rows))
    torch.testing.assert_close(new, whole[rows[:, None], columns])


def test_a_wrong_guess_in_the_cache_is_overwritten(stack, tokens) -> None:
    whole = stack(tokens, causal=True)
    cache = KeyValueCache.empty(stack, B, L)
    stack(tokens[:, :2], causal=True, slots=CacheSlots(cache, 0))
    stack(torch.randn(B, 4, D), causal=True, mask=causal_mask(2, 4), slots=CacheSlots(cache, 2))
    again = stack(tokens[:, 2:], causal=True, mask=causal_mask(2, L - 2), slots=CacheSlots(cache, 2))
    torch.testing.assert_close(again, whole[:, 2:])


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
