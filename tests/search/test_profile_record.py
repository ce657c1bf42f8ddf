"""What a profile keeps: stages that add up, figures that are known or explained, plain JSON."""

from __future__ import annotations

import json

import pytest

from evaluation.timing import Measurement
from search.config import METRICS
from search.profiling import facts
from search.profiling.record import Figure, figure_of, stages_of, unknown
from tests.search import profile_fixtures as fixtures


def test_stages_add_up_to_the_calls() -> None:
    latency = Measurement(name="latency_s", unit="s", samples=(1.0, 2.0))
    told = [{"prefill_s": 0.2, "decode_s": 0.7}, {"prefill_s": 0.4, "decode_s": 1.5}]
    stages = stages_of(latency, told)
    assert [s.name for s in stages] == ["prefill", "decode", "other"]
    assert [s.share for s in stages] == pytest.approx([0.2, 2.2 / 3, 0.2 / 3])
    assert sum(s.share for s in stages) == pytest.approx(1)
    assert stages[2].seconds.samples == pytest.approx((0.1, 0.1))


def test_shares_sum_to_one_though_clocks_disagree() -> None:
    """Stages that add up to more than the call leave nothing for the rest, not less than that."""
    latency = Measurement(name="latency_s", unit="s", samples=(1.0,))
    stages = stages_of(latency, [{"prefill_s": 0.4, "decode_s": 0.7}])
    assert sum(s.share for s in stages) == pytest.approx(1)
    assert stages[-1].share == 0


def test_a_stage_that_only_some_calls_have_is_zero_in_the_others() -> None:
    latency = Measurement(name="latency_s", unit="s", samples=(1.0, 1.0))
    stages = stages_of(latency, [{"a_s": 1.0}, {"b_s": 0.5}])
    assert {s.name: s.seconds.samples for s in stages} == {
        "a": (1.0, 0.0), "b": (0.0, 0.5), "other": (0.0, 0.5),
    }  # fmt: skip


def test_a_model_that_tells_nothing_has_no_stages() -> None:
    latency = Measurement(name="latency_s", unit="s", samples=(1.0, 2.0))
    assert stages_of(latency, [{}, {}]) == ()


@pytest.mark.parametrize(
    ("value", "why"), [(None, ""), (1.0, "it is known"), (float("nan"), ""), (float("inf"), "")]
)
def test_a_figure_is_known_or_explained(value: float | None, why: str) -> None:
    with pytest.raises(ValueError, match="figure"):
        Figure(value=value, unknown=why)


def test_a_measurement_becomes_a_median_with_its_ends() -> None:
    found = figure_of(Measurement(name="x", unit="s", samples=(3.0, 1.0, 2.0)))
    assert (found.value, found.low, found.high, found.unit) == (2.0, 1.0, 3.0, "s")


def test_json_is_plain_and_says_why_a_figure_is_missing() -> None:
    values = json.loads(fixtures.profile().to_json())
    assert set(values) == {
        "schema", "title", "model", "device", "options", "environment", "texts", "latency",
        "stages", "parts", "figures", "batches", "batches_end", "bottlenecks", "applied",
        "observed", "notes",
    }  # fmt: skip
    assert values["schema"] == 1
    assert values["figures"]["step.launches"] == {"value": None, "unknown": "not on a CPU"}
    assert values["figures"]["step.time"] == {
        "value": 0.0101, "unit": "s", "low": 0.01, "high": 0.011,
    }  # fmt: skip
    assert values["parts"][1]["share"]["value"] is None
    assert sum(stage["share"] for stage in values["stages"]) == pytest.approx(1)
    assert values["stages"][2]["median_s"] == pytest.approx(0.6)
    assert values["batches"][1]["samples_per_s"] == {"value": 1.5, "unit": "1/s"}
    assert values["bottlenecks"][0]["advice"] == ["a & b"]


def test_a_zero_is_kept_as_one() -> None:
    found = fixtures.profile(figures={"latency.p50": Figure(value=0.0, unit="s", low=0.0)})
    assert found.to_mapping()["figures"]["latency.p50"] == {"value": 0.0, "unit": "s", "low": 0.0}


def test_a_tracker_is_told_what_is_known() -> None:
    profile = fixtures.profile()
    metrics = {(key, step): value for key, value, step in facts.metrics(profile)}
    assert metrics["step.roofline_share", 0] == 0.25
    assert metrics["step.time_s", 0] == 0.0101
    assert metrics["memory.weights_seen_bytes", 0] == 81.4 * 2**20
    # As sweeps call them, so that both can be looked at together.
    assert metrics["latency_p50_s", 0] == 1.0
    assert metrics["rtf", 0] == 0.33
    assert {facts._AS_SWEEPS[k] for k in facts._AS_SWEEPS} <= set(METRICS)
    assert not any(key == "step.launches" for key, _ in metrics)
    assert metrics["stage/decode_share", 0] == pytest.approx(0.6)
    assert metrics["batch/samples_per_s", 2] == 1.5
    assert metrics["part/sampling_share", 0] == 0.05
    assert facts.params(profile)["kv_cache"] == "dynamic"
    assert facts.tags(profile)["bottleneck.1"] == "Decoding takes 60%. a & b"


def test_a_stage_of_any_name_makes_a_key() -> None:
    stages = stages_of(fixtures.LATENCY, [{"mel→wav (%)_s": 0.5}] * 2)
    keys = {key for key, _, _ in facts.metrics(fixtures.profile(stages=stages))}
    assert "stage/mel_wav ____share" in keys


def test_unknown_needs_a_reason() -> None:
    assert unknown("nobody asked", "W") == Figure(value=None, unit="W", unknown="nobody asked")
