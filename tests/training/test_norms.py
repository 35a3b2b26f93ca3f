"""The fused RMS norm is the architecture's own one, forward and backward, and is not put where it is not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import Module, Parameter
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from tunesmith.training.norms import fuse_norms


def norm_of(kind: type[Module], width: int = 24) -> Module:
    module = kind(width, 1e-5)  # pyright: ignore[reportCallIssue]
    torch.manual_seed(0)
    module.weight = Parameter(torch.randn(width), requires_grad=False)
    return module


@pytest.mark.parametrize("kind", [Qwen3RMSNorm, LlamaRMSNorm])
@pytest.mark.parametrize("shape", [(1, 7, 24), (1, 5, 3, 24)])
def test_value_and_gradient_are_its_own(kind: type[Module], shape: tuple[int, ...]):
    own = norm_of(kind)
    fused = copy.deepcopy(own)
    assert fuse_norms(fused) == 1
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(shape)
    results = []
    for module in (own, fused):
        (module(x) * weight).sum().backward()
        results.append((module(x).detach(), x.grad))
        x.grad = None
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    fused = norm_of(Qwen3RMSNorm, 6)
    assert fuse_norms(fused) == 1
    fused.double()
    assert torch.autograd.gradcheck(fused, torch.randn(3, 6, dtype=torch.float64, requires_grad=True))


def test_others_and_those_that_are_trained_keep_their_code():
    trained = norm_of(LlamaRMSNorm)
    trained.weight.requires_grad_(True)
    assert fuse_norms(trained) == 0
    # Adds 1 to its weights, and has its epsilon under another name.
    assert fuse_norms(norm_of(Gemma2RMSNorm)) == 0

    class PlusOneRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states) * 1.001

    assert fuse_norms(norm_of(PlusOneRMSNorm)) == 0
