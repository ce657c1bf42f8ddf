"""Run attention on exactly one kernel: one of PyTorch's own, flex attention, or our split-K.

Flex and split-K are kernels for the decode step over a static cache: they read the slots in use
and no mask. The prefill, which is plain causal attention, is left to PyTorch's quickest kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from tts.compilation import own_copy
from tts.decoder import Attend, DecoderConfig, Where, sdpa
from tts.errors import InapplicableError
from tts.fused import HEAD_DIMS
from tts.kv_cache import Int8Slots, PagedSlots, causal_mask
from tts.options import Attention
from tts.types import Applied

BACKENDS: dict[Attention, SDPBackend] = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
# For the prefill beside a kernel that only knows decode steps, the quickest first.
_PREFILL: tuple[Attention, ...] = ("flash", "efficient", "math")
MASKLESS: tuple[Attention, ...] = ("flex", "split_k")
FLEX_BLOCK = 128  # slots; flex attention passes over whole blocks
_PREFIXES = ("aten::_scaled_dot_product_", "mosgate::")


@contextmanager
def only(attention: Attention) -> Iterator[None]:
    """Allow this kernel alone; anything it cannot take raises inside the block.

    What is compiled inside the block is kept apart on disk too. torch's own key of kept code is
    the graph before a kernel is chosen, so code compiled for one kernel would serve another.
    """
    names = _PREFILL if attention in MASKLESS else (attention,)
    with (
        sdpa_kernel([BACKENDS[name] for name in names], set_priority=len(names) > 1),
        torch.compiler.config.patch(  # type: ignore[attr-defined]
            cache_key_tag=f"attention={attention}"
        ),
    ):
        yield


@contextmanager
def watch() -> Iterator[set[str]]:
    """Collect the attention kernels that run inside the block; the set fills when it ends.

    The names are those of PyTorch's operators, such as ``flash_attention_for_cpu`` or
    ``attention_math``, or of ours, ``decode_attention``. Math and flex attention that were
    compiled leave no name, because they were fused with what stands around them.
    """
    seen: set[str] = set()
    with torch.autograd.profiler.profile() as profiler:
        yield seen
    names = {event.name for event in profiler.function_events or ()}
    for prefix in _PREFIXES:
        seen |= {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def attend_by(attention: Attention) -> Attend:
    """Return what a decoder is to call: ``decoder.attend``."""
    if attention == "split_k":
        return split_k
    if attention == "flex":
        step = torch.compile(own_copy(flex_step), fullgraph=True, dynamic=False)

        def flex(q: Tensor, k: Tensor, v: Tensor, where: Where) -> Tensor:
            return sdpa(q, k, v, where) if where.lengths is None else step(q, k, v, where.lengths)

        return flex
    return sdpa


def split_k(q: Tensor, k: Any, v: Any, where: Where) -> Tensor:  # noqa: ANN401 - see Attend
    """Attend in a decode step by our kernel, which shares a row's slots out to many blocks."""
    if where.lengths is None:
        return sdpa(q, k, v, where)
    attend = torch.ops.mosgate.decode_attention
    if isinstance(k, Int8Slots):
        return attend(  # type: ignore[no-any-return]
            q, k.codes, v.codes, where.lengths, key_scales=k.scales, value_scales=v.scales
        )
    if isinstance(k, PagedSlots):
        return attend(  # type: ignore[no-any-return]
            q, k.pages, v.pages, where.lengths, block_table=k.block_table
        )
    return attend(q, k, v, where.lengths)  # type: ignore[no-any-return]


def flex_step(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """Attend in a decode step by flex attention; slow and wasteful unless compiled.

    Args:
        q: Shape (batch, heads, 1, head_dim).
        k: Shape (batch, kv_heads, n_slots, head_dim).
        v: As ``k``.
        lengths: Shape (batch,), int32; blocks of slots from there on are not even read.
    """
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    def is_live(row: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
        del head, query
        return slot < lengths[row]

    n_blocks = -(-k.shape[2] // FLEX_BLOCK)
    blocks = torch.arange(n_blocks, dtype=torch.int32, device=q.device)
    mask = BlockMask.from_kv_blocks(
        ((lengths + FLEX_BLOCK - 1) // FLEX_BLOCK)[:, None, None],
        blocks.expand(len(q), 1, 1, -1).contiguous(),
        BLOCK_SIZE=(FLEX_BLOCK, FLEX_BLOCK),
        mask_mod=is_live,
        seq_lengths=(1, k.shape[2]),
        compute_q_blocks=False,
    )
    y = flex_attention(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])
    assert isinstance(y, Tensor)
    return y


def check(
    attention: Attention,
    config: DecoderConfig,
    dtype: torch.dtype,
    device: torch.device,
    *,
    has_mask: bool,
    is_fused: bool = False,
) -> Applied:
    """Try one prefill and one decode step of attention, before anything is compiled for it.

    Args:
        attention: The option's value.
        config: The decoder's shape.
        dtype: Of queries, keys and values.
        device: Where they will lie.
        has_mask: Whether PyTorch's kernels will get a mask in the decode step.
        is_fused: Whether decode steps are fused, with an attention of their own.

    Raises:
        InapplicableError: There is no such kernel for these shapes and types.
    """
    q = torch.zeros((2, config.n_heads, 16, config.head_dim), dtype=dtype, device=device)
    k = torch.zeros((2, config.n_kv_heads, 16, config.head_dim), dtype=dtype, device=device)
    positions = torch.full((2, 1), 15, device=device)
    mask = causal_mask(positions, 16) if has_mask and attention not in MASKLESS else None
    lengths = positions[:, 0].int() + 1
    prefill = Where(positions=positions, rope=(q, q), mask=None, lengths=None)
    step = prefill._replace(mask=mask, lengths=lengths)
    errors: tuple[type[Exception], ...] = (ImportError, RuntimeError)
    if attention == "split_k":
        errors = (*errors, _ready_split_k(config.head_dim))
    try:
        by = _first_that_runs(_PREFILL if attention in MASKLESS else (attention,), q, k, prefill)
        # Flex is compiled for the true shapes, at the first step. A fused step has an attention of
        # its own, and the first call of an operator of ours imports torch's compiler, for seconds.
        if attention != "flex" and not is_fused:
            with only(attention):
                attend_by(attention)(q[:, :, :1], k, k, step)
    except errors as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InapplicableError(
            "attention", attention, f"no such kernel for {dtype} on {device.type}: {reason}"
        ) from error
    return Applied(
        name="attention",
        value=attention,
        n_modules=config.n_layers,
        detail=_detail(attention, by, has_mask=mask is not None, is_fused=is_fused),
    )


def _ready_split_k(head_dim: int) -> type[Exception]:
    """Register our kernel's operator; return the base of what its compiler and launcher raise.

    Raises:
        InapplicableError: Triton is missing, or the kernel has no such heads.
    """
    if head_dim not in HEAD_DIMS:
        known = ", ".join(map(str, HEAD_DIMS))
        raise InapplicableError(
            "attention", "split_k", f"head_dim {head_dim} is not among our kernel's {known}"
        )
    try:
        from triton.errors import TritonError

        import tts.kernels.decode_attention  # noqa: F401 - registers the operator
    except ImportError as error:
        raise InapplicableError("attention", "split_k", "Triton is not installed") from error
    return TritonError  # type: ignore[no-any-return]


def _first_that_runs(names: tuple[Attention, ...], q: Tensor, k: Tensor, where: Where) -> Attention:
    """Return the first of PyTorch's kernels that takes a prefill, or raise the last one's error."""
    for name in names[:-1]:
        try:
            with only(name):
                sdpa(q, k, k, where)
        except RuntimeError:
            continue
        return name
    with only(names[-1]):
        sdpa(q, k, k, where)
    return names[-1]


def _detail(attention: Attention, prefill: Attention, *, has_mask: bool, is_fused: bool) -> str:
    if is_fused:
        return f"our fused step's own in decode steps, SDPA's {prefill} kernel in the prefill"
    if attention == "flex":
        return f"compiled flex attention in decode steps, SDPA's {prefill} kernel in the prefill"
    if attention == "split_k":
        return f"our split-K kernel in decode steps, SDPA's {prefill} kernel in the prefill"
    masked = "with a mask" if has_mask else "without a mask"
    return f"no other kernel is allowed; tried on a prefill and on a decode step {masked}"
