"""A transformer compiled for one token at a time says what the module says."""

import pytest
import torch

from varcli.pianoroll.inference.fused.transformer_step import multiply, product_of, step, weights_of
from varcli.pianoroll.model.transformer import Block, Transformer

torch.set_num_threads(1)
L, D = 7, 16


def transformer(heads: int) -> Transformer:
    """Two blocks whose weights are large."""
    torch.manual_seed(0)
    stack = Transformer(D, heads, blocks=2, dropout=0.0).eval()
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return stack.requires_grad_(False)


def stepped(stack: Transformer, tokens_LD: torch.Tensor, length: int, dtype: torch.dtype) -> torch.Tensor:
    """Hidden vectors [L, D] of tokens that come one after another."""
    weights, hidden = weights_of(stack, dtype), tokens_LD.clone()
    memory = torch.zeros(2, length, 2 * D).numpy()
    for at, token in enumerate(hidden.numpy()):
        step(token, at, memory, weights)
    return hidden


@pytest.mark.parametrize("heads", [1, 2])
def test_one_token_after_another_gives_what_one_pass_gives(heads) -> None:
    stack, tokens = transformer(heads), torch.randn(L, D)
    whole = stack(tokens[None], causal=True)[0]
    torch.testing.assert_close(stepped(stack, tokens, L, torch.float32), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2])
def test_weights_of_bfloat16_are_read_as_such(heads) -> None:
    stack, tokens = transformer(heads), torch.randn(L, D)
    rounded = transformer(heads)
    for name, parameter in rounded.named_parameters():
        if parameter.ndim == 2:
            parameter.copy_(stack.get_parameter(name).bfloat16())
    whole = rounded(tokens[None], causal=True)[0]
    torch.testing.assert_close(stepped(stack, tokens, L, torch.bfloat16), whole, rtol=1e-4, atol=1e-5)


def test_a_token_that_is_alone_sees_itself() -> None:
    stack, token = transformer(2), torch.randn(1, D)
    whole = stack(token[None], causal=True)[0]
    torch.testing.assert_close(stepped(stack, token, 1, torch.float32), whole, rtol=1e-4, atol=1e-5)


def test_gelu_holds_far_from_zero() -> None:
    stack = transformer(1)
    tokens = torch.randn(L, D)
    for block in stack.blocks:
        assert isinstance(block, Block)
        block.up.weight.mul_(30)
    whole = stack(tokens[None], causal=True)[0]
    torch.testing.assert_close(stepped(stack, tokens, L, torch.float32), whole, rtol=1e-3, atol=1e-4)


def test_a_product_is_that_of_the_linear_map() -> None:
    linear, x = torch.nn.Linear(24, 5), torch.randn(24)
    found = torch.empty(5)
    multiply(*product_of(linear.weight, linear.bias), x.numpy(), found.numpy())
    torch.testing.assert_close(found, linear(x).detach())
