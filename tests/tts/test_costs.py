"""Bytes and operations of a step, worked out by hand for the tiny voice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.tts.conftest import LM
from tts import costs
from tts.embedded.lm import N_SPEECH
from tts.kv_cache import bucket
from tts.profiled import Decoding, Profiled, StepCost
from tts.types import Built, Utterance

# Per layer: qkv 64 x 192, out 64 x 64, gate and up 64 x 256, down 128 x 64.
MATRICES = 2 * (64 * 192 + 64 * 64 + 64 * 256 + 128 * 64)
# Per layer: two norms of 64 and two of a head's 32; at the end one of 64.
NORMS = 2 * (2 * 64 + 2 * 32) + 64
TEXT = "One two."  # with BOS 9 entries


@pytest.fixture
def decode(speak_with: Callable[..., Built]) -> Callable[..., Decoding]:
    def make(n: int = 1, **options: object) -> Decoding:
        voice = speak_with(batch_size=n, **options).synthesizer
        assert isinstance(voice, Profiled)
        return voice.decoding([Utterance(id=str(i), text=TEXT, seed=i) for i in range(n)])

    return make


def test_a_step_costs_its_weights_once_and_its_live_cache(
    decode: Callable[..., Decoding],
) -> None:
    decoding = decode()
    decoding.advance(3)
    cost = decoding.cost()
    assert (cost.n_rows, cost.n_lanes, cost.dtype) == (1, 2, "float32")
    assert cost.n_live == 9 + 3 + 1
    assert cost.weight_bytes == 4 * (MATRICES + NORMS + N_SPEECH * 64)
    assert cost.cache_bytes == 2 * 2 * 2 * 64 * 13 * 4
    head, per_lane = 2 * N_SPEECH * 64, 2 * MATRICES + 4 * 2 * 64 * 13
    assert cost.flops == head + 2 * per_lane
    assert cost.total_bytes == cost.weight_bytes + cost.cache_bytes


def test_rows_share_the_weights(decode: Callable[..., Decoding]) -> None:
    one, three = decode(1).cost(), decode(3).cost()
    assert three.weight_bytes == one.weight_bytes
    assert (three.cache_bytes, three.flops) == (3 * one.cache_bytes, 3 * one.flops)


def test_a_row_costs_no_more_beside_a_longer_one(speak_with: Callable[..., Built]) -> None:
    def cost(batch_size: int, *texts: str) -> StepCost:
        voice = speak_with(batch_size=batch_size, kv_cache="static").synthesizer
        assert isinstance(voice, Profiled)
        spoken = [Utterance(id=str(i), text=text, seed=i) for i, text in enumerate(texts)]
        return voice.decoding(spoken).cost()

    long = "One two three four five."
    alone = [cost(1, TEXT), cost(1, long)]
    both = cost(2, TEXT, long)
    assert both.cache_bytes == sum(one.cache_bytes for one in alone)
    assert both.flops == sum(one.flops for one in alone)
    assert (both.n_rows, both.n_lanes, both.n_live) == (2, 4, alone[1].n_live)


def test_8_bit_products_are_named(decode: Callable[..., Decoding]) -> None:
    assert decode().cost().product == ""
    assert decode(quantization="int8_weight_only").cost().product == ""
    eight = {"quantization": "int8_dynamic", "precision": "bf16", "kv_cache": "static"}
    assert decode(32, **eight).cost().product == "int8"


def test_without_a_cache_every_step_computes_everything(
    decode: Callable[..., Decoding],
) -> None:
    kept, lost = decode().cost(), decode(kv_cache="none").cost()
    assert lost.cache_bytes == 0
    n = lost.n_live
    head, triangle = 2 * N_SPEECH * 64, n * (n + 1) // 2
    assert lost.flops == head + 2 * (2 * MATRICES * n + 4 * 2 * 64 * triangle)
    assert lost.flops > kept.flops


@pytest.mark.parametrize(
    ("layout", "row_bytes", "slots"), [("static", 128, 1024), ("static_int8", 36, 1024)]
)
def test_a_static_cache_is_as_large_as_computed(
    decode: Callable[..., Decoding], layout: str, row_bytes: int, slots: int
) -> None:
    held = decode(kv_cache=layout).footprint()
    assert held.cache_slots == slots
    assert held.cache_bytes_computed == 2 * 2 * 2 * 2 * slots * row_bytes
    # Beside keys and values lies the rows' index, 2 x int64 a layer.
    assert held.cache_bytes_seen == held.cache_bytes_computed + 2 * 2 * 8


def test_a_growing_cache_holds_what_was_said(decode: Callable[..., Decoding]) -> None:
    decoding = decode()
    decoding.advance(5)
    held = decoding.footprint()
    assert held.cache_slots == 9 + 5
    assert held.cache_bytes_computed == held.cache_bytes_seen == 2 * 2 * 2 * 64 * 14 * 4


def test_a_cache_in_buckets_has_room_in_the_one_in_use(decode: Callable[..., Decoding]) -> None:
    held = decode(kv_cache="bucketed").footprint()
    assert held.cache_slots == bucket(10, 1024)
    assert held.cache_bytes_computed == 2 * 2 * 2 * 64 * held.cache_slots * 4
    assert held.cache_bytes_seen >= held.cache_bytes_computed


def test_a_cache_in_pages_is_weighed_as_a_pool(decode: Callable[..., Decoding]) -> None:
    held = decode(kv_cache="paged").footprint()
    assert held.cache_bytes_computed == 2 * 2 * 2 * 64 * held.cache_slots * 4
    page, table = 2 * 2 * 64 * 64 * 4, 2 * (held.cache_slots // 64) * 4
    assert held.cache_bytes_computed < held.cache_bytes_seen
    assert held.cache_bytes_seen <= held.cache_bytes_computed + page + table + 2 * 2 * 8


def test_what_an_object_holds_is_found_once() -> None:
    x, y = torch.zeros(3), torch.ones(4)
    found = list(costs.tensors_of([x, {"again": x, "deep": (y,)}, None, 7]))
    assert sorted(len(t) for t in found) == [3, 4]


def test_no_cache_holds_nothing(decode: Callable[..., Decoding]) -> None:
    held = decode(kv_cache="none").footprint()
    assert (held.cache_slots, held.cache_bytes_computed, held.cache_bytes_seen) == (0, 0, 0)


def test_quantized_weights_are_counted_as_they_lie(decode: Callable[..., Decoding]) -> None:
    plain, eighth = decode().footprint(), decode(quantization="int8_weight_only").footprint()
    n_linear = MATRICES + N_SPEECH * 64
    assert plain.n_parameters == eighth.n_parameters
    saved = plain.weight_bytes_computed - eighth.weight_bytes_computed
    assert saved == 3 * n_linear
    # Seen are the scales, too: one per output row.
    n_scales = N_SPEECH + 2 * (192 + 64 + 256 + 64)
    extra = eighth.weight_bytes_seen - eighth.weight_bytes_computed
    table = 4 * N_SPEECH * 64  # the copy that embeddings are taken from
    buffers = plain.weight_bytes_seen - plain.weight_bytes_computed - table
    assert 4 * n_scales <= extra - table - buffers <= 4 * n_scales + 8 * 16 * n_scales
    assert eighth.weight_bytes_seen < plain.weight_bytes_seen


def test_shared_memory_counts_once() -> None:
    x = torch.zeros(10, 10)
    assert costs.seen_bytes([x, x[:5], x.T]) == 400
    assert costs.read_bytes([x, x[:5]]) == 600


def test_a_batch_is_restarted_and_runs_out_of_room(decode: Callable[..., Decoding]) -> None:
    decoding = decode()
    before = decoding.cost()
    decoding.advance(60)
    with pytest.raises(ValueError, match="restart first"):
        decoding.advance(100)
    decoding.restart()
    assert decoding.cost() == before
    decoding.vocode()


def test_labels_are_seen_and_taken_off(decode: Callable[..., Decoding]) -> None:
    decoding = decode()
    with torch.profiler.profile(acc_events=True) as profiler, decoding.labelled():
        decoding.restart()
        decoding.advance(2)
    counts = {event.key: event.count for event in profiler.key_averages()}
    assert (counts["embed"], counts["head"], counts["sampling"]) == (1, 3, 3)
    with torch.profiler.profile(acc_events=True) as profiler:
        decoding.advance(2)
    assert {"embed", "head", "sampling"}.isdisjoint(e.key for e in profiler.key_averages())


def test_the_shapes_are_the_conftests() -> None:
    assert (LM.n_layers, LM.width, LM.n_heads, LM.ffn_width, LM.qk_norm) == (2, 64, 2, 128, True)
