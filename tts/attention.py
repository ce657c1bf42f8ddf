"""Run scaled dot-product attention on exactly one of PyTorch's kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from tts.decoder import DecoderConfig, sdpa
from tts.errors import InapplicableError
from tts.kv_cache import causal_mask
from tts.options import Attention
from tts.types import Applied

BACKENDS: dict[Attention, SDPBackend] = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
_PREFIX = "aten._scaled_dot_product_"


def only(attention: Attention) -> AbstractContextManager[None]:
    """Allow this kernel alone; anything it cannot take raises inside the block."""
    return sdpa_kernel([BACKENDS[attention]])


def check(
    attention: Attention,
    config: DecoderConfig,
    dtype: torch.dtype,
    device: torch.device,
    *,
    has_mask: bool,
) -> Applied:
    """Run one prefill and one decode step of attention and name the kernels that ran.

    Raises:
        InapplicableError: PyTorch has no such kernel for these shapes and types.
    """
    shape = (2, config.n_heads, 16, config.head_dim)
    q = torch.zeros(shape, dtype=dtype, device=device)
    k = torch.zeros((2, config.n_kv_heads, 16, config.head_dim), dtype=dtype, device=device)
    positions = torch.full((2, 1), 15, device=device)
    mask = causal_mask(positions, 16) if has_mask else None
    try:
        with only(attention):
            prefill = _kernel(q, k, None, True)
            step = _kernel(q[:, :, :1], k, mask, False)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InapplicableError(
            "attention", attention, f"no such kernel for {dtype} on {device.type}: {reason}"
        ) from error
    masked = "with a mask" if has_mask else "without a mask"
    return Applied(
        name="attention",
        value=attention,
        n_modules=config.n_layers,
        detail=f"prefill {prefill}; decode step {step} {masked}",
    )


def _kernel(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool) -> str:
    with _Recorder() as recorder:
        sdpa(q, k, k, mask, is_causal)
    fused = [name for name in recorder.names if name.startswith(_PREFIX)]
    return fused[0].removeprefix("aten.").removesuffix(".default") if fused else "math"


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))
