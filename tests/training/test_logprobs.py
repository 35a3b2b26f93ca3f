"""The chunked head against the plain formula."""

from __future__ import annotations

import pytest
import torch
from tunesmith.training import logprobs
from tunesmith.training.logprobs import chosen_logprobs


@pytest.mark.parametrize("chunk", [1, 300, 2**24])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("with_bias", [False, True])
def test_value_gradient_and_entropy(monkeypatch: pytest.MonkeyPatch, chunk: int, temperature: float, with_bias: bool):
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", chunk)
    generator = torch.Generator().manual_seed(0)
    hidden_KH = torch.randn(7, 16, generator=generator).requires_grad_()
    weight_VH, bias_V = torch.randn(101, 16, generator=generator), torch.randn(101, generator=generator)
    target_K = torch.randint(101, (7,), generator=generator)
    upstream_K = torch.randn(7, generator=generator)
    bias = bias_V if with_bias else None

    logp_K, entropy_K = chosen_logprobs(hidden_KH, weight_VH, bias, target_K, temperature)
    (found,) = torch.autograd.grad(logp_K, hidden_KH, upstream_K)

    distribution = (torch.nn.functional.linear(hidden_KH, weight_VH, bias) / temperature).log_softmax(-1)
    plain_K = distribution.gather(1, target_K[:, None])[:, 0]
    (expected,) = torch.autograd.grad(plain_K, hidden_KH, upstream_K, retain_graph=True)
    torch.testing.assert_close(logp_K, plain_K, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(entropy_K, -(distribution.exp() * distribution).sum(-1), rtol=1e-4, atol=1e-4)
    assert not entropy_K.requires_grad


def test_low_precision_hidden_states_are_scored_in_float32():
    hidden_KH = torch.randn(3, 8, dtype=torch.bfloat16).requires_grad_()
    logp_K, _ = chosen_logprobs(hidden_KH, torch.randn(11, 8), None, torch.tensor([1, 2, 3]), 1.0)
    logp_K.sum().backward()
    assert logp_K.dtype == torch.float32
    assert hidden_KH.grad is not None
    assert hidden_KH.grad.dtype == torch.bfloat16
