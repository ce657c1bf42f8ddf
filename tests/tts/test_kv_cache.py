import pytest
import torch

from tts.decoder import Decoder, DecoderConfig
from tts.kv_cache import (
    DynamicCache,
    StaticCache,
    StaticInt8Cache,
    causal_mask,
    quantize_rows,
)

Cache = DynamicCache | StaticCache | StaticInt8Cache
CONFIG = DecoderConfig(n_layers=2, width=32, n_heads=4, n_kv_heads=2, ffn_width=48, qk_norm=True)
CPU = torch.device("cpu")
SHAPE = (3, 2, 24, 8)
LENGTHS = [5, 2, 7]


def make(kind: str) -> Cache:
    if kind == "dynamic":
        return DynamicCache(2, is_ragged=True)
    if kind == "static":
        return StaticCache(2, SHAPE, torch.float32, CPU)
    return StaticInt8Cache(2, SHAPE, CPU)


@torch.inference_mode()
def run(kind: str, x: torch.Tensor) -> torch.Tensor:
    """Prefill rows of several lengths, then five steps; the hidden state of each row's last."""
    torch.manual_seed(0)
    decoder, cache = Decoder(CONFIG), make(kind)
    positions = torch.tensor(LENGTHS)[:, None]
    slots = torch.arange(max(LENGTHS)).expand(3, -1)
    decoder(x[:, : max(LENGTHS)], slots, None, cache)
    hidden = []
    for step in range(5):
        n = max(LENGTHS) + step + 1
        if kind != "dynamic":
            n = 16
            cache.show(n)
        new = torch.stack([x[row, length + step] for row, length in enumerate(LENGTHS)])
        mask = causal_mask(positions, n)
        hidden.append(decoder(new[:, None], positions, mask, cache)[:, 0])
        positions = positions + 1
    return torch.stack(hidden, 1)


@torch.inference_mode()
def recompute(x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG)
    rows = []
    for row, length in enumerate(LENGTHS):
        n = length + 5
        rows.append(decoder(x[row : row + 1, :n], torch.arange(n)[None])[0, length:])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("dynamic", 1e-5), ("static", 1e-5), ("static_int8", 0.05)]
)
def test_a_cache_gives_what_recomputing_gives(kind: str, tolerance: float) -> None:
    x = torch.randn((3, 16, 32), generator=torch.Generator().manual_seed(2))
    assert torch.allclose(run(kind, x), recompute(x), atol=tolerance)


def test_a_static_cache_forgets_its_last_use() -> None:
    x = torch.randn((3, 16, 32), generator=torch.Generator().manual_seed(2))
    decoder, cache = Decoder(CONFIG), make("static")
    slots = torch.arange(7).expand(3, -1)
    with torch.inference_mode():
        decoder(torch.full((3, 20, 32), 9.0), torch.arange(20).expand(3, -1), None, cache)
        decoder(x[:, :7], slots, None, cache)
        position = torch.full((3, 1), 7)
        dirty = decoder(x[:, 7:8], position, causal_mask(position, 24), cache)
        clean_cache = make("static")
        decoder(x[:, :7], slots, None, clean_cache)
        clean = decoder(x[:, 7:8], position, causal_mask(position, 24), clean_cache)
    assert dirty.equal(clean)


def test_int8_rows_are_off_by_at_most_half_a_scale() -> None:
    x = torch.randn(4, 6, 10, 16)
    codes, scales = quantize_rows(x)
    assert codes.dtype == torch.int8
    assert ((codes * scales - x).abs() <= scales / 2 + 1e-6).all()


def test_int8_takes_zeros() -> None:
    codes, scales = quantize_rows(torch.zeros(1, 1, 1, 8))
    assert (codes * scales).abs().max() == 0
