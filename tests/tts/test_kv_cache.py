import pytest
import torch

from tts import kv_cache
from tts.decoder import Decoder, DecoderConfig
from tts.kv_cache import (
    BucketedCache,
    DynamicCache,
    StaticCache,
    StaticInt8Cache,
    bucket,
    causal_mask,
    quantize_rows,
    read_int8,
)

Cache = DynamicCache | StaticCache | BucketedCache | StaticInt8Cache
CONFIG = DecoderConfig(n_layers=2, width=32, n_heads=4, n_kv_heads=2, ffn_width=48, qk_norm=True)
CPU = torch.device("cpu")
SHAPE = (3, 2, 24, 8)
LENGTHS = [5, 2, 7]


def make(kind: str) -> Cache:
    if kind == "dynamic":
        return DynamicCache(2, is_ragged=True)
    if kind == "static":
        return StaticCache(2, SHAPE, torch.float32, CPU)
    if kind.startswith("bucketed"):
        keeps = kind == "bucketed, kept"
        return BucketedCache(2, SHAPE, torch.float32, CPU, keeps_buckets=keeps)
    return StaticInt8Cache(2, SHAPE, CPU)


@torch.inference_mode()
def run(kind: str, x: torch.Tensor) -> torch.Tensor:
    """Prefill rows of several lengths, then five steps; the hidden state of each row's last."""
    torch.manual_seed(0)
    decoder, cache = Decoder(CONFIG), make(kind)
    positions = torch.tensor(LENGTHS)[:, None]
    slots = torch.arange(max(LENGTHS)).expand(3, -1)
    if isinstance(cache, BucketedCache):
        cache.show(max(LENGTHS))
    decoder(x[:, : max(LENGTHS)], slots, None, cache)
    hidden = []
    for step in range(5):
        n = max(LENGTHS) + step + 1
        if isinstance(cache, BucketedCache):
            cache.show(n)
            n = cache.n_live
        elif not isinstance(cache, DynamicCache):
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


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows' seven to twelve positions cross the border between two buckets."""
    monkeypatch.setattr(kv_cache, "FIRST_BUCKET", 8)


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("dynamic", 1e-5),
        ("static", 1e-5),
        ("bucketed", 1e-5),
        ("bucketed, kept", 1e-5),
        ("static_int8", 0.05),
    ],
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


def test_buckets_are_powers_of_two_within_the_room() -> None:
    assert [bucket(n, 48) for n in (1, 8, 9, 16, 17, 32, 33, 48)] == [8, 8, 16, 16, 32, 32, 48, 48]


def filled(keeps_buckets: bool) -> BucketedCache:
    """A cache that has grown from 8 slots to 16, with a one in every slot of the small bucket."""
    cache = BucketedCache(2, SHAPE, torch.float32, CPU, keeps_buckets=keeps_buckets)
    cache.show(8)
    for layer in cache.layers:
        layer.keys.fill_(1)
        layer.values.fill_(2)
    cache.show(9)
    return cache


def test_growing_takes_along_what_is_there_and_frees_what_it_leaves() -> None:
    cache = filled(keeps_buckets=False)
    assert list(cache.buckets) == [16]
    for layer in cache.layers:
        assert layer.keys.shape == (3, 2, 16, 8)
        assert layer.keys[:, :, :8].eq(1).all()
        assert layer.values[:, :, :8].eq(2).all()
        assert layer.keys[:, :, 8:].eq(0).all()
    cache.show(3)
    assert list(cache.buckets) == [8]


def test_kept_buckets_keep_their_addresses() -> None:
    cache = filled(keeps_buckets=True)
    addresses = {n: [k.keys.data_ptr() for k in b.layers] for n, b in cache.buckets.items()}
    assert list(addresses) == [8, 16]
    for n_live in (3, 12, 20, 8, 9):
        cache.show(n_live)
        if n_live <= 16:
            now = [layer.keys.data_ptr() for layer in cache.layers]
            assert now == addresses[cache.n_live]


def test_a_kernel_that_reads_8_bits_gets_what_the_others_get() -> None:
    k, v = torch.randn(2, 3, 2, 1, 8)
    positions = torch.tensor([[4], [0], [2]])
    plain, raw = (StaticInt8Cache(1, SHAPE, CPU, is_raw=is_raw) for is_raw in (False, True))
    expected = plain.layers[0].update(k, v, positions)
    found = raw.layers[0].update(k, v, positions)
    for slots, numbers in zip(found, expected, strict=True):
        assert slots.codes.dtype == torch.int8
        assert read_int8(slots, torch.float32).equal(numbers)
