import pytest
import torch

from tts.decoder import Decoder, DecoderConfig
from tts.errors import OutOfPagesError
from tts.kv_cache import DynamicCache, PagedSlots, StaticCache, StaticInt8Cache, causal_mask
from tts.lanes import LaneCache, newcomers
from tts.paged_cache import SINK, PagedCache

CONFIG = DecoderConfig(n_layers=2, width=32, n_heads=4, n_kv_heads=2, ffn_width=48, qk_norm=True)
CPU = torch.device("cpu")
SHAPE = (3, 2, 32, 8)
LENGTHS = [5, 2, 7]
N_STEPS = 14  # beyond a page of 8, from every length


def paged(n_pages: int | None = None, *, is_raw: bool = False) -> PagedCache:
    return PagedCache(2, SHAPE, torch.float32, CPU, n_pages=n_pages, page_size=8, is_raw=is_raw)


def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(CONFIG)


@pytest.fixture
def entries() -> torch.Tensor:
    return torch.randn((3, 32, CONFIG.width), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def steps(
    model: Decoder, cache: PagedCache | StaticCache | DynamicCache, x: torch.Tensor
) -> torch.Tensor:
    """Decode from a filled cache; the hidden state of each row's newest entry at each step."""
    hidden, positions = [], torch.tensor(LENGTHS)[:, None]
    for step in range(N_STEPS):
        n = max(LENGTHS) + step + 1
        if not isinstance(cache, DynamicCache):
            cache.show(n)
        new = torch.stack([x[row, length + step] for row, length in enumerate(LENGTHS)])
        hidden.append(model(new[:, None], positions, causal_mask(positions, n), cache)[:, 0])
        positions = positions + 1
    return torch.stack(hidden, 1)


@torch.inference_mode()
def prefill(
    model: Decoder, cache: PagedCache | StaticCache | DynamicCache, x: torch.Tensor
) -> None:
    slots = torch.arange(max(LENGTHS)).expand(3, -1)
    model(x[:, : max(LENGTHS)], slots, None, cache)


@pytest.fixture
def reference(entries: torch.Tensor) -> torch.Tensor:
    model, cache = decoder(), DynamicCache(2, is_ragged=True)
    prefill(model, cache, entries)
    return steps(model, cache, entries)


def test_pages_from_anywhere_hold_what_a_growing_cache_holds(
    entries: torch.Tensor, reference: torch.Tensor
) -> None:
    cache = paged()
    cache.assign([1], 16)
    cache.assign([2, 0], 24)
    cache.release([1])
    cache.assign([1], 24)  # the pages it gave back and one far away
    pages = cache.block_table[:, :3].tolist()
    held = [page for lane in pages for page in lane]
    assert len(set(held)) == len(held)
    assert pages[1] != sorted(pages[1]) or pages[1][2] - pages[1][1] > 1
    model = decoder()
    prefill(model, cache, entries)
    assert torch.allclose(steps(model, cache, entries), reference, atol=1e-5)


@pytest.mark.parametrize("kind", ["paged", "static"])
def test_rows_that_are_filled_one_by_one_hold_the_same(
    entries: torch.Tensor, reference: torch.Tensor, kind: str
) -> None:
    """Each with a padding of its own, the last while the others' entries lie there."""
    cache: PagedCache | StaticCache
    if kind == "paged":
        cache = paged()
        cache.assign([0, 1, 2], 24)
    else:
        cache = StaticCache(2, SHAPE, torch.float32, CPU)
    model = decoder()
    with torch.inference_mode():
        for row, padding in ((2, 1), (0, 9), (1, 0)):
            n = LENGTHS[row] + padding
            x = entries[row : row + 1, :n].clone()
            x[:, LENGTHS[row] :] = 7.0
            model(x, torch.arange(n)[None], None, newcomers(cache, torch.tensor([row])))
    assert torch.allclose(steps(model, cache, entries), reference, atol=1e-5)


def test_8_bit_rows_that_are_filled_one_by_one_hold_what_a_batch_holds(
    entries: torch.Tensor,
) -> None:
    model = decoder()
    together, apart = (StaticInt8Cache(2, SHAPE, CPU) for _ in range(2))
    with torch.inference_mode():
        slots = torch.arange(6)
        model(entries[:, :6], slots.expand(3, -1), None, together)
        for rows in ([1], [2, 0]):
            lanes: LaneCache = apart
            view = newcomers(lanes, torch.tensor(rows))
            model(entries[rows, :6], slots.expand(len(rows), -1), None, view)
    assert (together.keys - apart.keys).abs().max() <= 1
    assert torch.allclose(together.value_scales, apart.value_scales, atol=1e-6)


def test_too_few_pages_are_said_and_nothing_is_taken() -> None:
    cache = paged(n_pages=6)
    cache.assign([0], 17)
    assert cache.n_free == 2
    with pytest.raises(OutOfPagesError, match="4 pages of 8 slots are needed and 2 of 5 are free"):
        cache.assign([1, 2], 9)
    assert cache.n_free == 2
    assert (cache.block_table[1:] == SINK).all()
    cache.release([0])
    cache.assign([1, 2], 9)
    assert cache.n_free == 1


def test_pages_come_back_and_the_table_forgets_them() -> None:
    cache = paged()
    n_free = cache.n_free
    for _ in range(5):
        cache.assign([0, 2], 32)
        cache.release([2])
        cache.release([0])
    assert cache.n_free == n_free
    assert (cache.block_table == SINK).all()


@pytest.mark.parametrize("lanes", [[0], [1, 0]])
def test_a_lane_is_given_pages_once(lanes: list[int]) -> None:
    cache = paged()
    cache.assign([0], 8)
    with pytest.raises(ValueError, match="held already"):
        cache.assign(lanes, 8)


def test_a_row_without_pages_writes_where_nobody_reads(entries: torch.Tensor) -> None:
    cache = paged()
    cache.assign([0], 16)
    k = entries[:, :1, :16].view(3, 1, 2, 8).transpose(1, 2)
    before = cache.layers[0].keys.clone()
    cache.layers[0].update(k, k, torch.tensor([[9], [20], [31]]))
    is_changed = (cache.layers[0].keys != before).flatten(1).any(1)
    assert is_changed.nonzero().flatten().tolist() == sorted([SINK, int(cache.block_table[0, 1])])


def test_a_kernel_is_handed_pages_as_they_are(entries: torch.Tensor) -> None:
    cache = paged(is_raw=True)
    cache.assign([0, 1, 2], 16)
    k = entries[:, :1, :16].view(3, 1, 2, 8).transpose(1, 2)
    keys, _ = cache.layers[1].update(k, k, torch.tensor([[0], [8], [15]]))
    assert isinstance(keys, PagedSlots)
    page = keys.block_table[1, 1]
    assert keys.pages[page, :, 0].equal(k[1, :, 0])


@pytest.mark.parametrize(("n_slots", "page_size"), [(30, 8), (24, 12)])
def test_pages_of_an_awkward_size_are_refused(n_slots: int, page_size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        PagedCache(1, (1, 1, n_slots, 4), torch.float32, CPU, page_size=page_size)
