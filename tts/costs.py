"""Count bytes and operations of a decoder from its shapes, and bytes of tensors as they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from tts.decoder import DecoderConfig
from tts.options import KvCache, Quantization

_SCALE_BYTES = 4  # an 8-bit cache keeps a float32 scale per token and head


def seen_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of memory behind tensors; shared memory counts once."""
    storages = {}
    for tensor in tensors:
        for plain in _plain(tensor):
            storage = plain.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def read_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes that reading each tensor once takes."""
    return sum(p.numel() * p.element_size() for t in tensors for p in _plain(t))


def tensors_of(value: object) -> Iterator[Tensor]:
    """Yield the tensors that one of our objects holds, in its attributes and what these hold.

    Args:
        value: Such as a cache of any layout; None holds nothing.
    """
    waiting, known = [value], set[int]()
    while waiting:
        found = waiting.pop()
        if id(found) in known:
            continue
        known.add(id(found))
        if isinstance(found, Tensor):
            yield found
        elif isinstance(found, Mapping):
            waiting += found.values()
        elif isinstance(found, list | tuple):
            waiting += found
        elif type(found).__module__.startswith("tts."):
            waiting += vars(found).values()


def _plain(tensor: Tensor) -> Iterator[Tensor]:
    """Yield what a quantized tensor is made of, or a plain one itself."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
        return
    for name in flatten()[0]:
        yield from _plain(getattr(tensor, name))


def linear_parameters(module: nn.Module) -> int:
    """Count the weights of all matrices, quantized or not."""
    return sum(m.out_features * m.in_features for m in _matrices(module))


def _matrices(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def weight_bytes(module: nn.Module, quantization: Quantization) -> int:
    """Compute the bytes of a module's parameters if its matrices are quantized so, scales aside.

    Args:
        module: Its parameters other than matrices lie as they are.
        quantization: The option's value.
    """
    if quantization == "none":
        return read_bytes(module.parameters())
    bits = 4 if quantization.startswith("int4") else 8
    matrices = {id(m.weight) for m in _matrices(module)}
    rest = read_bytes(p for p in module.parameters() if id(p) not in matrices)
    return linear_parameters(module) * bits // 8 + rest


def cache_bytes(
    config: DecoderConfig, layout: KvCache, n_lanes: int, n_slots: int, dtype: torch.dtype
) -> int:
    """Compute the bytes of keys and values of all layers.

    Args:
        config: Of the decoder.
        layout: The option's value; ``none`` keeps nothing.
        n_lanes: Rows of the decoder.
        n_slots: Entries per row.
        dtype: Of keys and values where the layout does not say.
    """
    if layout == "none":
        return 0
    row = config.head_dim * dtype.itemsize
    if "int8" in layout:
        row = config.head_dim + _SCALE_BYTES
    return 2 * config.n_layers * n_lanes * config.n_kv_heads * n_slots * row


def decoder_flops(
    config: DecoderConfig, n_matrix: int, n_lanes: int, n_new: int, n_live: int
) -> int:
    """Count multiplications and additions of a pass through all layers.

    Args:
        config: Of the decoder.
        n_matrix: Its matrices' weights, as ``linear_parameters`` counts them.
        n_lanes: Rows.
        n_new: New entries per row; of each, causally, about half of the others are looked at
            where ``n_new`` is ``n_live``.
        n_live: Entries that the last one attends to.
    """
    n_seen = n_new * n_live - n_new * (n_new - 1) // 2
    attention = 4 * config.n_layers * config.n_heads * config.head_dim * n_seen
    return n_lanes * (2 * n_matrix * n_new + attention)
