"""The forward and backward pass of a LoRA layer in one autograd node.

peft's layer computes W x, then B(A x), then scales, then adds: two extra passes over the output each way. Here both products
accumulate in place (a tenth of a step on a small model), and only x and A x are kept for the backward pass. The layers,
their parameters and their files stay peft's.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, addmm
from torch.autograd import Function
from torch.nn import Linear, Module
from torch.nn.functional import linear


def fuse(model: Module) -> None:
    """Give every LoRA layer over a plain linear layer the fused pass; other layers (GPT-2's Conv1D) keep peft's."""
    for module in model.modules():
        if isinstance(module, LoraLinear) and isinstance(module.get_base_layer(), Linear):
            module.forward = MethodType(_forward, module)


def _forward(self: LoraLinear, x: Tensor) -> Tensor:
    base = self.get_base_layer()
    if self.disable_adapters:
        return base(x)
    factor_a, factor_b = self.lora_A["default"].weight, self.lora_B["default"].weight
    return _LoraPass.apply(x, base.weight, base.bias, factor_a, factor_b, self.scaling["default"])  # pyright: ignore[reportReturnType]


class _LoraPass(Function):
    """y = x W^T + b + scale (x A^T) B^T. W and b are frozen, in the base's dtype; A [r, in] and B [out, r] are float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = linear(rows.to(a.dtype), a)
        y = linear(rows, weight, bias)
        y = (
            y.addmm_(low, b.t(), alpha=scale)
            if y.dtype == b.dtype
            else addmm(y.to(b.dtype), low, b.t(), alpha=scale).to(y.dtype)
        )
        ctx.save_for_backward(rows, low, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor):
        rows, low, weight, a, b = ctx.saved_tensors
        grad = gradients[0].reshape(-1, gradients[0].shape[-1])
        exact = grad.to(b.dtype)
        grad_low = (exact @ b).mul_(ctx.scale)
        grad_a = grad_low.t() @ rows.to(a.dtype)
        grad_b = (exact.t() @ low).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if grad_x.dtype == a.dtype:
                grad_x.addmm_(grad_low, a)
            else:
                grad_x = addmm(grad_x.to(a.dtype), grad_low, a).to(grad_x.dtype)
            grad_x = grad_x.view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None
