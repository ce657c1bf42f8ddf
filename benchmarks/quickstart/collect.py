"""Keep a finished sweep as a committed result: every record, and one page of figures.

mosgate sweep configs/quickstart.yaml --plain
python -m benchmarks.quickstart.collect mlruns/quickstart --name cpu --commit $(git describe)
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from search.labels import verdict_label
from search.record import ASIDE, TrialRecord, read_records

HERE = Path(__file__).parent
KEPT = (
    "latency_p50_s", "latency_p95_s", "ttfa_p50_s", "rtf", "throughput_samples_per_s",
    "tokens_per_s", "peak_memory_bytes", "load_s", "compile_s", "gpu_utilization_pct",
    "gpu_power_w", "dnsmos_ovrl", "dnsmos_p808", "wer", "pesq_wb", "speedup", "speedup_low",
    "speedup_high",
)  # fmt: skip


def phases(records: list[dict[str, Any]]) -> dict[str, float]:
    """Return the wall time of each phase over all trials, in seconds."""
    total: Counter[str] = Counter()
    for record in records:
        total.update(record["phases"])
    return {name: round(seconds, 1) for name, seconds in total.most_common()}


def row(record: dict[str, Any]) -> dict[str, Any]:
    """Return what one trial comes to."""
    verdict = record["verdict"] or {}
    return {
        "number": record["number"],
        "role": record["role"],
        "options": record["options"],
        "status": record["status"],
        "failure": record["failure"],
        "verdict": verdict.get("summary", verdict.get("status")),
        "bounds": verdict.get("bounds", []),
        "metrics": {k: record["metrics"][k] for k in KEPT if k in record["metrics"]},
        "observed": record["observed"],
        "label": verdict_label(TrialRecord.from_json(json.dumps(record))),
    }


def main() -> None:
    """Write NAME.json and NAME.records.jsonl beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--commit", required=True, help="what ran")
    args = parser.parse_args()
    records = [json.loads(record.to_json()) for record in read_records(args.study)]
    rows = [row(record) for record in records]
    clock = json.loads((args.study / "clock.json").read_text())
    result = {
        "commit": args.commit,
        "started_at": records[0]["started_at"],
        "environment": records[0]["environment"],
        "n_trials": sum(r["role"] not in ASIDE for r in records),
        "sweep_s": clock["spent_s"],
        "phase_s": phases(records),
        "verdicts": Counter(r["label"] for r in rows if r["role"] not in ASIDE),
        "trials": rows,
    }
    (HERE / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records)
    (HERE / f"{args.name}.records.jsonl").write_text(lines)


if __name__ == "__main__":
    main()
