"""All layers in one launch: on a GPU it runs, elsewhere it is compiled, or refused."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tts.test_fused import make
from tests.tts.test_kernels import assert_close
from tests.tts.test_packed_layers import DEEPER, SIXES, T3_LAYERS, VOICE, WIDER, shape_of
from tts.compilation import StepGraph
from tts.decoder import Decoder, DecoderConfig
from tts.errors import InapplicableError
from tts.fused import FusedStep, Weights
from tts.fused_layers import AllLayers
from tts.fused_weights import read
from tts.kernels.layers import NoKernelError, compiled
from tts.kernels.packed_layers import HEAD, Shape
from tts.kv_cache import StaticCache, StaticInt8Cache, causal_mask


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "bits", "n_rows"), [(T3_LAYERS, 16, 2), (VOICE, 8, 1), (SIXES, 4, 2)]
)
def test_it_compiles_and_is_kept(
    config: DecoderConfig, bits: int, n_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    triton = pytest.importorskip("triton")

    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    image = compiled(shape_of(config, bits, n_rows))
    assert b"layers" in image
    monkeypatch.setattr("tts.kernels.layers._compile", lambda *_: pytest.fail("was kept"))
    assert compiled(shape_of(config, bits, n_rows)) == image


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> tuple[AllLayers, StaticCache]:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    decoder, _ = make(VOICE, "cpu", torch.bfloat16)
    layers = [read(block, "native", None) for block in decoder.blocks]  # type: ignore[arg-type]
    step = AllLayers(VOICE, layers, decoder.norm.weight, torch.bfloat16, torch.device("cpu"))
    return step, StaticCache(3, (2, 4, 64, HEAD), torch.bfloat16, torch.device("cpu"))


def test_a_cpu_is_refused(on_cpu: tuple[AllLayers, StaticCache]) -> None:
    step, cache = on_cpu
    assert "does not run on cpu" in str(step.why_not(2, cache.layers))


def test_a_shape_without_a_kernel_is_refused_once(
    on_cpu: tuple[AllLayers, StaticCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, cache = on_cpu
    step._never = None  # as on a GPU
    asked = []

    def kernel(shape: Shape, device: torch.device) -> None:
        asked.append(shape.n_rows)
        raise NoKernelError("there is room for 7")

    monkeypatch.setattr("tts.kernels.layers.kernel", kernel)
    assert step.why_not(2, cache.layers) == step.why_not(2, cache.layers) == "there is room for 7"
    assert step.why_not(1, cache.layers) == "there is room for 7"
    assert asked == [2, 1]


def test_a_failure_of_cuda_is_no_reason_for_another_way(
    on_cpu: tuple[AllLayers, StaticCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    step, cache = on_cpu
    step._never = None

    def kernel(shape: Shape, device: torch.device) -> None:
        raise RuntimeError("CUDA: an illegal address")

    monkeypatch.setattr("tts.kernels.layers.kernel", kernel)
    with pytest.raises(RuntimeError, match="illegal address"):
        step.why_not(2, cache.layers)


# --- on a GPU --------------------------------------------------------------------------------


def on_hopper(test: Callable[..., None]) -> Callable[..., None]:
    has_it = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
    skipped = pytest.mark.skipif(not has_it, reason="needs compute capability 9.0")
    return pytest.mark.gpu(skipped(test))  # type: ignore[no-any-return]


N_SLOTS = 3072  # a warp's loop over its slots turns more than once behind 1,152


def both(config: DecoderConfig, weights: Weights) -> tuple[FusedStep, Decoder]:
    """A step, and the float32 decoder of the same weights."""
    decoder, _ = make(config, "cuda", torch.bfloat16)
    step = FusedStep(decoder, weights=weights, products="layers")
    exact, _ = make(config, "cuda")
    exact.load_state_dict({k: v.float() for k, v in decoder.state_dict().items()})
    if weights != "native":
        for block, layer in zip(exact.blocks, step.layers, strict=True):
            for module, weight in (
                (block.attention.qkv, layer.qkv), (block.attention.out, layer.out),
                (block.ffn.gate_up, layer.gate_up), (block.ffn.down, layer.down),
            ):  # fmt: skip
                module.weight.data = weight.dequantized()  # type: ignore[union-attr]
    return step, exact


def filled(config: DecoderConfig, n_rows: int, n_live: int) -> tuple[StaticCache, StaticCache]:
    """Equal caches, in bfloat16 and float32; nobody may look behind the live slots."""
    device = torch.device("cuda")
    shape = (n_rows, config.n_kv_heads, N_SLOTS, HEAD)
    mine = StaticCache(config.n_layers, shape, torch.bfloat16, device)
    theirs = StaticCache(config.n_layers, shape, torch.float32, device)
    generator = torch.Generator("cuda").manual_seed(1)
    for kept, other in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
        kept.normal_(generator=generator)
        kept[..., n_live:, :] = torch.nan
        other.copy_(kept.nan_to_num())
    return mine, theirs


@on_hopper
@pytest.mark.parametrize("weights", ["native", "int8", "int4"])
@pytest.mark.parametrize(
    "config",
    [VOICE, WIDER, DEEPER, SIXES, T3_LAYERS],
    ids=["voice", "wider", "deeper", "sixes", "t3"],
)
@pytest.mark.parametrize("n_rows", [1, 2])
@torch.inference_mode()
def test_hidden_states_are_the_decoders(
    config: DecoderConfig, weights: Weights, n_rows: int
) -> None:
    if config is VOICE and weights == "int4":
        pytest.skip("4 bits do not fit the voice")
    step, exact = both(config, weights)
    torch.manual_seed(2)
    for context in (0, 1, 4, 127, 128, 300, 383, 384, 767, 768, 1000, 1153, 1537, 2500):
        mine, theirs = filled(config, n_rows, context + n_rows)
        positions = torch.arange(context, context + n_rows, device="cuda")[:, None]
        for _ in range(3):
            x = torch.randn(n_rows, 1, config.width, device="cuda").bfloat16()
            found = step(x, positions, mine).clone()
            expected = exact(x.float(), positions, causal_mask(positions, N_SLOTS), theirs)
            assert_close(found, expected.double(), 0.01)
            positions = positions + 1
        written = slice(context, context + 3)
        for a, b in ((mine.keys, theirs.keys), (mine.values, theirs.values)):
            assert_close(a[:, 0, :, written], b[:, 0, :, written].double(), 0.02)


@on_hopper
@pytest.mark.parametrize("weights", ["native", "int8", "int4"])
@torch.inference_mode()
def test_few_large_numbers_do_not_drown_the_others(weights: Weights) -> None:
    """As codes' inputs share scales, the error is of the size of the largest that shares one."""
    step, exact = both(T3_LAYERS, weights)
    mine, theirs = filled(T3_LAYERS, 2, 40)
    x = torch.randn(2, 1, T3_LAYERS.width, device="cuda").bfloat16()
    x[..., [5, 700]] = torch.tensor([300.0, -2000.0], device="cuda").bfloat16()
    positions = torch.tensor([[30], [38]], device="cuda")
    found = step(x, positions, mine).clone()
    expected = exact(x.float(), positions, causal_mask(positions, N_SLOTS), theirs)
    assert_close(found, expected.double(), 0.01)
    # Without the two, whose size would hide what became of the others.
    kept = torch.ones(T3_LAYERS.width, dtype=torch.bool, device="cuda")
    kept[[5, 700]] = False
    assert_close(found[..., kept], expected[..., kept].double(), 0.02)


@on_hopper
@pytest.mark.parametrize("weights", ["native", "int8", "int4"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@torch.inference_mode()
def test_what_is_no_number_stays_none_in_its_row(weights: Weights, bad: float) -> None:
    step, _ = both(WIDER, weights)
    cache, _ = filled(WIDER, 2, 40)
    x = torch.randn(2, 1, WIDER.width, device="cuda").bfloat16()
    positions = torch.full((2, 1), 30, device="cuda")
    expected = step(x, positions, cache).clone()
    x[1, 0, 77] = bad
    found = step(x, positions, cache)
    assert found[1].isnan().all()
    assert found[0].equal(expected[0])


@on_hopper
@pytest.mark.parametrize("weights", ["native", "int8"])
@pytest.mark.parametrize("config", [VOICE, WIDER], ids=["odd", "even"])  # numbers of layers
@torch.inference_mode()
def test_captured_steps_give_the_same_bits_again(config: DecoderConfig, weights: Weights) -> None:
    step, _ = both(config, weights)
    cache, _ = filled(config, 2, 60)
    positions = torch.full((2, 1), 59, device="cuda")
    x = torch.randn(2, 1, config.width, device="cuda").bfloat16()

    def advance() -> Tensor:
        positions.add_(1)
        return step(x, positions, cache)

    graph = StepGraph(advance, torch.device("cuda"))

    def replay() -> list[Tensor]:
        positions.fill_(59)
        return [graph().clone() for _ in range(201)]  # an odd number: stamps are others then

    first, second = replay(), replay()
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    assert not first[0].equal(first[1])


@on_hopper
@torch.inference_mode()
def test_one_row_and_two_take_turns() -> None:
    step, _ = both(VOICE, "native")
    (two, _), (one, _) = filled(VOICE, 2, 30), filled(VOICE, 1, 30)
    x = torch.randn(2, 1, VOICE.width, device="cuda").bfloat16()
    positions = torch.full((2, 1), 30, device="cuda")
    expected = step(x, positions, two).clone(), step(x[:1], positions[:1], one).clone()
    for _ in range(3):
        assert step(x, positions, two).equal(expected[0])
        assert step(x[:1], positions[:1], one).equal(expected[1])


@on_hopper
@torch.inference_mode()
def test_other_caches_and_numbers_are_refused() -> None:
    device = torch.device("cuda")
    decoder, _ = make(VOICE, "cuda", torch.bfloat16)
    step = FusedStep(decoder, products="layers")
    x, positions = torch.zeros(2, 1, 256, device="cuda").bfloat16(), torch.zeros(2, 1).long().cuda()
    shape = (2, 4, 64, HEAD)
    caches: list[Any] = [
        StaticInt8Cache(3, shape, device),
        SimpleNamespace(
            layers=[
                SimpleNamespace(keys=torch.zeros(shape, device="cuda").bfloat16()[:, :, i:],
                                values=torch.zeros(shape, device="cuda").bfloat16()[:, :, i:])
                for i in (0, 1, 0)
            ]
        ),
    ]  # fmt: skip
    spread = torch.zeros((2, 4, 64, 2 * HEAD), device="cuda").bfloat16()[..., :HEAD]
    caches.append(SimpleNamespace(layers=[SimpleNamespace(keys=spread, values=spread)] * 3))
    for cache in caches:
        with pytest.raises(InapplicableError, match="reads a cache"):
            step(x, positions, cache)
    wide, _ = make(VOICE, "cuda", torch.float16)
    kept = StaticCache(3, shape, torch.float16, device)
    with pytest.raises(InapplicableError, match="takes bfloat16"):
        FusedStep(wide, products="layers")(x.half(), positions, kept)
    with pytest.raises(InapplicableError, match="3 rows"):
        step(torch.zeros(3, 1, 256, device="cuda").bfloat16(), positions, caches[0])
