"""Hand-made records and a small study on disk, for tests that need no sweep."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from search.record import Confirmation, Failure, SweepResult, TrialRecord, write_record
from search.standing import read_confirmation
from tts.options import Options, Sampling

OBJECTIVES = ("latency_p50_s",)


def bound(metric: str, delta_pct: float, status: str = "PASS") -> dict[str, Any]:
    """Return a ``Bound`` as a mapping."""
    return {
        "metric": metric,
        "baseline_mean": 3.0,
        "candidate_mean": 3.0 * (1 + delta_pct / 100),
        "delta_pct": delta_pct,
        "lower_pct": delta_pct - 1.5,
        "upper_pct": delta_pct + 1.5,
        "sigma_pct": 4.0,
        "n": 16,
        "status": status,
    }


def verdict(status: str = "PASS", reasons: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a ``Verdict`` as a mapping."""
    delta = -0.5 if status == "PASS" else -9.0
    return {
        "status": status,
        "n": 16,
        "bounds": [bound("dnsmos_ovrl", -0.3), bound("dnsmos_p808", delta, status)],
        "reasons": list(reasons),
        "summary": f"{status}: worst bound dnsmos_p808 {delta - 1.5:+.1f} %",
    }


def utterance(name: str, ovrl: float | None = 3.0) -> dict[str, Any]:
    """Return an ``UtteranceScores`` as a mapping; no OVRL means that metric failed."""
    return {
        "utterance_id": name,
        "duration_s": 2.5,
        "dnsmos_ovrl": ovrl,
        "dnsmos_p808": 3.1,
        "dnsmos_sig": 3.3,
        "dnsmos_bak": 3.9,
        "wer_errors": 0,
        "wer_words": 7,
        "transcript": "the birch canoe slid on the planks",
        "pesq_wb": None,
        "guards": [],
        "failures": {} if ovrl is not None else {"dnsmos": "timeout"},
    }


def record(number: int = 1, **changes: Any) -> TrialRecord:  # noqa: ANN401
    """Return a completed, accepted record; ``latency`` sets its speed."""
    latency = changes.pop("latency", 0.1)
    options = changes.pop("options", Options(precision="bf16", compile="default", batch_size=4))
    values: dict[str, Any] = {
        "study": "toy",
        "number": number,
        "role": "search",
        "digest": f"{number:016x}",
        "options": options.to_mapping(),
        "requested": options.to_mapping(),
        "status": "completed",
        "phases": {"load": 1.0, "compile": 2.0, "measure": 3.0, "judge": 4.0},
        "applied": (
            {"name": "precision", "value": "bf16", "n_modules": 9, "detail": "all linears"},
        ),
        "observed": {"sdpa": "math"},
        "measurements": {
            "latency": {"unit": "s", "samples": [latency, latency * 1.1, latency * 0.9]}
        },
        "metrics": {
            "latency_p50_s": latency,
            "latency_p95_s": latency * 1.2,
            "ttfa_p50_s": latency / 4,
            "rtf": latency / 2.5,
            "throughput_samples_per_s": 40_000 / latency,
            "peak_memory_bytes": 3.0e8,
            "dnsmos_ovrl": 2.99,
            "dnsmos_p808": 3.1,
            "wer": 0.04,
        },
        "utterances": tuple(utterance(f"u{i:02d}") for i in range(3)),
        "verdict": verdict(),
        "environment": {"device": "cpu", "device_name": "a toy CPU", "torch": "2.11.0"},
        "started_at": "2026-11-21T06:00:00+00:00",
        "ended_at": "2026-11-21T06:00:10+00:00",
    }
    return TrialRecord(**{**values, **changes})


def baseline(latency: float = 0.4) -> TrialRecord:
    """Return trial 0."""
    return record(0, role="baseline", options=Options(), latency=latency, verdict=None)


def rejected(number: int) -> TrialRecord:
    """Return a fast record that the gate turned down."""
    return record(
        number,
        latency=0.05,
        options=Options(precision="fp16", sampling=Sampling(temperature=1.5)),
        verdict=verdict("FAIL", ("dnsmos_p808: upper bound -7.5 % is below -5 %",)),
    )


def surpassed(number: int, by: str = "trial 2") -> TrialRecord:
    """Return a record of a trial that was not heard because it could not win."""
    why = f"{by} is at least as good in latency_p50_s"
    return record(
        number,
        latency=0.3,
        options=Options(precision="fp16", batch_size=4),
        metrics={"latency_p50_s": 0.3, "rtf": 0.12},
        phases={"load": 1.0, "compile": 2.0, "measure": 3.0},
        utterances=(),
        judged={"planned": [8, 16], "looks": [], "n_spoken": 0, "surpassed": why},
        verdict=None,
    )


def surpassed_when_heard(number: int, by: str = "trial 2") -> TrialRecord:
    """Return an older record: judged at the first look, and no further as it could not win."""
    why = f"Not judged further: {by} is at least as good in latency_p50_s."
    early = {"bounds": [bound("dnsmos_p808", -2.0, "UNDECIDED")], "n": 6}
    return record(
        number,
        latency=0.3,
        options=Options(precision="fp16", batch_size=4),
        verdict={**verdict("UNDECIDED", ("P808 cannot be told yet.", why)), **early},
    )


def crashed(number: int) -> TrialRecord:
    """Return a record of a configuration that ran out of memory."""
    return record(
        number,
        options=Options(precision="fp32", batch_size=64),
        status="infeasible",
        failure=Failure(phase="measure", kind="oom", message="CUDA out of memory: 3 GiB asked"),
        measurements={},
        metrics={},
        utterances=(),
        verdict=None,
    )


def heard_again(
    trial: TrialRecord, number: int = 5, speedup: float = 3.9, status: str = "PASS", n: int = 128
) -> TrialRecord:
    """Return the record of a confirmation as the sweep writes it."""
    turns: dict[str, Any] = {
        "turns_baseline_latency_p50_s": {"unit": "", "samples": [0.4, 0.4, 0.4]},
        "turns_winner_latency_p50_s": {"unit": "", "samples": [0.1, 0.11, 0.1]},
    }
    figures = {"speedup": speedup, "speedup_low": speedup - 0.3, "speedup_high": speedup + 0.1}
    looks = [{"n": m, "status": "UNDECIDED"} for m in (8, 16, 32, 64) if m < n]
    return dataclasses.replace(
        trial,
        number=number,
        role="confirm",
        digest=f"{number:016x}",
        measurements={**trial.measurements, **turns},
        metrics={**trial.metrics, **figures},
        verdict={**verdict(status), "n": n},
        judged={
            "planned": [*(look["n"] for look in looks), n],
            "looks": [*looks, {"n": n, "status": status}],
            "n_spoken": n,
        },
    )


def confirmation(trial: TrialRecord, **changes: Any) -> Confirmation:  # noqa: ANN401
    """Return how a trial was confirmed."""
    return read_confirmation(heard_again(trial, **changes), trial.digest, OBJECTIVES[0])


def records() -> tuple[TrialRecord, ...]:
    """Return a small study: baseline, two accepted, one rejected, one crashed."""
    slower = Options(precision="bf16", compile="none", batch_size=4)
    return (
        baseline(),
        record(1, latency=0.2, options=slower),
        record(2, latency=0.1),
        rejected(3),
        crashed(4),
    )


def confirmed_records() -> tuple[TrialRecord, ...]:
    """Return the small study and the confirmation of its best."""
    found = records()
    return (*found, heard_again(found[2]))


def unconfirmed(why: str = "its confirmation is not finished: run it again") -> SweepResult:
    """Return what the small study ends in when its time is over before the confirmation."""
    found = records()
    return result(found, winner=None, confirmation=None, unconfirmed=found[2], not_confirmed=why)


def result(found: tuple[TrialRecord, ...] | None = None, **changes: Any) -> SweepResult:  # noqa: ANN401
    """Return what a sweep over ``found`` ends in, the best of it confirmed."""
    found = records() if found is None else found
    accepted = [r for r in found if r.accepted and r.role != "baseline"]
    best = min(accepted, key=lambda r: r.metrics["latency_p50_s"], default=None)
    values: dict[str, Any] = {
        "study": "toy",
        "objectives": OBJECTIVES,
        "records": found,
        "baseline": found[0],
        "winner": best,
        "front": (best,) if best else (),
        "confirmation": confirmation(best) if best else None,
        "interrupted": False,
        "wall_s": 60.0,
    }
    return SweepResult(**{**values, **changes})


def write_study(root: Path, found: tuple[TrialRecord, ...] | None = None) -> Path:
    """Write records with audio as a sweep does; return the study's folder."""
    time_s = np.arange(16_000, dtype=np.float32) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * time_s)
    for one in records() if found is None else found:
        folder = root / one.study / "trials" / one.folder_name
        (folder / "audio").mkdir(parents=True)
        for scores in one.utterances:
            sf.write(folder / "audio" / f"{scores['utterance_id']}.wav", tone, 16_000)
        (folder / "worker.log").write_text("loaded\n", encoding="utf-8")
        write_record(folder, one)
        config = {
            "study": one.study, "model": "embedded", "objectives": list(OBJECTIVES),
            "confirm": {"k": 3, "n": 128, "pairs": 3, "seconds": None}, "prompts": {"n": 16},
        }  # fmt: skip
        (root / one.study / "study.json").write_text(
            json.dumps({"conditions": {}, "config": config}), encoding="utf-8"
        )
        (root / one.study / "clock.json").write_text('{"spent_s": 60.0}', encoding="utf-8")
    return root / "toy"
