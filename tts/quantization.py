"""Quantize the language model's matrices with torchao, and count what was really converted."""

from __future__ import annotations

from typing import Any

from torch import nn

from tts.errors import InapplicableError
from tts.options import Quantization
from tts.types import Applied

INT4_GROUP = 64


def apply(model: nn.Module, quantization: Quantization) -> Applied:
    """Quantize every linear layer in place.

    Raises:
        InapplicableError: A layer cannot be quantized, or torchao passed over one in silence.
    """
    if quantization == "none":
        return Applied(name="quantization", value="none", n_modules=0, detail="weights as loaded")
    from torchao.quantization import quantize_

    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    before = {name: type(model.get_submodule(name).weight) for name in names}
    try:
        quantize_(model, _config(quantization))
    except (AssertionError, ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = f"torchao: {str(error).splitlines()[0]}" if str(error) else "torchao refused"
        raise InapplicableError("quantization", quantization, reason) from error
    after = {name: type(model.get_submodule(name).weight) for name in names}
    left = [name for name in names if _tensor_kind(after[name]) == _tensor_kind(before[name])]
    if left:
        raise InapplicableError(
            "quantization",
            quantization,
            f"torchao left {len(left)} of {len(names)} matrices as they were, such as {left[0]}",
        )
    kinds = sorted({kind.__name__ for kind in after.values()})
    return Applied(
        name="quantization",
        value=quantization,
        n_modules=len(names),
        detail=f"{len(names)} linear layers to {', '.join(kinds)}; embeddings and codec as loaded",
    )


def _tensor_kind(kind: type) -> str:
    return "plain" if kind.__module__.startswith("torch.") else kind.__name__


def _config(quantization: Quantization) -> Any:  # noqa: ANN401 - torchao ships no types
    from torchao.quantization import (
        Float8WeightOnlyConfig,
        Int4WeightOnlyConfig,
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
    )

    # torchao's set_inductor_config would change compilation for the whole process: an axis
    # must not turn another.
    if quantization == "int8_weight_only":
        return Int8WeightOnlyConfig(set_inductor_config=False)
    if quantization == "int8_dynamic":
        return Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    if quantization == "int4_weight_only":
        return Int4WeightOnlyConfig(
            group_size=INT4_GROUP,
            int4_packing_format="tile_packed_to_4d",
            set_inductor_config=False,
        )
    return Float8WeightOnlyConfig(set_inductor_config=False)
