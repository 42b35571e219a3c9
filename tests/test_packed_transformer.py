"""What is laid out for writing says what the modules say: transformers with what they keep, windows, decisions."""

import itertools

import numpy as np
import pytest
import torch
from fractal_support import some_canvas, tiny

from varcli.pianoroll.inference.level_weights import LevelWeights, Size
from varcli.pianoroll.inference.packed_transformer import KVCache, PackedTransformer, Rotary
from varcli.pianoroll.inference.window_embedding import WindowEmbedding
from varcli.pianoroll.model.fractal import FractalModel, forbid_held
from varcli.pianoroll.model.level import GIVEN, UNKNOWN
from varcli.pianoroll.model.transformer import Transformer, rotary_tables

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
def packed(stack: Transformer) -> PackedTransformer:
    return PackedTransformer(stack)


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(1))


def turned(columns: torch.Tensor) -> Rotary:
    """Rotary tables as the packed transformer takes them."""
    cos, sin = rotary_tables(columns.flatten(), D // H)
    return cos[:, None], sin[:, None]


def hidden(allowed: torch.Tensor) -> torch.Tensor:
    """A mask that is added to the scores."""
    return torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))


@pytest.mark.parametrize("cuts", [c for n in range(L) for c in itertools.combinations(range(1, L), n)][::5])
def test_tokens_kept_in_any_chunks_give_what_one_pass_gives(stack, packed, tokens, cuts) -> None:
    whole = stack(tokens[:1], causal=True, rotary=rotary_tables(torch.arange(L), D // H))[0]
    kv_cache, causal, parts = packed.kv_cache(1, L), hidden(torch.ones(L, L, dtype=torch.bool).tril()), []
    for start, stop in itertools.pairwise((0, *cuts, L)):
        cache = KVCache.of(kv_cache, [0], [start], stop - start)
        rotary = turned(torch.arange(start, stop))
        parts.append(packed(tokens[0, start:stop], 1, mask=causal[start:stop, :stop], rotary=rotary, cache=cache))
    torch.testing.assert_close(torch.cat(parts), whole)


def test_rows_of_a_memory_may_stand_at_different_places_and_come_in_any_order(stack, packed, tokens) -> None:
    whole = stack(tokens, causal=True)
    kv_cache, known, m = packed.kv_cache(B, L + 2), [2, 0, 4], 3
    causal = hidden(torch.ones(L + 2, L + 2, dtype=torch.bool).tril())
    for row, length in enumerate(known):
        if length:
            cache = KVCache.of(kv_cache, [row], [0], length)
            packed(tokens[row, :length], 1, mask=causal[:length, :length], cache=cache)
    rows = [2, 0, 1]
    cache = KVCache.of(kv_cache, rows, [known[row] for row in rows], m)
    assert cache.at is not None
    columns = cache.at.view(B, m)
    new = tokens[torch.tensor(rows)[:, None], columns].flatten(0, 1)
    found = packed(new, B, mask=causal[columns][:, None, :, : cache.stop], cache=cache)
    torch.testing.assert_close(found.view(B, m, D), whole[torch.tensor(rows)[:, None], columns])


def test_a_wrong_guess_that_was_kept_is_overwritten(stack, packed, tokens) -> None:
    whole, kv_cache = stack(tokens[:1], causal=True)[0], packed.kv_cache(1, L)
    causal = hidden(torch.ones(L, L, dtype=torch.bool).tril())
    packed(tokens[0, :2], 1, mask=causal[:2, :2], cache=KVCache.of(kv_cache, [0], [0], 2))
    packed(torch.randn(4, D), 1, mask=causal[2:6, :6], cache=KVCache.of(kv_cache, [0], [2], 4))
    again = packed(tokens[0, 2:], 1, mask=causal[2:], cache=KVCache.of(kv_cache, [0], [2], L - 2))
    torch.testing.assert_close(again, whole[2:])


@pytest.mark.parametrize("limited", [False, True])
def test_wanted_tokens_are_those_of_a_full_pass(stack, packed, tokens, limited) -> None:
    columns = torch.arange(L)
    allowed = (columns[:, None] - columns).abs() < (3 if limited else L)
    whole = stack(tokens, causal=False, mask=allowed, rotary=rotary_tables(columns, D // H)).flatten(0, 1)
    mask = hidden(allowed)[None, None] if limited else None
    rotary = turned(columns.repeat(B))
    torch.testing.assert_close(packed(tokens.flatten(0, 1), B, mask=mask, rotary=rotary), whole)
    wanted = torch.tensor([[5, 0], [3, 3], [1, 6]]) + L * torch.arange(B)[:, None]
    some = packed.some(tokens.flatten(0, 1), wanted.flatten(), B, mask=mask, rotary=rotary)
    torch.testing.assert_close(some, whole[wanted.flatten()])


def windows(model: FractalModel, level: int, share: float) -> torch.Tensor:
    """Windows u8 [40, W] of which a share of the cells sounds, some hidden or given."""
    rng = np.random.default_rng(0)
    shape = (40, len(model.level_models[level].offsets))
    codes = (rng.integers(1, 5, shape) * (rng.random(shape) < share)).astype(np.uint8)
    if model.config.model.conditioning:
        codes[rng.random(shape) < 0.02] |= GIVEN
    if model.masked or model.config.model.conditioning:
        codes[rng.random(shape) < 0.3] = UNKNOWN
    return torch.from_numpy(codes)


@pytest.mark.parametrize("kind", ["ar", "mar"])
@pytest.mark.parametrize("conditioning", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.6])
def test_what_is_seen_is_the_same_from_the_sounding_cells_alone(kind, conditioning, share, monkeypatch) -> None:
    monkeypatch.setattr("varcli.pianoroll.inference.window_embedding.LEAST_WORK", 0)
    model = tiny(kind, "4x4>1x1", 8, notes=True, velocity_bins=3, model={"conditioning": conditioning})
    for level in model.level_models:
        codes = windows(model, level.level, share)
        with torch.inference_mode():
            torch.testing.assert_close(WindowEmbedding(level)(codes), level.embed_windows(codes), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(
                WindowEmbedding(level)(codes[:1]), level.embed_windows(codes[:1]), rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_tables_inherit_and_decide_as_the_level_does(kind) -> None:
    model = tiny(kind, "4x4>2x2>1x1", 8, notes=True, velocity_bins=3)
    size = Size(model.tree.top(8), model.tree.columns(8), 1, 0)
    p, t = torch.tensor([[0, 4, 7, 3]]), torch.tensor([[0, 2, 5, 7]])
    with torch.inference_mode():
        for level in model.level_models:
            tables, vectors = LevelWeights(model, level, size), torch.randn(4, 16)
            if level.level:
                torch.testing.assert_close(tables.inherited(vectors), level.inherited(vectors), rtol=1e-4, atol=1e-4)
            row, said = p[0] // level.child_pitches, level.decide(vectors[None], p)
            if not level.is_value:
                torch.testing.assert_close(tables.decide(vectors, row), said[0], rtol=1e-4, atol=1e-4)
                continue
            canvas = torch.from_numpy(some_canvas(model, 8)).flatten()
            codes = canvas[torch.randint(len(canvas), (4, len(level.offsets)))]
            said = forbid_held(level, said, codes[None], t)[0]
            torch.testing.assert_close(tables.decide_value(vectors, row, codes, t[0]), said, rtol=1e-4, atol=1e-4)
