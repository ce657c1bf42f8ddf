"""The weights of a fused step: what it can take of a decoder, and how it holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from tts.decoder import Block, Decoder
from tts.errors import InapplicableError

if TYPE_CHECKING:
    from tts.kernels.weights import Weight

Weights = Literal["native", "int8", "int4"]
HEAD_DIMS = (16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWeights:
    """Matrices and gains of one layer."""

    qkv: Weight
    out: Weight
    gate_up: Weight
    down: Weight
    attention_norm: Tensor
    ffn_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None


def check(decoder: Decoder, device: torch.device) -> bool:
    """Refuse what the kernels cannot take; return whether kernels can start early here."""
    try:
        import triton
    except ImportError as error:
        raise InapplicableError("compile", "fused", "Triton is not installed") from error
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise InapplicableError("compile", "fused", f"our kernels do not run on {device.type}")
    head_dim = decoder.config.head_dim
    if head_dim not in HEAD_DIMS:
        known = ", ".join(map(str, HEAD_DIMS))
        raise InapplicableError("compile", "fused", f"head_dim {head_dim} is not among {known}")
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Linear) and not _is_plain(module.weight):
            raise InapplicableError(
                "compile", "fused", f"{name} is quantized by another library already"
            )
    if device.type != "cuda" or triton.knobs.runtime.interpret:
        return False
    return torch.cuda.get_device_capability(device) >= (9, 0)


def _is_plain(weight: Tensor) -> bool:
    return type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()


def read(block: Block, weights: Weights, group: int | None) -> LayerWeights:
    """Take a layer's weights as they are, or rounded.

    Args:
        block: In its final precision.
        weights: How.
        group: Inputs that share a scale in 4 bits; None is 128, or 64 where that does not divide.

    Raises:
        InapplicableError: They cannot be rounded so.
    """
    from tts.kernels.weights import to_int4, to_int8

    def weight(module: nn.Linear) -> Weight:
        plain = module.weight.detach().contiguous()
        try:
            if weights == "int8":
                return to_int8(plain)
            if weights == "int4":
                return to_int4(plain, group or (64 if plain.shape[1] % 128 else 128))
            return plain
        except ValueError as error:
            raise InapplicableError("quantization", weights, str(error)) from error

    attention, has_norms = block.attention, block.attention.config.qk_norm
    return LayerWeights(
        qkv=weight(attention.qkv),
        out=weight(attention.out),
        gate_up=weight(block.ffn.gate_up),
        down=weight(block.ffn.down),
        attention_norm=block.attention_norm.weight.detach(),
        ffn_norm=block.ffn_norm.weight.detach(),
        q_norm=attention.q_norm.weight.detach() if has_norms else None,
        k_norm=attention.k_norm.weight.detach() if has_norms else None,
    )


def plain(weight: Weight) -> Tensor:
    """Return a weight that was not rounded."""
    assert isinstance(weight, Tensor)
    return weight
