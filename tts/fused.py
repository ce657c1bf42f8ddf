"""One decode step of a decoder in five kernels a layer, each as wide as the GPU, or in one launch.

norm and qkv | norms, positions, cache write and attention | output and residual | norm, gate, up
and SwiGLU | down and residual. One to four rows, eight of bfloat16, are multiplied by our kernels
for few rows, up to 256 on tensor cores by our tiles; beyond those, and where asked, a library makes
the products and three small kernels stand between them. One or two rows of bfloat16 run through all
layers in one launch (``tts.fused_layers``) where the GPU, the decoder and the cache allow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from tts.decoder import Block, Decoder, rotary_table
from tts.errors import InapplicableError
from tts.fused_layers import AllLayers
from tts.fused_weights import HEAD_DIMS as HEAD_DIMS
from tts.fused_weights import LayerWeights, check, plain, read
from tts.fused_weights import Weights as Weights

if TYPE_CHECKING:
    from tts.kernels.decode_attention import Splits, Workspace
    from tts.kernels.linear import Tile
    from tts.kernels.mma_rows import MmaTile
    from tts.kernels.products import DotTile, Parts

Products = Literal["auto", "layers", "rows", "tiles", "library"]


class Layer(Protocol):
    """Buffers of one layer's cache.

    For a cache of int8 there are ``key_scales`` and ``value_scales`` (..., slots, 1) besides, for
    a paged one ``block_table`` (rows, pages a row), int32.
    """

    keys: Tensor  # (rows or pages, kv_heads, slots, head_dim)
    values: Tensor


class Cache(Protocol):
    """A cache of fixed buffers."""

    @property
    def layers(self) -> Sequence[Any]:
        """One ``Layer`` per layer."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How each product and the attention are cut; None is chosen by the shapes."""

    tiles: dict[str, Tile | MmaTile] = field(default_factory=dict)  # by qkv, out, gate_up, down
    dot_tiles: dict[str, DotTile] = field(default_factory=dict)  # the same, of "tiles"
    splits: Splits | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cuts:
    """How tiles cut the products, and what programs and products leave for others."""

    tiles: dict[str, DotTile]
    parts: Parts
    after_out: Tensor  # sums of squares, (rows, column tiles), float32
    after_down: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class _Buffers:
    x: Tensor  # (rows, width), the residual stream
    normed: Tensor  # (rows, width), or what a product makes normal: the stream times gains
    qkv: Tensor  # (rows, heads + 2 kv_heads, head_dim)
    y: Tensor  # (rows, heads, head_dim)
    both: Tensor  # (rows, 2 ffn_width)
    gated: Tensor  # (rows, ffn_width)
    cos: Tensor  # (slots, head_dim), float32; one for any number of rows
    sin: Tensor
    splits: Splits
    workspace: Workspace
    cuts: _Cuts | None  # for tiles


class FusedStep:
    """Runs ``Decoder.forward`` for one new entry per row over a static cache.

    The decoder's parameters are read as they are now and, unless quantized, shared; one launch
    lays out a copy of them at its first call. Buffers are kept per number of rows; what a call
    returns is overwritten by the next one. Nothing is looked at by the host, so a step can be
    captured. ``ran`` tells by which way how many rows went, and ``not_one_launch`` why some did not
    go through all layers in one.

    Args:
        decoder: In its final precision, its linear layers plain.
        weights: As they are, or rounded here to 8 or 4 bits.
        group: Inputs that share a scale in 4 bits; None is 128, or 64 where that does not divide.
        pdl: Whether one of several kernels starts while the one before still runs; None where the
            GPU can.
        products: ``"layers"`` for one launch, ``"rows"`` for our kernels of few rows (at most 4,
            or 8 of bfloat16 by weights as they are), ``"tiles"`` for those of many (at most 256, of
            16 bits), ``"library"`` for PyTorch's, or what was quickest of those that fit.
        tuning: How to cut the work of each layer; one launch has no other cut, and is left out.

    Raises:
        InapplicableError: This decoder or device cannot take it.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        weights: Weights = "native",
        group: int | None = None,
        pdl: bool | None = None,
        products: Products = "auto",
        tuning: Tuning | None = None,
    ) -> None:
        self.decoder, self.config, self.weights = decoder, decoder.config, weights
        parameter = next(decoder.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        can_overlap = check(decoder, self.device)
        self.pdl = can_overlap if pdl is None else pdl
        if self.pdl and not can_overlap:
            raise InapplicableError("compile", "fused", "this device launches no kernel early")
        if products == "tiles" and self.dtype not in (torch.bfloat16, torch.float16):
            raise InapplicableError(
                "compile", "fused", f"our tiles multiply 16 bits, not {self.dtype}"
            )
        self.products, self.tuning = products, tuning or Tuning()
        self.layers = [
            read(block, weights, group)
            for block in decoder.blocks
            if isinstance(block, Block)  # always: for mypy
        ]
        self.norm = decoder.norm.weight.detach()
        self.all_layers = AllLayers(self.config, self.layers, self.norm, self.dtype, self.device)
        self.applied = 0 if weights == "native" else 4 * len(self.layers)
        self._are_for_tensor_cores = _are_for_tensor_cores(self.layers, self.dtype)
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}
        self._buffers: dict[tuple[int, int], _Buffers] = {}
        self.ran: dict[int, Products] = {}
        self.not_one_launch: dict[int, str] = {}

    def __call__(self, x: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """Run all layers and write the new entries into the cache.

        Args:
            x: Shape (rows, 1, width).
            positions: Shape (rows, 1), int64, contiguous: the slot of each new entry. A row sees
                the slots up to its own.
            cache: Static, in any of the layouts of ``Layer``.

        Returns:
            Normalised hidden states, shape (rows, 1, width); overwritten by the next call.
        """
        from tts.kernels.pointwise import normalise

        n_rows, layers = x.shape[0], cache.layers
        stream, n_slots = x.reshape(n_rows, -1), _n_slots(layers[0])
        way = "layers" if self.is_one_launch(n_rows, cache) else self.products_for(n_rows)
        self.ran[n_rows] = way
        if way == "layers":
            return self.all_layers(stream, positions, layers, self._table(n_slots))[:, None]
        buffers = self._for(n_rows, n_slots, way)
        if way == "tiles":
            stream = self._tiles(stream, positions, layers, buffers)
        else:
            for i, (layer, kept) in enumerate(zip(self.layers, layers, strict=True)):
                if way == "library":
                    self._library(layer, stream, positions, kept, buffers)
                else:  # what ran before the first kernel may not tell when it is done
                    is_pdl = self.pdl and i > 0
                    self._rows(layer, stream, positions, kept, buffers, is_first_pdl=is_pdl)
                stream = buffers.x
        eps = self.config.norm_eps
        is_pdl = self.pdl and way != "library"
        normed = normalise(stream, self.norm, eps, buffers.normed, is_pdl=is_pdl)
        return normed[:, None]

    def is_one_launch(self, n_rows: int, cache: Cache) -> bool:
        """Say whether so many rows over a cache run through all layers in one launch.

        Raises:
            InapplicableError: That was asked for and cannot be done.
        """
        if self.products not in ("auto", "layers"):
            return False
        if self.products == "auto" and self.tuning != Tuning():
            reason: str | None = "each layer's work was to be cut otherwise"
        else:
            reason = self.all_layers.why_not(n_rows, cache.layers)
        if reason is None:
            return True
        if self.products == "layers":
            raise InapplicableError("compile", "fused", reason)
        self.not_one_launch[n_rows] = reason
        return False

    def products_for(self, n_rows: int) -> Products:
        """Return who multiplies so many rows, layer by layer: any of ``Products`` but ``"auto"``.

        Raises:
            InapplicableError: Those that were asked for cannot take them.
        """
        from tts.kernels.linear import MAX_ROWS
        from tts.kernels.mma_rows import MAX_ROWS as MAX_MMA_ROWS
        from tts.kernels.products import MAX_ROWS as MAX_TILED_ROWS

        if self.products == "layers":
            return "layers"
        if self.products == "library" and self.weights == "native":
            return "library"
        most = MAX_MMA_ROWS if self._are_for_tensor_cores else MAX_ROWS
        if self.products in ("auto", "rows") and n_rows <= most:
            return "rows"
        if self.products == "rows" or self.weights != "native":
            raise InapplicableError(
                "batch_size", n_rows, f"our matrix products take at most {most} rows"
            )
        is_wanted = self.products == "tiles"
        if n_rows <= MAX_TILED_ROWS and (is_wanted or self.dtype == torch.bfloat16):
            return "tiles"
        if is_wanted:
            raise InapplicableError(
                "batch_size", n_rows, f"our tiles take at most {MAX_TILED_ROWS} rows"
            )
        return "library"

    def _rows(
        self,
        layer: LayerWeights,
        x: Tensor,
        positions: Tensor,
        kept: Layer,
        b: _Buffers,
        *,
        is_first_pdl: bool,
    ) -> None:
        from tts.kernels.linear import multiply

        tile, eps, n_rows = self.tuning.tiles.get, self.config.norm_eps, len(x)
        multiply(
            x, layer.qkv, b.qkv.view(n_rows, -1), norm=layer.attention_norm, eps=eps,
            is_pdl=is_first_pdl, tile=tile("qkv"),
        )  # fmt: skip
        self._attend(layer, positions, kept, b, is_pdl=self.pdl)
        multiply(
            b.y.view(n_rows, -1), layer.out, b.x, residual=x, is_pdl=self.pdl, tile=tile("out")
        )
        multiply(
            b.x, layer.gate_up, b.gated, norm=layer.ffn_norm, eps=eps, is_swiglu=True,
            is_pdl=self.pdl, tile=tile("gate_up"),
        )  # fmt: skip
        multiply(b.gated, layer.down, b.x, residual=b.x, is_pdl=self.pdl, tile=tile("down"))

    def _tiles(self, x: Tensor, positions: Tensor, layers: Sequence[Any], b: _Buffers) -> Tensor:
        """Run all layers; each product leaves what the next norm needs."""
        from functools import partial

        from tts.kernels.pointwise import prepare
        from tts.kernels.products import Stream, multiply_tiles

        assert b.cuts is not None
        cuts, n_rows, scaled, pdl = b.cuts, len(x), b.normed, self.pdl
        tile = cuts.tiles
        eps = self.config.norm_eps
        multiply = partial(multiply_tiles, parts=cuts.parts, eps=eps, is_pdl=pdl)
        prepare(x, self.layers[0].attention_norm, scaled, cuts.after_down, is_early=pdl)
        # The last layer's gains go unread: the last norm is a kernel of its own, behind the loop.
        gains = [*(layer.attention_norm for layer in self.layers[1:]), self.norm]
        for layer, kept, gain in zip(self.layers, layers, gains, strict=True):
            qkv, y = b.qkv.view(n_rows, -1), b.y.view(n_rows, -1)
            multiply(scaled, plain(layer.qkv), qkv, tile=tile["qkv"], squares=cuts.after_down)
            self._attend(layer, positions, kept, b, is_pdl=pdl)
            stream = Stream(residual=x, gains=layer.ffn_norm, scaled=scaled, squares=cuts.after_out)
            multiply(y, plain(layer.out), b.x, tile=tile["out"], stream=stream)
            multiply(
                scaled, plain(layer.gate_up), b.gated, tile=tile["gate_up"],
                squares=cuts.after_out, is_swiglu=True,
            )  # fmt: skip
            stream = Stream(residual=b.x, gains=gain, scaled=scaled, squares=cuts.after_down)
            multiply(b.gated, plain(layer.down), b.x, tile=tile["down"], stream=stream)
            x = b.x
        return x

    def _library(
        self, layer: LayerWeights, x: Tensor, positions: Tensor, kept: Layer, b: _Buffers
    ) -> None:
        from tts.kernels.pointwise import normalise, swiglu

        # A library's kernel starts when all before it have ended, and an early start of ours
        # behind it costs more than it wins (benchmarks/decoder/NOTES.md).
        eps, n_rows = self.config.norm_eps, len(x)
        normalise(x, layer.attention_norm, eps, b.normed)
        torch.mm(b.normed, plain(layer.qkv).t(), out=b.qkv.view(n_rows, -1))
        self._attend(layer, positions, kept, b, is_pdl=False)
        torch.addmm(x, b.y.view(n_rows, -1), plain(layer.out).t(), out=b.x)
        normalise(b.x, layer.ffn_norm, eps, b.normed)
        torch.mm(b.normed, plain(layer.gate_up).t(), out=b.both)
        swiglu(b.both, b.gated)
        b.x.addmm_(b.gated, plain(layer.down).t())

    def _attend(
        self, layer: LayerWeights, positions: Tensor, kept: Layer, b: _Buffers, *, is_pdl: bool
    ) -> None:
        from tts.kernels.decode_attention import NewEntry, attend

        new = NewEntry(
            cos=b.cos, sin=b.sin, q_norm=layer.q_norm, k_norm=layer.k_norm, eps=self.config.norm_eps
        )
        attend(
            b.qkv, kept.keys, kept.values, positions, b.y, b.workspace, b.splits,
            n_heads=self.config.n_heads, new=new,
            key_scales=getattr(kept, "key_scales", None),
            value_scales=getattr(kept, "value_scales", None),
            block_table=getattr(kept, "block_table", None), is_pdl=is_pdl,
        )  # fmt: skip

    def _table(self, n_slots: int) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of so many positions, made at the first call."""
        if n_slots not in self._tables:
            slots = torch.arange(n_slots, device=self.device)[None]
            cos, sin = rotary_table(slots, self.config)
            self._tables[n_slots] = cos[0, 0].contiguous(), sin[0, 0].contiguous()
        return self._tables[n_slots]

    def _for(self, n_rows: int, n_slots: int, way: Products) -> _Buffers:
        """Return buffers for so many rows, multiplied this way; made at the first call."""
        from tts.kernels.decode_attention import Workspace, choose_splits

        if (n_rows, n_slots) not in self._buffers:
            c = self.config
            cos, sin = self._table(n_slots)
            splits = self.tuning.splits or choose_splits(n_rows * c.n_heads, n_slots, c.head_dim)

            def empty(*shape: int) -> Tensor:
                return torch.empty((n_rows, *shape), dtype=self.dtype, device=self.device)

            self._buffers[n_rows, n_slots] = _Buffers(
                x=empty(c.width),
                normed=empty(c.width),
                qkv=empty(c.n_heads + 2 * c.n_kv_heads, c.head_dim),
                y=empty(c.n_heads, c.head_dim),
                both=empty(2 * c.ffn_width),
                gated=empty(c.ffn_width),
                cos=cos,
                sin=sin,
                splits=splits,
                workspace=Workspace(n_rows * c.n_heads, splits, c.head_dim, self.device),
                cuts=self._cut(n_rows) if way == "tiles" else None,
            )
        return self._buffers[n_rows, n_slots]

    def _cut(self, n_rows: int) -> _Cuts:
        """Choose tiles for so many rows, and make room for what programs leave."""
        from tts.kernels.products import Parts, choose_dot_tile, limits, sizes

        c = self.config
        shapes = {  # columns and inputs
            "qkv": (c.head_dim * (c.n_heads + 2 * c.n_kv_heads), c.width),
            "out": (c.width, c.head_dim * c.n_heads),
            "gate_up": (c.ffn_width, c.width),
            "down": (c.width, c.ffn_width),
        }
        units, shared = limits(self.device)
        tiles = {
            role: choose_dot_tile(
                n_rows, n_out, n_in, is_swiglu=role == "gate_up", n_units=units, shared_bytes=shared
            )
            for role, (n_out, n_in) in shapes.items()
        } | self.tuning.dot_tiles
        needed = [
            sizes(tile, n_rows, shapes[role][0], is_swiglu=role == "gate_up")
            for role, tile in tiles.items()
        ]
        parts = Parts(max(n for n, _ in needed), max(n for _, n in needed), self.device)

        def squares(role: str) -> Tensor:
            shape = n_rows, tiles[role].n_column_tiles(c.width)
            return torch.empty(shape, dtype=torch.float32, device=self.device)

        return _Cuts(tiles=tiles, parts=parts, after_out=squares("out"), after_down=squares("down"))


def _are_for_tensor_cores(layers: Sequence[LayerWeights], dtype: torch.dtype) -> bool:
    """Say whether tensor cores multiply few rows by all of these, normalised ones too."""
    from tts.kernels.mma_rows import takes

    matrices = [w for layer in layers for w in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    is_native = all(isinstance(w, Tensor) for w in matrices)
    return is_native and dtype == torch.bfloat16 and all(takes(w, dtype) for w in matrices)


def _n_slots(layer: Any) -> int:  # noqa: ANN401 - a Layer, whose block table is optional
    table = getattr(layer, "block_table", None)
    n_pages = 1 if table is None else table.shape[1]
    return int(layer.keys.shape[2] * n_pages)
