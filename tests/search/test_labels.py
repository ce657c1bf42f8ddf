"""How options, figures and verdicts are written."""

from __future__ import annotations

from typing import Any

import pytest

from search import labels
from tests.search import record_fixtures as fixtures
from tts.options import Options, Sampling


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "fp32 eager dynamic b1"),
        (
            {
                "precision": "bf16",
                "compile": "reduce-overhead",
                "kv_cache": "static",
                "batch_size": 4,
            },
            "bf16 reduce-overhead static b4",
        ),
        ({"quantization": "int8_dynamic", "attention": "flash"}, "fp32 int8_dynamic eager flash"),
        ({"kv_cache": "none"}, "fp32 eager no-cache b1"),
        (
            {"kv_cache": "paged", "batch_size": 4, "batching": "continuous"},
            "fp32 eager paged b4 continuous",
        ),
        ({"sampling": Sampling(cfg_weight=1, top_k=50)}, "fp32 eager dynamic b1 cfg=1 k=50"),
    ],
)
def test_short_options(changes: dict[str, Any], expected: str) -> None:
    assert labels.short_options(Options(**changes).to_mapping()).startswith(expected)


def test_short_options_of_something_odd_does_not_fail() -> None:
    assert labels.short_options({}) == "? eager None b1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.000_012, "12 µs"),
        (0.012_34, "12.3 ms"),
        (0.9996, "1.00 s"),
        (1.5, "1.5 s"),
        (125.0, "2:05"),
        (3725.0, "1:02:05"),
    ],
)
def test_seconds(value: float | None, expected: str) -> None:
    assert labels.seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "-"), (0.4321, "0.43"), (0, "0.0"), (3.0, "3.0"), (9.97, "10"), (19.4, "19"),
     (1637.2, "1,637")],
)  # fmt: skip
def test_rates_keep_two_figures(value: float | None, expected: str) -> None:
    assert labels.column("throughput_samples_per_s").write(value) == expected


def test_size() -> None:
    assert (labels.size(None), labels.size(2**20), labels.size(3 * 2**29)) == (
        "-",
        "1 MiB",
        "1.50 GiB",
    )


def test_verdict_labels() -> None:
    found = [labels.verdict_label(r) for r in fixtures.records()]
    assert found == ["baseline", "PASS", "PASS", "FAIL", "infeasible"]


def test_a_failure_is_the_reason() -> None:
    assert labels.reasons(fixtures.crashed(1)) == [
        "oom while measure: CUDA out of memory: 3 GiB asked"
    ]


def test_why_not_is_one_line_without_doubled_stops() -> None:
    said = fixtures.record(
        1, verdict=fixtures.verdict("FAIL", ("OVRL loses 9 %.", "So\ndoes P808."))
    )
    assert labels.why_not(said) == "OVRL loses 9 %; So does P808"
    assert labels.why_not(fixtures.record(1)) == ""


def test_the_second_hearing_of_the_baseline_is_not_ungated() -> None:
    again = fixtures.record(5, role="confirm", verdict=None)
    assert (labels.verdict_label(again), labels.reasons(again)) == ("not judged", [])


def test_one_line_squeezes_and_cuts() -> None:
    assert labels.one_line("a\n  b\tc") == "a b c"
    assert labels.one_line("x" * 20, 10) == "x" * 9 + "…"


def test_a_metric_without_a_column_is_still_written() -> None:
    assert labels.column("load_s").write(0.5) == "500 ms"
    assert labels.column("gpu_utilization_pct").write(97.5) == "97.5000"
