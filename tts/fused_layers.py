"""A fused step in one launch: when it can be taken, and what it needs besides the weights."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tts.decoder import DecoderConfig
from tts.fused_weights import LayerWeights

if TYPE_CHECKING:
    from tts.kernels.layers import Kernel
    from tts.kernels.packed_layers import Packed, Shape

_BUFFERS = ("keys", "values")
_BITS = {"Tensor": 16, "Int8Rows": 8, "Int4Rows": 4}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Made:
    """What a number of rows needs."""

    kernel: Kernel
    packed: Packed
    parts: Tensor  # what clusters leave for each other, (2, ranks, heads, rows, columns), 32 bits
    counter: Tensor  # launches so far, (1,), int32: from it follows which parts are new
    hidden: Tensor  # (rows, width)


class AllLayers:
    """Runs all layers of a decode step, and the norm behind them, in one launch.

    The kernel keeps weights of its own layout beside those it is given, for widths below 1,024 with
    zeros among them. Calls must follow each other on one stream, for they share what clusters leave
    for each other.

    Args:
        config: Of the decoder.
        layers: Its weights.
        norm: Gains of its last norm.
        dtype: Of its parameters.
        device: Where they are.
    """

    def __init__(
        self,
        config: DecoderConfig,
        layers: Sequence[LayerWeights],
        norm: Tensor,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.config, self.layers, self.norm = config, layers, norm
        self.dtype, self.device = dtype, device
        self._made: dict[int, _Made] = {}
        self._never = self._why_never()
        self._no_kernel: dict[int, str | None] = {}

    def why_not(self, n_rows: int, kept: Sequence[Any]) -> str | None:
        """Return what stands against one launch for so many rows over a cache, or None.

        Args:
            n_rows: Of the batch.
            kept: The cache's layers, ``tts.fused.Layer``.
        """
        return (
            self._never
            or self._shape(n_rows).why_not()
            or _why_not_cache(kept, n_rows, self.config)
            or self._why_no_kernel(n_rows)
        )

    def __call__(
        self, x: Tensor, positions: Tensor, kept: Sequence[Any], table: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Run the layers; ``why_not`` must have returned None.

        Args:
            x: Shape (rows, width).
            positions: Shape (rows, 1), int64, contiguous: the slot of each new entry.
            kept: The cache's layers, to which the new entries are written.
            table: Cosines and sines of the cache's slots, each (slots, head_dim), float32.

        Returns:
            Normalised hidden states, shape (rows, width); overwritten by the next call.

        Raises:
            ValueError: The kernel cannot read these.
        """
        if x.shape != (len(x), self.config.width) or x.dtype != self.dtype:
            raise ValueError(f"x is {tuple(x.shape)}, {x.dtype}")
        if positions.dtype != torch.int64 or not positions.is_contiguous():
            raise ValueError(f"positions are {positions.dtype}, contiguous or not")
        made = self._for(len(x))
        keys, values = kept[0].keys, kept[0].values
        layer_stride = _layer_stride([layer.keys for layer in kept])
        assert layer_stride is not None  # or there was a reason against it
        made.kernel(
            made.packed.weights, made.packed.numbers, made.packed.gains, x.contiguous(),
            made.hidden, positions, keys, values, layer_stride, *keys.stride()[:2], *table,
            made.parts, made.counter,
            len(self.layers), self.config.norm_eps,
        )  # fmt: skip
        return made.hidden

    def _why_never(self) -> str | None:
        from tts.kernels.layers import CAPABILITY
        from tts.kernels.packed_layers import GROUP, HEAD

        c = self.config
        if self.device.type != "cuda":
            return f"one launch for all layers does not run on {self.device.type}"
        capability = torch.cuda.get_device_capability(self.device)
        if capability != CAPABILITY:
            found, made_for = (".".join(map(str, c)) for c in (capability, CAPABILITY))
            return (
                f"one launch for all layers was made for compute capability {made_for}, not {found}"
            )
        if not importlib.util.find_spec("cuda") or not importlib.util.find_spec("cuda.bindings"):
            return "cuda-bindings is not installed"
        if self.dtype != torch.bfloat16:
            return f"one launch for all layers takes bfloat16, not {self.dtype}"
        if c.head_dim != HEAD or c.n_heads != c.n_kv_heads:
            return f"one launch for all layers takes heads of {HEAD} with keys of their own each"
        if self._bits() == 4 and self.layers[0].qkv.group != GROUP:  # type: ignore[union-attr]
            return f"one launch for all layers takes 4 bits in groups of {GROUP}"
        return None

    def _bits(self) -> int:
        return _BITS[type(self.layers[0].qkv).__name__]

    def _shape(self, n_rows: int) -> Shape:
        from tts.kernels.packed_layers import Shape

        c = self.config
        return Shape(
            width=c.width,
            n_heads=c.n_heads,
            ffn_width=c.ffn_width,
            bits=self._bits(),
            qk_norm=c.qk_norm,
            n_rows=n_rows,
        )

    def _why_no_kernel(self, n_rows: int) -> str | None:
        """Return why the kernel cannot be compiled, or finds no room on this GPU; asked once."""
        from tts.kernels.layers import NoKernelError, kernel

        if n_rows not in self._no_kernel:
            _refuse_capture()
            try:
                kernel(self._shape(n_rows), self.device)
                self._no_kernel[n_rows] = None
            except (NoKernelError, ImportError, OSError) as error:  # or there is no compiler here
                self._no_kernel[n_rows] = str(error)
        return self._no_kernel[n_rows]

    def _for(self, n_rows: int) -> _Made:
        """Return what so many rows need; made at the first call."""
        from tts.kernels.layers import kernel
        from tts.kernels.packed_layers import pack

        if n_rows not in self._made:
            _refuse_capture()
            shape = self._shape(n_rows)
            made = kernel(shape, self.device)
            others = list(self._made.values())
            packed = others[0].packed if others else pack(self.layers, self.norm, shape)
            if packed.numbers.shape[-1] != made.n_numbers:
                raise RuntimeError(f"cuda/shape.cuh has {made.n_numbers} numbers for {shape}")
            n_parts = 2 * self.config.width * self.config.n_heads * n_rows
            self._made[n_rows] = _Made(
                kernel=made,
                packed=packed,
                parts=torch.zeros(n_parts, dtype=torch.int32, device=self.device),
                counter=torch.zeros(1, dtype=torch.int32, device=self.device),
                hidden=torch.empty(
                    (n_rows, self.config.width), dtype=self.dtype, device=self.device
                ),
            )
        return self._made[n_rows]


def _refuse_capture() -> None:
    """Raise where nothing can be compiled, loaded or laid out."""
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("a step must have run before it is captured")


def _why_not_cache(kept: Sequence[Any], n_rows: int, config: DecoderConfig) -> str | None:
    first = kept[0]
    if any(getattr(first, name, None) is not None for name in ("block_table", "key_scales")):
        return "one launch for all layers reads a cache without pages and scales"
    buffers = [tensor for layer in kept for tensor in (layer.keys, layer.values)]
    rows, heads, _, head_dim = first.keys.shape
    wanted = config.n_layers, config.n_kv_heads, config.head_dim
    if (len(kept), heads, head_dim) != wanted or rows < n_rows:
        return f"one launch for {n_rows} rows does not fit a cache of {tuple(first.keys.shape)}"
    if any(tensor.dtype != torch.bfloat16 for tensor in buffers):
        return "one launch for all layers reads a cache of bfloat16"
    strides = first.keys.stride()
    is_even = all(
        tensor.shape == first.keys.shape and tensor.stride() == strides for tensor in buffers
    )
    by_layer = {_layer_stride([getattr(layer, name) for layer in kept]) for name in _BUFFERS}
    # It reads 16 bytes at a time.
    is_aligned = not any(n % 8 for n in strides[:2]) and strides[2:] == (head_dim, 1)
    is_aligned = is_aligned and not any(tensor.data_ptr() % 16 for tensor in buffers)
    if not is_even or not is_aligned or len(by_layer) != 1 or None in by_layer:
        return "one launch for all layers reads a cache whose layers and slots lie evenly in memory"
    return None


def _layer_stride(tensors: Sequence[Tensor]) -> int | None:
    """Return how many elements lie between one layer and the next, or None if that differs."""
    if len(tensors) == 1:
        return 0
    addresses = [tensor.data_ptr() for tensor in tensors]
    strides = {after - before for before, after in itertools.pairwise(addresses)}
    if len(strides) != 1:
        return None
    return strides.pop() // tensors[0].element_size()
