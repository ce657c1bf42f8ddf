"""Which words are chosen: by share, and by what was measured about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.profiling.bottlenecks import name_bottlenecks
from search.profiling.record import Part, unknown
from tests.search.profile_fixtures import CPU, GPU, findings, row, share
from tts.options import Options

LAUNCHES = {"step.launches": 480.0, "step.kernels": 520.0, "step.gpu_busy": 0.12}
NEAR = {"step.roofline": 0.8, "step.weights": 4e7, "step.cache": 2e6, "step.gpu_busy": 0.95}


def parts(head: float = 0.1, sampling: float = 0.3) -> tuple[Part, ...]:
    return tuple(
        Part(name=name, stage="decode", share=share(value), how="")
        for name, value in (("head", head), ("sampling", sampling))
    )


def test_the_three_largest_are_named_by_share() -> None:
    found = name_bottlenecks(findings())
    assert [b.name for b in found] == ["decode", "vocoder", "other"]
    assert [b.share for b in found] == pytest.approx([0.6, 0.2, 0.1])
    assert found[0].words.startswith("Decoding takes 60% of the call (60 tokens, 10 ms a step).")
    assert found[1].words == "The vocoder takes 20% of the call (200 ms for 3.0 s of audio)."


def test_another_order_of_shares_is_another_order_of_words() -> None:
    told = {"text_s": 0.5, "prefill_s": 0.3, "decode_s": 0.15, "vocoder_s": 0.04}
    found = name_bottlenecks(findings(told=told))
    assert [b.name for b in found] == ["text", "prefill", "decode"]
    assert "as long as 30.0 decode steps" in found[1].words


def test_decoding_counts_as_its_parts_where_they_are_known() -> None:
    found = name_bottlenecks(findings(parts=parts(0.05)))
    assert [(b.name, round(b.share, 3)) for b in found] == [
        ("sampling", 0.3), ("layers", 0.25), ("vocoder", 0.2),
    ]  # fmt: skip
    lost = (parts()[0], Part(name="sampling", stage="decode", share=unknown("hidden"), how=""))
    assert name_bottlenecks(findings(parts=lost))[0].name == "decode"


def test_pieces_never_add_up_to_more_than_the_call() -> None:
    for found in (findings(), findings(parts=parts()), findings(parts=parts(0.4, 0.4))):
        named = name_bottlenecks(found)
        assert len(named) == 3
        assert all(0 < b.share <= 1 for b in named)
    assert sum(b.share for b in name_bottlenecks(findings(parts=parts()))) <= 1


def test_what_hardly_takes_time_is_no_bottleneck() -> None:
    told = {"text_s": 0.001, "decode_s": 0.998}
    assert [b.name for b in name_bottlenecks(findings(told=told))] == ["decode"]


def test_a_gpu_that_waits_is_given_graphs() -> None:
    (first, *_) = name_bottlenecks(findings(GPU, values=LAUNCHES))
    assert "The GPU works 12% of a step" in first.words
    assert "480 launches of 520 kernels" in first.words
    graph, fused = first.advice
    assert graph.startswith("compile=reduce-overhead with kv_cache=static (")
    assert fused.startswith("compile=fused with kv_cache=static (")


def test_a_graph_is_not_advised_to_one() -> None:
    options = Options(compile="reduce-overhead", kv_cache="static")
    (first, *_) = name_bottlenecks(findings(GPU, values=LAUNCHES, options=options))
    assert first.advice == ()
    far = {"step.gpu_busy": 0.9, "step.roofline": 0.17}
    (first, *_) = name_bottlenecks(findings(GPU, values=far, options=options))
    assert "runs at 17% of the roofline (what bounds it is the memory), far from" in first.words
    assert first.advice == ("compile=fused (fewer, wider kernels)",)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (Options(), "precision=bf16 (38 MiB of weights are read a step: half of it)"),
        (
            Options(precision="bf16"),
            "quantization=int8_weight_only (38 MiB of weights are read a step: half of it)",
        ),
        (Options(precision="bf16", quantization="int8_weight_only"), None),
    ],
)
def test_near_the_floor_only_fewer_bytes_help(options: Options, advice: str | None) -> None:
    (first, *_) = name_bottlenecks(findings(GPU, values=NEAR, options=options))
    assert "runs at 80% of the roofline" in first.words
    assert "near its floor" in first.words
    assert first.advice == ((advice,) if advice else ())


def test_a_large_cache_is_what_is_read() -> None:
    values = {**NEAR, "step.cache": 4e8}
    (first, *_) = name_bottlenecks(findings(GPU, values=values))
    assert first.advice == ("kv_cache=static_int8 (381 MiB of keys and values are read a step)",)


def test_guidance_is_named_where_arithmetic_bounds() -> None:
    values = {**NEAR, "step.rows": 128.0, "step.lanes": 256.0}
    (first, *_) = name_bottlenecks(findings(GPU, values=values, bound="arithmetic"))
    assert first.advice[0].startswith("cfg_weight=1 halves the rows")
    alone = {**values, "step.lanes": 128.0}
    (first, *_) = name_bottlenecks(findings(GPU, values=alone, bound="arithmetic"))
    assert first.advice == ()


def test_a_cpu_is_advised_by_what_its_operators_do() -> None:
    small = {"step.products": 0.4, "step.operators": 700.0}
    (first, *_) = name_bottlenecks(findings(CPU, values=small))
    assert "40% of it are matrix products, in 700 operator calls" in first.words
    assert first.advice == ("compile=default with kv_cache=static (fewer, longer operators)",)
    large = {**small, "step.products": 0.8}
    (first, *_) = name_bottlenecks(findings(CPU, values=large))
    assert first.advice == ("precision=bf16 (this CPU multiplies it by itself)",)


def test_weights_in_a_cache_are_no_reason_to_move_less() -> None:
    (first, *_) = name_bottlenecks(findings(CPU, values={"step.roofline": 1.4}))
    assert "reads faster than the memory is copied" in first.words


@pytest.mark.parametrize("bound", ["memory", "arithmetic"])
def test_above_the_roofline_no_fewer_bytes_are_advised(bound: str) -> None:
    values = {**NEAR, "step.roofline": 1.4}
    (first, *_) = name_bottlenecks(findings(GPU, values=values, bound=bound))
    assert first.advice == ()
    assert ("stay in a cache" in first.words) == (bound == "memory")


def test_a_disturbed_run_diagnoses_nothing() -> None:
    values = {"step.products": 0.4, "step.operators": 700.0, "cpu.cores_busy": 0.13}
    (first, *_) = name_bottlenecks(findings(CPU, values=values))
    assert "only 13% of a core" in first.words
    assert "roofline" not in first.words
    assert first.advice == ()
    (first, *_) = name_bottlenecks(findings(GPU, values={**NEAR, "cpu.cores_busy": 0.13}))
    assert "of a core" not in first.words


def test_tokens_of_a_batch_are_not_its_steps() -> None:
    (first, *_) = name_bottlenecks(findings(options=Options(batch_size=8)))
    assert "(60 tokens, 10 ms a step of all 8 sentences)" in first.words


def test_nothing_is_advised_that_was_not_measured() -> None:
    """A model that does not open up: its stages are known, its step is not."""
    found = findings(GPU)
    figures = {k: v for k, v in found.figures.items() if not k.startswith("step.")}
    (first, *_) = name_bottlenecks(findings(GPU, figures=figures))
    assert first.words == "Decoding takes 60% of the call. What limits a step is not known."
    assert first.advice == ()


def test_a_batch_size_is_advised_by_its_measured_gain() -> None:
    found = findings(GPU, values=LAUNCHES, batches=(row(1, 2.0), row(4, 6.0), row(8, 5.0)))
    advice = name_bottlenecks(found)[0].advice[-1]
    assert advice == (
        "batch_size=4 for throughput: 3.0 times the sentences per second, each after 1.3 times "
        "the latency (measured)"
    )
    flat = findings(GPU, values=LAUNCHES, batches=(row(1, 2.0), row(4, 2.2)))
    assert not any("batch_size" in item for item in name_bottlenecks(flat)[0].advice)


def test_a_gain_that_a_spread_explains_is_none() -> None:
    one, four = row(1, 2.0), row(4, 6.0)
    wide = replace(four, latency=replace(four.latency, low=0.5, high=1.6))
    found = findings(GPU, values=LAUNCHES, batches=(one, wide))
    assert not any("batch_size" in item for item in name_bottlenecks(found)[0].advice)


def test_more_in_less_time_is_another_machine() -> None:
    found = findings(GPU, values=LAUNCHES, batches=(row(1, 0.1), row(2, 0.4)))
    assert not any("batch_size" in item for item in name_bottlenecks(found)[0].advice)


def test_sampling_is_told_by_the_token() -> None:
    (first, *_) = name_bottlenecks(findings(parts=parts()))
    assert first.words.startswith("Sampling takes 30% of the call (5 ms a token): drawing")
    assert first.advice == ()


def test_streaming_is_advised_by_its_measured_first_chunk() -> None:
    told = {"decode_s": 0.3, "vocoder_s": 0.6}
    (first, *_) = name_bottlenecks(findings(told=told, values={"ttfa": 0.2}))
    assert first.advice[0].startswith("stream: the first sound is there after 200 ms instead of 1")
    several = findings(told=told, values={"ttfa": 0.2}, options=Options(batch_size=8))
    assert name_bottlenecks(several)[0].advice == ()
    (first, *_) = name_bottlenecks(findings(told=told, values={"ttfa": 0.9}))
    assert first.advice == ()


def test_a_stage_of_a_models_own_is_named_as_it_calls_it() -> None:
    (first, *_) = name_bottlenecks(findings(told={"flow_matching_s": 0.9}))
    assert first.words == "The stage 'flow_matching' of this model takes 90% of the call (900 ms)."
