"""What a tracker is given: finite figures, safe keys, texts within its limits."""

from __future__ import annotations

import re

from search import facts
from tests.search import record_fixtures as fixtures


def test_samples_become_steps() -> None:
    found = [m for m in facts.metrics(fixtures.record()) if m[0] == "samples/latency_s"]
    assert [(value, step) for _, value, step in found] == [(0.1, 0), (0.1 * 1.1, 1), (0.1 * 0.9, 2)]


def test_what_is_not_finite_is_left_out() -> None:
    odd = fixtures.record(metrics={"wer": float("nan"), "rtf": float("inf"), "load_s": 1.0})
    keys = {key for key, _, _ in facts.metrics(odd)}
    assert "load_s" in keys
    assert not keys & {"wer", "rtf"}


def test_keys_hold_only_what_a_tracker_takes() -> None:
    odd = fixtures.record(
        measurements={"latency": {"unit": "µs/step", "samples": [1.0]}},
        observed={"kernel(é)": "flash"},
        phases={"warm-up": 1.0},
    )
    keys = [key for key, _, _ in facts.metrics(odd)] + list(facts.tags(odd))
    assert all(re.fullmatch(r"[A-Za-z0-9_\-. /]+", key) for key in keys)


def test_long_reasons_are_cut_to_the_limit() -> None:
    record = fixtures.record(verdict=fixtures.verdict("FAIL", ("x" * 9000,)))
    assert len(facts.tags(record)["reasons"]) == 8000


def test_what_could_not_win_is_tagged_so() -> None:
    tags = facts.tags(fixtures.surpassed(5))
    assert tags["verdict"] == "surpassed"
    assert tags["reasons"] == "not heard: trial 2 is at least as good in latency_p50_s"
    assert {"summary", "mosgate.n", "mosgate.provenance"}.isdisjoint(tags)
    keys = {key for key, _, _ in facts.metrics(fixtures.surpassed(5))}
    assert {"latency_p50_s", "phase/measure_s"} <= keys
    assert not [key for key in keys if key.startswith("gate/")]
    assert facts.tags(fixtures.surpassed_when_heard(5))["reasons"].startswith(
        "stopped after 6 utterances: trial 2"
    )
    figures = facts.sweep_metrics(fixtures.result((*fixtures.records(), fixtures.surpassed(5))))
    counted = {"accepted", "rejected", "surpassed"}
    assert {key: v for key, v, _ in figures if key in counted} == {
        "accepted": 2.0, "rejected": 2.0, "surpassed": 1.0,
    }  # fmt: skip


def test_a_verdict_is_tagged_with_what_it_rests_on() -> None:
    signed = {**fixtures.utterance("a"), "provenance": "0123456789abcdef"}
    judged = {**fixtures.verdict(), "sigma_pct": 4.25, "power": 0.987}
    tags = facts.tags(fixtures.record(1, verdict=judged, utterances=(signed,)))
    assert {key: v for key, v in tags.items() if key.startswith("mosgate.")} == {
        "mosgate.verdict": "PASS", "mosgate.n": "16", "mosgate.sigma_pct": "4.25",
        "mosgate.power": "0.987", "mosgate.provenance": "0123456789abcdef",
    }  # fmt: skip
    keys = {key: value for key, value, _ in facts.metrics(fixtures.record(1, verdict=judged))}
    assert (keys["gate/sigma_pct"], keys["gate/power"]) == (4.25, 0.987)


def test_what_shows_nothing_is_counted_apart_from_what_was_rejected() -> None:
    odd = [
        fixtures.record(10 + i, verdict=fixtures.verdict(status))
        for i, status in enumerate(("UNDECIDED", "UNDECIDED", "UNGATED", "UNARMED"))
    ]
    figures = facts.sweep_metrics(fixtures.result((*fixtures.records(), *odd)))
    found = {key: value for key, value, _ in figures}
    assert found["rejected"] == 2
    assert (found["undecided"], found["ungated"], found["unarmed"]) == (2, 1, 1)


def test_a_table_has_a_cell_per_column_and_text_for_what_is_nested() -> None:
    rows = (fixtures.utterance("a", None), {**fixtures.utterance("b"), "guards": ["silence"]})
    table = facts.utterance_table(fixtures.record(utterances=rows))
    assert all(len(row) == len(table["columns"]) for row in table["data"])
    failures = [row[table["columns"].index("failures")] for row in table["data"]]
    assert failures == ['{"dnsmos": "timeout"}', "{}"]


def test_a_sweep_without_a_winner_is_told_so() -> None:
    lost = fixtures.result(tuple(r for r in fixtures.records() if not r.accepted))
    assert facts.sweep_tags(lost)["winner"] == "none: nothing passed"
    waiting = facts.sweep_tags(fixtures.unconfirmed())
    assert waiting["winner"] == "none: trial 2 is not confirmed"
    assert ("accepted", 0.0, 0) in facts.sweep_metrics(lost)
