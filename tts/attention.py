"""Run scaled dot-product attention on exactly one of PyTorch's kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

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
_PREFIX = "aten::_scaled_dot_product_"


@contextmanager
def only(attention: Attention) -> Iterator[None]:
    """Allow this kernel alone; anything it cannot take raises inside the block.

    What is compiled inside the block is kept apart on disk too. torch's own key of kept code is
    the graph before a kernel is chosen, so code compiled for one kernel would serve another.
    """
    with (
        sdpa_kernel([BACKENDS[attention]]),
        torch.compiler.config.patch(  # type: ignore[attr-defined]
            cache_key_tag=f"attention={attention}"
        ),
    ):
        yield


@contextmanager
def watch() -> Iterator[set[str]]:
    """Collect the attention kernels that run inside the block; the set fills when it ends.

    The names are PyTorch's own, such as ``flash_attention_for_cpu`` or ``attention_math``. Math
    that was compiled leaves no name, because its parts were fused with what stands around them.
    """
    seen: set[str] = set()
    with torch.autograd.profiler.profile() as profiler:
        yield seen
    names = {event.name for event in profiler.function_events or ()}
    seen |= {name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)}


def check(
    attention: Attention,
    config: DecoderConfig,
    dtype: torch.dtype,
    device: torch.device,
    *,
    has_mask: bool,
) -> Applied:
    """Try one prefill and one decode step of attention, before anything is compiled for it.

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
            sdpa(q, k, k, None, True)
            sdpa(q[:, :, :1], k, k, mask, False)
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
        detail=f"no other kernel is allowed; tried on a prefill and on a decode step {masked}",
    )
