"""How weights lie for one launch: read back as its lanes read them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from itertools import product as product_of

import pytest
import torch
from torch import Tensor

from tests.tts.test_kernels import assert_close
from tts.decoder import DecoderConfig
from tts.fused_weights import LayerWeights
from tts.kernels.packed_layers import HEAD, RANKS, WARPS, Shape, codes, lay, pack, scales, units
from tts.kernels.weights import Weight, to_int4, to_int8

VOICE = DecoderConfig(n_layers=3, width=256, n_heads=4, n_kv_heads=4, ffn_width=704, qk_norm=True)
WIDER = DecoderConfig(n_layers=2, width=512, n_heads=8, n_kv_heads=8, ffn_width=2048)
# Down is taken in two pieces; in 4 bits, with ``SIXES``, in three.
DEEPER = DecoderConfig(n_layers=2, width=256, n_heads=4, n_kv_heads=4, ffn_width=2048)
SIXES = DecoderConfig(n_layers=3, width=512, n_heads=8, n_kv_heads=8, ffn_width=3072)
T3_LAYERS = DecoderConfig(
    n_layers=3, width=1024, n_heads=16, n_kv_heads=16, ffn_width=4096, rope_theta=5e5
)


def shape_of(config: DecoderConfig, bits: int = 16, n_rows: int = 2) -> Shape:
    return Shape(
        width=config.width, n_heads=config.n_heads, ffn_width=config.ffn_width, bits=bits,
        qk_norm=config.qk_norm, n_rows=n_rows,
    )  # fmt: skip


def matrices(config: DecoderConfig, bits: int) -> list[Weight]:
    """qkv, out, gate and up, down, as a step holds them."""
    torch.manual_seed(0)
    n, w, f = config.n_heads * HEAD, config.width, config.ffn_width
    plain = [torch.randn(s) for s in ((3 * n, w), (w, n), (2 * f, w), (w, f))]
    if bits == 16:
        return [m.bfloat16() for m in plain]
    return [to_int8(m) if bits == 8 else to_int4(m, 128) for m in plain]


def lanes(laid: Tensor, bits: int) -> Tensor:
    """Read units of bytes as a warp does: each lane's 16 bytes, its registers, halves or bytes.

    Returns:
        Codes or numbers, shape (..., 16 outputs, 64 inputs), float32.
    """
    lead = laid.shape[:-1]
    found = torch.zeros(*lead, 16, 64)
    words_of = laid.contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF
    for lane in range(32):
        g, t = lane // 4, lane % 4
        n_products, n_in_register = (4, 2) if bits == 16 else (2, 4)
        for product, register in product_of(range(n_products), range(4)):
            j, h = register // 2, register % 2
            for e in range(n_in_register):
                if bits == 16:
                    word = words_of[..., product * 128 + lane * 4 + register]
                    value = (word >> 16 * e & 0xFFFF) << 16
                    value = (value - (value >> 31 << 32)).to(torch.int32).view(torch.float32)
                elif bits == 8:
                    word = words_of[..., product * 128 + lane * 4 + register]
                    value = (word >> 8 * e & 255 ^ 128) - 128
                else:  # sixteen times the code is what becomes of it
                    word = words_of[..., lane * 4 + 2 * product + j]
                    value = (word >> 8 * e + 4 * h & 15 ^ 8) - 8
                at = 16 * t + 2 * n_in_register * product + n_in_register * j + e
                found[..., 8 * h + g, at] = value.float()
    return found


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("config", [VOICE, WIDER], ids=["voice", "wider"])
def test_lanes_read_what_was_laid(config: DecoderConfig, bits: int) -> None:
    shape = shape_of(config, bits)
    if shape.why_not():
        pytest.skip("4 bits do not fit the voice")
    cut = units([codes(m) for m in matrices(config, bits)], shape)
    laid = lay(cut, bits)
    assert laid.shape == (config.n_heads, RANKS, shape.n_units, WARPS, shape.unit_bytes)
    assert lanes(laid[:2], bits).equal(cut[:2].float())


def parts_of(cut: Tensor, shape: Shape) -> Iterator[Tensor]:
    """Cut units into those of qkv, out, gate and up, down."""
    m_warps = WARPS // shape.k_warps
    borders = [0, -(-3 // m_warps), 1, -(-(shape.ffn // 8) // m_warps), shape.ffn * RANKS // 64]
    at = [sum(borders[: i + 1]) for i in range(len(borders))]
    assert at[-1] == shape.n_units
    return (cut[:, :, a:b] for a, b in pairwise(at))


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("config", [VOICE, WIDER, DEEPER, SIXES, T3_LAYERS])
def test_units_multiply_as_the_matrices_do(config: DecoderConfig, bits: int) -> None:
    """What blocks make of their units, put together, is the whole product."""
    torch.manual_seed(0)
    shape, (n, w, f) = shape_of(config, bits), (config.n_heads, config.width, config.ffn_width)
    qkv, out, gate_up, down = (
        torch.randn(s) for s in ((3 * n * HEAD, w), (w, n * HEAD), (2 * f, w), (w, f))
    )
    x, y, h = torch.randn(w), torch.randn(n, HEAD), torch.randn(n, RANKS, f // (n * RANKS))
    of_qkv, of_out, of_gates, of_down = parts_of(units([qkv, out, gate_up, down], shape), shape)
    k, m = shape.k_warps, WARPS // shape.k_warps

    def along_inputs(cut: Tensor, n_tiles: int) -> Tensor:  # (n, ranks, tiles, 16)
        cut = cut.view(n, RANKS, -1, m, k, 16, 64)
        sums = torch.einsum("nrumkoi,ki->nrumo", cut, x.view(k, 64)).flatten(2, 3)
        assert not sums[:, :, n_tiles:].any()  # of zeros that fill up
        return sums[:, :, :n_tiles]

    found = along_inputs(of_qkv, 3)
    expected = (qkv @ x).view(3, n, HEAD)
    for rank in range(RANKS):
        at = torch.arange(8) + 8 * rank
        both = torch.cat((at, at + 32))
        for kind, dims in enumerate((both, both, torch.arange(16) + 16 * rank)):
            assert_close(found[:, rank, kind], expected[kind][:, dims].double(), 1e-5)

    found = along_inputs(of_gates, shape.ffn // 8).view(n, RANKS, -1, 2, 8).transpose(2, 3)
    channels = f // (n * RANKS)
    expected = (gate_up @ x).view(2, n, RANKS, channels)
    for kind in range(2):
        made = found[:, :, kind].reshape(n, RANKS, -1)
        assert_close(made[..., :channels], expected[kind].double(), 1e-5)
        assert not made[..., channels:].any()

    def along_outputs(cut: Tensor, inputs: Tensor) -> Tensor:  # inputs (n, 64 or more)
        blocks = inputs.view(n, -1, 64)
        sums = torch.einsum("nruwoi,nui->rwo", cut, blocks)
        sums = sums.unflatten(2, (2, 8)).transpose(2, 3)  # a lane has two columns side by side
        assert not sums[:, shape.columns // 16 :].any()
        return sums[:, : shape.columns // 16].reshape(w)

    assert_close(along_outputs(of_out, y), (out @ y.flatten()).double(), 1e-4)
    filled = torch.nn.functional.pad(h, (0, shape.ffn - channels)).reshape(n, -1)
    if bits == 8 and shape.ffn % 64:  # input 32 s + 8 t + i stands where product s finds it
        order = [32 * (i // 8 % 2) + 8 * (i // 16) + i % 8 for i in range(64)]
        filled = filled.view(n, -1, 64)[..., order].flatten(1)
    assert_close(along_outputs(of_down, filled), (down @ h.flatten()).double(), 1e-4)


@pytest.mark.parametrize(("config", "bits"), [(VOICE, 8), (WIDER, 8), (WIDER, 4)])
def test_scales_lie_in_the_order_of_the_work(config: DecoderConfig, bits: int) -> None:
    shape, found = shape_of(config, bits), matrices(config, bits)
    groups = 1 if bits == 8 else config.width // 128
    down_groups = 1 if bits == 8 else shape.ffn * RANKS // 128
    counts = [48 * groups, shape.columns, 2 * shape.ffn * groups, shape.columns * down_groups]
    laid = scales(found, shape)
    assert laid.shape == (config.n_heads, RANKS, sum(counts))
    of_qkv, of_out, of_gates, of_down = laid.split(counts, dim=2)
    qkv, out, gate_up, down = (  # (outputs, groups)
        m.scales.float().view(m.shape[0], -1)  # type: ignore[union-attr]
        for m in found
    )
    head, rank, group = 3, 2, groups - 1
    # The third value of a rank, the tenth query: of the second half of its pair.
    at = of_qkv[head, rank].view(groups, 48)[group]
    assert at[32 + 2] == qkv[2 * config.n_heads * HEAD + head * HEAD + 16 * rank + 2, group]
    assert at[9] == qkv[head * HEAD + 8 * rank + 32 + 1, group]
    assert of_out[head, rank, 5] == out[rank * shape.columns + 5, head // 2 if bits == 4 else 0]
    channels = config.ffn_width // (config.n_heads * RANKS)
    first = (head * RANKS + rank) * channels
    at = of_gates[head, rank].view(groups, -1, 2, 8)[group]
    assert at[1, 1, 3] == gate_up[config.ffn_width + first + 11, group]
    inner = of_down[head, rank].view(down_groups, -1)[-1]
    last = head * down_groups + down_groups - 1 if bits == 4 else 0
    assert inner[7] == down[rank * shape.columns + 7, last]


@pytest.mark.parametrize(("bits", "factor"), [(8, 1), (4, 16)])
def test_scales_take_back_what_codes_are_multiplied_by(bits: int, factor: int) -> None:
    found, width = matrices(WIDER, bits), WIDER.width
    qkv, out, gate_up, down = found
    layer = LayerWeights(
        attention_norm=torch.rand(width), ffn_norm=torch.rand(width), q_norm=None, k_norm=None,
        qkv=qkv, out=out, gate_up=gate_up, down=down,
    )  # fmt: skip
    shape = replace(shape_of(WIDER, bits), qk_norm=False)
    packed = pack([layer], torch.rand(width), shape)
    expected = scales(found, shape) / factor
    assert packed.numbers[0, ..., -expected.shape[-1] :].equal(expected)


@pytest.mark.parametrize(
    ("change", "bits", "words"),
    [
        ({"width": 320}, 16, "a width of 320"),
        ({"n_heads": 3}, 16, "odd number"),
        ({"ffn_width": 700}, 16, "700 channels"),
        ({}, 4, "groups of 128"),
    ],
)
def test_shapes_are_refused_with_the_reason(change: dict[str, int], bits: int, words: str) -> None:
    assert shape_of(VOICE).why_not() is None
    assert words in str(replace(shape_of(VOICE, bits), **change).why_not())


def test_three_rows_are_refused() -> None:
    assert "3 rows" in str(shape_of(VOICE, n_rows=3).why_not())
