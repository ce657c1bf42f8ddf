"""Quantize the language model's matrices with torchao."""

from __future__ import annotations

from torch import nn

from tts.errors import InapplicableError
from tts.options import Precision, Quantization
from tts.types import Applied


def apply(model: nn.Module, quantization: Quantization, *, precision: Precision) -> Applied:
    """Quantize in place (only none so far)."""
    if quantization != "none":
        raise InapplicableError("quantization", quantization, "not built yet")
    return Applied(name="quantization", value="none", n_modules=0, detail="weights as loaded")
