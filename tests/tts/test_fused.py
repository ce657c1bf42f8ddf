"""The fused step is the decoder: in Triton's interpreter here, in machine code on a GPU."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tests.tts.test_kernels import IS_INTERPRETED, assert_close, interpret, on_devices
from tts.compilation import StepGraph
from tts.decoder import Decoder, DecoderConfig, Llama3Scaling
from tts.errors import InapplicableError
from tts.fused import FusedStep, Products, Tuning, Weights
from tts.kv_cache import StaticCache, StaticInt8Cache, causal_mask

GROUPED = DecoderConfig(n_layers=2, width=32, n_heads=4, n_kv_heads=2, ffn_width=64, head_width=16)
LIKE_THE_VOICE = DecoderConfig(
    n_layers=1, width=32, n_heads=2, n_kv_heads=2, ffn_width=88, qk_norm=True
)
SCALED = DecoderConfig(
    n_layers=1,
    width=24,
    n_heads=2,
    n_kv_heads=1,
    ffn_width=32,
    head_width=16,
    rope_scaling=Llama3Scaling(original_context=16),
)
CONFIGS = [GROUPED, LIKE_THE_VOICE, SCALED]
NAMES = ["grouped", "like the voice", "scaled"]
N_SLOTS, LENGTHS = 24, [5, 9, 2]


@pytest.mark.skipif(IS_INTERPRETED, reason="this is that process")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_interpreted_step_agrees_with_the_decoder() -> None:
    interpret("tests/tts/test_fused.py")


def make(
    config: DecoderConfig, device: str, dtype: torch.dtype = torch.float32
) -> tuple[Decoder, Tensor]:
    """A decoder whose norms are not all one, and random inputs (rows, entries, width)."""
    torch.manual_seed(0)
    decoder = Decoder(config)
    for name, parameter in decoder.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    x = torch.randn(3, 16, config.width)
    return decoder.to(device, dtype).eval(), x.to(device, dtype)


def caches(kind: str, config: DecoderConfig, x: Tensor) -> list[Any]:
    """Two equal caches."""
    shape = (len(x), config.n_kv_heads, N_SLOTS, config.head_dim)
    if kind == "static":
        return [StaticCache(config.n_layers, shape, x.dtype, x.device) for _ in range(2)]
    return [StaticInt8Cache(config.n_layers, shape, x.device) for _ in range(2)]


@torch.inference_mode()
def both(
    decoder: Decoder,
    reference: Decoder,
    step: FusedStep,
    x: Tensor,
    kind: str,
    n_steps: int = 2,
    key_error: float = 1e-4,
) -> tuple[Tensor, Tensor]:
    """Prefill rows of several lengths, then steps by the fused step and by the decoder."""
    mine, theirs = caches(kind, decoder.config, x)
    n_rows = len(x)
    lengths = LENGTHS[:n_rows]
    slots = torch.arange(max(lengths), device=x.device).expand(n_rows, -1)
    for cache in (mine, theirs):
        decoder(x[:, : max(lengths)], slots, None, cache)
    positions = torch.tensor(lengths, device=x.device)[:, None]
    found, expected = [], []
    for i in range(n_steps):
        new = torch.stack([x[row, n + i] for row, n in enumerate(lengths)])[:, None]
        found.append(step(new, positions, mine).clone())
        expected.append(reference(new, positions, causal_mask(positions, N_SLOTS), theirs))
        positions = positions + 1
    for a, b in zip(mine.layers, theirs.layers, strict=True):
        # Rounding may put a code of 8 bits on the other side.
        assert (a.keys.float() - b.keys.float()).abs().max() < (
            key_error if kind == "static" else 1.1
        )
    return torch.stack(found), torch.stack(expected).double()


@on_devices
@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
@pytest.mark.parametrize("kind", ["static", "static_int8"])
def test_hidden_states_are_the_decoders(device: str, config: DecoderConfig, kind: str) -> None:
    decoder, x = make(config, device)
    found, expected = both(decoder, decoder, FusedStep(decoder), x, kind)
    assert found.shape == (2, 3, 1, config.width)
    assert_close(found, expected, 5e-6 if kind == "static" else 1e-3)


@on_devices
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_rounded_weights_give_what_a_decoder_of_those_weights_gives(
    device: str, weights: Weights
) -> None:
    decoder, x = make(GROUPED, device)
    step = FusedStep(decoder, weights=weights, group=32)
    assert step.applied == 8
    exact, _ = make(GROUPED, device)
    for block, layer in zip(exact.blocks, step.layers, strict=True):
        for module, weight in (
            (block.attention.qkv, layer.qkv),
            (block.attention.out, layer.out),
            (block.ffn.gate_up, layer.gate_up),
            (block.ffn.down, layer.down),
        ):
            module.weight.data = weight.dequantized()  # type: ignore[union-attr]
    found, expected = both(decoder, exact, step, x, "static", n_steps=1)
    assert_close(found, expected, 5e-4)
    # It was rounded at all.
    assert not exact.blocks[0].ffn.down.weight.equal(decoder.blocks[0].ffn.down.weight)


@on_devices
def test_a_library_makes_the_products_of_many_rows(device: str) -> None:
    decoder, x = make(LIKE_THE_VOICE, device)
    step = FusedStep(decoder, products="library")
    found, expected = both(decoder, decoder, step, x, "static")
    assert_close(found, expected, 5e-6)


@on_devices
@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
@pytest.mark.parametrize("kind", ["static", "static_int8"])
def test_tiles_make_the_products_of_many_rows(
    device: str, config: DecoderConfig, kind: str
) -> None:
    decoder, x = make(config, device, torch.float16)
    step = FusedStep(decoder, products="tiles")
    # The stream and the new keys are rounded to 11 bits on the way, at other places.
    found, expected = both(decoder, decoder, step, x, kind, key_error=0.01)
    assert_close(found, expected, 2e-3)


@on_devices
def test_tiles_are_cut_as_told(device: str) -> None:
    from tts.kernels.products import DotTile

    decoder, x = make(GROUPED, device, torch.float16)
    tile = DotTile(block_m=16, block_n=16, block_k=16, n_splits=2)
    tuning = Tuning(dot_tiles=dict.fromkeys(("qkv", "out", "gate_up", "down"), tile))
    step = FusedStep(decoder, products="tiles", tuning=tuning)
    found, expected = both(decoder, decoder, step, x, "static", key_error=0.01)
    assert_close(found, expected, 2e-3)


@on_devices
@pytest.mark.parametrize(
    ("dtype", "products", "n_rows", "way"),
    [
        (torch.bfloat16, "auto", 8, "rows"),
        (torch.bfloat16, "auto", 9, "tiles"),
        (torch.bfloat16, "auto", 256, "tiles"),
        (torch.bfloat16, "auto", 257, "library"),
        (torch.float16, "auto", 4, "rows"),
        (torch.float16, "auto", 5, "library"),  # gains times the stream could overflow
        (torch.float32, "auto", 4, "rows"),
        (torch.float32, "auto", 5, "library"),
        (torch.float16, "tiles", 2, "tiles"),
        (torch.bfloat16, "library", 1, "library"),
        (torch.bfloat16, "tiles", 257, "our tiles take at most 256 rows"),
        (torch.bfloat16, "rows", 9, "our matrix products take at most 8 rows"),
        (torch.float32, "rows", 5, "our matrix products take at most 4 rows"),
    ],
)
def test_who_multiplies_follows_from_rows_and_precision(
    device: str, dtype: torch.dtype, products: Products, n_rows: int, way: str
) -> None:
    step = FusedStep(Decoder(GROUPED).to(device, dtype), products=products)
    if way in get_args(Products):
        assert step.products_for(n_rows) == way
        return
    with pytest.raises(InapplicableError, match=way):
        step.products_for(n_rows)


@pytest.mark.parametrize(
    ("n_heads", "head_dim", "block", "n_warps"),
    [
        (32, 64, 64, 4),
        (1000, 64, 64, 4),
        (1024, 64, 32, 1),
        (2047, 64, 32, 1),
        (2048, 64, 32, 4),
        (4096, 64, 32, 4),
        (4096, 128, 64, 4),
    ],
)
def test_many_heads_of_64_look_at_few_slots_at_a_time(
    n_heads: int, head_dim: int, block: int, n_warps: int
) -> None:
    pytest.importorskip("triton")
    from tts.kernels.decode_attention import choose_splits

    found = choose_splits(n_heads, 1024, head_dim)
    assert (found.block, found.n_warps) == (block, n_warps)
    if n_heads >= 1024:  # of many slots, 64 at a time by four warps were quicker
        longer = choose_splits(n_heads, 2048, head_dim)
        assert (longer.block, longer.n_warps) == (64, 4)
    assert found.n_splits == (8 if n_heads == 32 else 1)


@on_devices
def test_tiles_of_32_bits_are_refused(device: str) -> None:
    with pytest.raises(InapplicableError, match="our tiles multiply 16 bits, not torch"):
        FusedStep(Decoder(GROUPED).to(device), products="tiles")


@on_devices
def test_more_rows_than_our_products_take_are_refused_where_no_library_helps(device: str) -> None:
    decoder, _ = make(GROUPED, device)
    step = FusedStep(decoder, weights="int8")
    x = torch.zeros(5, 1, 32, device=device)
    cache = caches("static", GROUPED, x)[0]
    with pytest.raises(InapplicableError, match="at most 4 rows"):
        step(x, torch.zeros((5, 1), dtype=torch.int64, device=device), cache)


@on_devices
@pytest.mark.parametrize("products", ["rows", "tiles"])
def test_pages_are_read_and_written(device: str, products: Products) -> None:
    dtype = torch.float32 if products == "rows" else torch.float16
    decoder, x = make(GROUPED, device, dtype)
    table = torch.tensor([[4, 0, 7], [1, 5, 2], [3, 8, 6]], dtype=torch.int32, device=device)
    plain, paged = caches("static", GROUPED, x)
    slots = torch.arange(5, device=x.device).expand(3, -1)
    positions = torch.tensor([[5], [7], [12]], device=device)
    step = FusedStep(decoder, products=products)
    with torch.inference_mode():
        decoder(x[:, :5], slots, None, plain)
        for layer, kept in zip(plain.layers, paged.layers, strict=True):
            for mine, theirs in ((kept, layer.keys), (kept, layer.values)):
                pool = torch.full((9, 2, 8, 16), torch.nan, device=device, dtype=dtype)
                pool[table.long()] = theirs.view(3, 2, 3, 8, 16).transpose(1, 2)
                setattr(mine, "keys" if theirs is layer.keys else "values", pool)
            kept.block_table = table
        expected = step(x[:, 5:6], positions, plain).clone()
        found = step(x[:, 5:6], positions, paged)
    assert_close(found, expected.double(), 1e-6)
    page = paged.layers[1].keys[int(table[2, 1]), :, 4]
    assert page.equal(plain.layers[1].keys[2, :, 12])


@pytest.mark.parametrize(
    ("is_interpreted", "words"), [("1", "another library"), ("0", "do not run on cpu")]
)
def test_quantized_modules_are_refused(
    monkeypatch: pytest.MonkeyPatch, is_interpreted: str, words: str
) -> None:
    pytest.importorskip("triton")  # imported as the others here want it
    monkeypatch.setenv("TRITON_INTERPRET", is_interpreted)

    class Foreign(torch.nn.Parameter):
        pass

    decoder, _ = make(GROUPED, "cpu")
    module = decoder.blocks[0].attention.qkv
    module.weight = Foreign(module.weight.detach())
    with pytest.raises(InapplicableError, match=words):
        FusedStep(decoder)


@on_devices
def test_a_head_that_is_no_power_of_two_is_refused(device: str) -> None:
    decoder = Decoder(DecoderConfig(n_layers=1, width=48, n_heads=2, n_kv_heads=2, ffn_width=64))
    with pytest.raises(InapplicableError, match="head_dim 24"):
        FusedStep(decoder.to(device))


CAPTURED = DecoderConfig(
    n_layers=3, width=256, n_heads=4, n_kv_heads=4, ffn_width=704, qk_norm=True
)


def three_steps(
    decoder: Decoder, x: Tensor, step: FusedStep
) -> tuple[Callable[[], list[Tensor]], list[Tensor]]:
    """What a captured step gives at positions 9 to 11, to be asked again; what the decoder does."""
    cache, other = caches("static", decoder.config, x)
    slots = torch.arange(9, device=x.device).expand(len(x), -1)
    positions = torch.full((len(x), 1), 8, device=x.device)
    new, expected = x[:, 9:10].clone(), []
    with torch.inference_mode():
        for c in (cache, other):
            decoder(x[:, :9], slots, None, c)

        def advance() -> Tensor:
            positions.add_(1)
            return step(new, positions, cache)

        graph = StepGraph(advance, x.device)
        for at in (9, 10, 11):
            position = torch.full((len(x), 1), at, device=x.device)
            expected.append(decoder(new, position, causal_mask(position, N_SLOTS), other))

    @torch.inference_mode()
    def replay() -> list[Tensor]:
        assert advance is not None  # held here, as the graph does not hold what it reads
        positions.fill_(8)
        return [graph().clone() for _ in expected]

    return replay, expected


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", ["native", "int8", "int4"])
@pytest.mark.parametrize("pdl", [False, True])
def test_a_captured_step_in_16_bits_is_near_the_decoder(
    dtype: torch.dtype, weights: Weights, pdl: bool
) -> None:
    if pdl and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("kernels start early from compute capability 9.0")
    decoder, x = make(CAPTURED, "cuda", dtype)
    replay, expected = three_steps(decoder, x, FusedStep(decoder, weights=weights, pdl=pdl))
    tolerance = {"native": 0.02, "int8": 0.05, "int4": 0.6}[weights]
    for mine, theirs in zip(replay(), expected, strict=True):
        assert_close(mine, theirs.double(), tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n_rows", [5, 16, 32, 33, 64, 128, 256])
@pytest.mark.parametrize("pdl", [False, True])
def test_a_captured_step_of_many_rows_is_near_the_decoder(
    dtype: torch.dtype, n_rows: int, pdl: bool
) -> None:
    if pdl and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("kernels start early from compute capability 9.0")
    decoder, x = make(CAPTURED, "cuda", dtype)
    x = torch.randn(n_rows, 12, 256, generator=torch.Generator().manual_seed(1)).to(x)
    replay, expected = three_steps(decoder, x, FusedStep(decoder, products="tiles", pdl=pdl))
    found = replay()
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs.double(), 0.02)
    assert replay()[2].equal(found[2])  # the same step again gives the same bits
