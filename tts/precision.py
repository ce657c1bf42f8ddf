"""Choose the number format of matrix products; norms, softmax, sampling and ISTFT stay float32."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from tts.errors import InapplicableError
from tts.options import Precision
from tts.types import Applied

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def apply(modules: Iterable[nn.Module], precision: Precision, device: torch.device) -> Applied:
    """Cast modules in place and set the process's float32 matrix product.

    Args:
        modules: What to cast; everything in them that holds parameters.
        precision: The format.
        device: Where they lie.

    Raises:
        InapplicableError: TF32 was asked for without a GPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise InapplicableError("precision", precision, "TF32 exists on NVIDIA GPUs only")
    is_tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = is_tf32
    dtype, n_cast = DTYPES[precision], 0
    for module in modules:
        n_cast += sum(1 for m in module.modules() if m._parameters)
        module.to(dtype)
    return Applied(
        name="precision",
        value=precision,
        n_modules=n_cast if dtype != torch.float32 else 0,
        detail=f"weights {dtype}, float32 products in {'TF32' if is_tf32 else 'full float32'}",
    )
