from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from evaluation.gate import GateConfig, Verdict, check_baseline, decide
from evaluation.scores import UtteranceScores

CONFIG = GateConfig()
Change = Callable[[UtteranceScores], UtteranceScores]


def voices(n: int = 24, seed: int = 0) -> list[UtteranceScores]:
    """Return a fit baseline: ten words an utterance, one error in each third of them."""
    rng = np.random.default_rng(seed)
    return [
        UtteranceScores(
            utterance_id=f"p{i:02d}",
            duration_s=float(rng.uniform(2, 6)),
            dnsmos_ovrl=float(rng.normal(3.0, 0.2)),
            dnsmos_p808=float(rng.normal(3.4, 0.2)),
            wer_errors=int(i % 3 == 0),
            wer_words=10,
            transcript="something was said",
            noise_floor_dbfs=-60.0,
        )
        for i in range(n)
    ]


def changed(scores: Sequence[UtteranceScores], **factors: float) -> list[UtteranceScores]:
    """Scale fields of every utterance, with a little noise that keeps the mean."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.02, len(scores))
    noise -= noise.mean()
    return [
        dataclasses.replace(s, **{k: getattr(s, k) * (f + e) for k, f in factors.items()})
        for s, e in zip(scores, noise, strict=True)
    ]


def ruined(scores: Sequence[UtteranceScores], k: int, **fields: object) -> list[UtteranceScores]:
    """Replace fields of the first k utterances."""
    return [dataclasses.replace(s, **fields) if i < k else s for i, s in enumerate(scores)]  # type: ignore[arg-type]


def test_the_baseline_passes_against_itself() -> None:
    verdict = decide(voices(), voices(), CONFIG)
    assert verdict.status == "PASS"
    assert verdict.reasons == ()
    assert verdict.summary == (
        "PASS: OVRL +0.0 % (lower bound +0.0 %), P808 +0.0 % (+0.0 %), WER 3.3 % vs 3.3 %, "
        "0/24 bad, n=24"
    )


@pytest.mark.parametrize("metric", ["dnsmos_ovrl", "dnsmos_p808"])
@pytest.mark.parametrize(
    ("factor", "status"), [(0.98, "PASS"), (0.947, "UNDECIDED"), (0.90, "FAIL"), (1.1, "PASS")]
)
def test_each_mos_must_keep_its_budget(metric: str, factor: float, status: str) -> None:
    verdict = decide(voices(), changed(voices(), **{metric: factor}), CONFIG)
    assert verdict.status == status
    assert bool(verdict.reasons) == (status != "PASS")


def test_the_reason_of_a_failure_names_metric_and_size() -> None:
    verdict = decide(voices(), changed(voices(), dnsmos_p808=0.9), CONFIG)
    assert verdict.reasons == ("P808 loses 10.0 %, more than the 5 % allowed.",)
    assert verdict.summary.startswith("FAIL: OVRL +0.0 %")
    assert verdict.summary.endswith(verdict.reasons[0])


def test_a_bound_equal_to_the_budget_does_not_pass() -> None:
    base = voices()
    halved = [dataclasses.replace(s, dnsmos_ovrl=(s.dnsmos_ovrl or 0) * 0.75) for s in base]
    level = float(np.mean([s.dnsmos_ovrl for s in base]))
    shifted = [dataclasses.replace(s, dnsmos_ovrl=(s.dnsmos_ovrl or 0) - level / 4) for s in base]
    assert decide(base, halved, GateConfig(mos_budget_pct=25)).status == "UNDECIDED"
    assert decide(base, shifted, GateConfig(mos_budget_pct=24.999)).status == "FAIL"


def test_wer_has_a_margin_of_its_own() -> None:
    base = voices()
    three = [dataclasses.replace(s, wer_errors=(s.wer_errors or 0) + 1) for s in base]
    verdict = decide(base, three, CONFIG)
    assert verdict.status == "FAIL"
    assert verdict.reasons == ("WER rises by 10.0 points, more than the 3 allowed.",)
    one_more = ruined(base, 1, wer_errors=2)
    assert decide(base, one_more, CONFIG).status == "PASS"
    five_more = [
        dataclasses.replace(s, wer_errors=(s.wer_errors or 0) + (i % 5 == 0))
        for i, s in enumerate(base)
    ]
    assert decide(base, five_more, CONFIG).status == "UNDECIDED"


def test_one_bad_utterance_beyond_the_baselines_fails_where_none_is_allowed() -> None:
    bad = ruined(voices(), 1, guards=("truncated: 1 sentences at the token cap",))
    verdict = decide(voices(), bad, CONFIG)
    assert verdict.status == "FAIL"
    assert "1 of 24 utterances are bad, 0 of the baseline's, 0 allowed (p00" in verdict.reasons[0]
    assert decide(bad, bad, CONFIG).status == "PASS"


def test_the_allowance_grows_with_n() -> None:
    base = voices(100)
    assert decide(base, ruined(base, 2, guards=("loop: 1",)), CONFIG).status == "PASS"
    assert decide(base, ruined(base, 3, guards=("loop: 1",)), CONFIG).status == "FAIL"


def test_a_catastrophe_is_bad_but_one_wrong_word_of_one_is_not() -> None:
    base = voices(60)
    lost = ruined(base, 2, wer_errors=6)
    config = GateConfig(wer_margin=0.5)
    assert decide(base, lost, config).status == "FAIL"
    short = ruined(base, 2, wer_errors=0, wer_words=1)
    misheard = ruined(base, 2, wer_errors=1, wer_words=1)
    assert decide(short, misheard, config).status == "PASS"


@pytest.mark.parametrize(
    "fields",
    [
        {"duration_s": 0.5},
        {"noise_floor_dbfs": -53.0},
        {"dnsmos_ovrl": None, "dnsmos_p808": None, "failures": {"dnsmos": "SIGSEGV"}},
        {"wer_errors": None, "wer_words": None, "failures": {"wer": "deadline"}},
    ],
)
def test_what_ruins_an_utterance(fields: dict[str, object]) -> None:
    verdict = decide(voices(), ruined(voices(), 1, **fields), CONFIG)
    assert verdict.status == "FAIL"
    assert any("are bad" in reason for reason in verdict.reasons)


def test_a_failed_metric_counts_as_the_worst_case_and_is_not_skipped() -> None:
    failed = ruined(voices(), 6, dnsmos_ovrl=None, failures={"dnsmos": "SIGSEGV"})
    verdict = decide(voices(), failed, CONFIG)
    ovrl = next(item for item in verdict.bounds if item.metric == "dnsmos_ovrl")
    assert (verdict.status, ovrl.n) == ("FAIL", 24)
    assert ovrl.delta_pct == pytest.approx(-100 * 6 * 2 / (24 * 3), abs=3)


def test_unreadable_audio_is_the_worst_case_of_everything() -> None:
    lost = UtteranceScores(utterance_id="p00", failures={"audio": "no such file"})
    verdict = decide(voices(), [lost, *voices()[1:]], CONFIG)
    assert verdict.status == "FAIL"
    assert all(item.n == 24 for item in verdict.bounds)


def test_a_failed_pesq_alone_changes_nothing() -> None:
    refused = ruined(voices(), 3, failures={"pesq": "31 s"})
    assert decide(voices(), refused, CONFIG).status == "PASS"


@pytest.mark.parametrize("field", ["dnsmos_ovrl", "dnsmos_p808", "wer_errors"])
@pytest.mark.parametrize("k", [1, 24])
def test_missing_on_either_side_is_never_a_pass(field: str, k: int) -> None:
    missing = ruined(voices(), k, **{field: None})
    assert decide(voices(), missing, CONFIG).status == "UNGATED"
    assert decide(missing, voices(), CONFIG).status == "UNGATED"
    assert decide(missing, missing, CONFIG).status == "UNGATED"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_missing(value: float) -> None:
    verdict = decide(voices(), ruined(voices(), 1, dnsmos_ovrl=value), CONFIG)
    assert verdict.status == "UNGATED"
    assert verdict.reasons == ("OVRL is missing on 1 of 24 utterances.",)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_too_few_are_never_a_pass(n: int) -> None:
    verdict = decide(voices(n), voices(n), CONFIG)
    assert verdict.status == "UNGATED"
    assert "too few" in verdict.reasons[0]
    assert decide(voices(8), voices(8), CONFIG).status == "PASS"


def test_utterances_that_were_not_judged_are_never_a_pass() -> None:
    verdict = decide(voices(), voices()[:20], CONFIG)
    assert verdict.status == "UNGATED"
    assert verdict.reasons == ("4 utterances were not judged, such as 'p20'.",)


def test_foreign_and_doubled_utterances_are_never_a_pass() -> None:
    assert decide(voices(23), voices(24), CONFIG).status == "UNGATED"
    assert decide(voices(), [*voices(), voices()[0]], CONFIG).status == "UNGATED"
    assert decide([*voices(), voices()[0]], voices(), CONFIG).status == "UNGATED"


def test_different_references_are_not_compared() -> None:
    other = ruined(voices(), 1, wer_words=11)
    assert decide(voices(), other, CONFIG).status == "UNGATED"


def test_an_early_look_rejects_but_never_accepts() -> None:
    base = voices()
    good = decide(base, base[:8], CONFIG, complete=False)
    assert (good.status, good.n) == ("UNDECIDED", 8)
    assert good.reasons == ("An early look may reject and never accept.",)
    damaged = changed(base, dnsmos_p808=0.8)[:8]
    assert decide(base, damaged, CONFIG, complete=False).status == "FAIL"


def test_an_early_look_allows_the_bad_utterances_that_the_last_one_will() -> None:
    bad = {"guards": ("level: -70 dBFS",)}
    base = [*voices()[:23], dataclasses.replace(voices()[23], **bad)]
    candidate = ruined(voices(), 1, **bad)
    assert decide(base, candidate[:8], CONFIG, complete=False).status == "UNDECIDED"
    assert decide(base, candidate, CONFIG).status == "PASS"
    assert decide(base, ruined(voices(), 2, **bad)[:8], CONFIG, complete=False).status == "FAIL"


def test_speech_of_another_length_is_not_the_same() -> None:
    base = voices()
    assert decide(base, changed(base, duration_s=1.08), CONFIG).status == "PASS"
    slow = decide(base, changed(base, duration_s=1.2), CONFIG)
    assert slow.status == "FAIL"
    assert slow.reasons == ("The mean duration changes by +19.9 % (limit 10 %).",)
    assert "duration +19.9 %" in slow.summary


def test_what_rejects_wins_over_what_is_missing() -> None:
    worse = ruined(changed(voices(), dnsmos_p808=0.8), 1, dnsmos_ovrl=None)
    verdict = decide(voices(), worse, CONFIG)
    assert verdict.status == "FAIL"
    assert len(verdict.reasons) == 2


def test_verdict_round_trip() -> None:
    verdict = decide(voices(), changed(voices(), dnsmos_p808=0.9), CONFIG)
    assert Verdict.from_mapping(json.loads(json.dumps(verdict.to_mapping()))) == verdict


def test_a_fit_baseline_has_nothing_against_it() -> None:
    assert check_baseline(voices(), CONFIG) == []
    assert check_baseline(ruined(voices(), 1, guards=("loop: x",)), CONFIG) == []


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (voices(7), "7 utterances are too few"),
        ([*voices(), voices()[0]], "are called 'p00'"),
        (ruined(voices(), 1, dnsmos_p808=None), "no dnsmos_p808 for 'p00': not measured"),
        (
            ruined(voices(), 1, wer_errors=None, failures={"pesq": "silent", "wer": "timed out"}),
            "no wer_errors for 'p00': timed out",
        ),
        (ruined(voices(), 1, dnsmos_ovrl=math.nan), "no dnsmos_ovrl for 'p00'"),
        (ruined(voices(), 1, wer_errors=None, failures={"wer": "SIGSEGV"}), "'p00': SIGSEGV"),
        (ruined(voices(), 2, guards=("level: -70 dBFS",)), "2 of 24 baseline utterances are bad"),
    ],
)
def test_an_unfit_baseline_is_told_why(scores: list[UtteranceScores], reason: str) -> None:
    assert reason in " ".join(check_baseline(scores, CONFIG))


@pytest.mark.parametrize(
    "values",
    [
        {"mos_budget_pct": 0.0},
        {"mos_budget_pct": math.nan},
        {"confidence": 1.0},
        {"confidence": 0.4},
        {"wer_margin": -0.1},
        {"max_bad_rate": 1.0},
        {"min_n": 1},
        {"duration_drift_pct": math.inf},
    ],
)
def test_a_vacuous_configuration_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        GateConfig(**values)  # type: ignore[arg-type]
