"""Which trials were turned down, and by what; and which were stopped because they could not win.

Turned down is not the same as bad: UNDECIDED, UNGATED and UNARMED say that nothing was shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from search.labels import verdict_label
from search.record import ASIDE, SweepResult, TrialRecord

# What each verdict that shows nothing means to a reader.
OPEN = {
    "UNDECIDED": "more utterances would tell",
    "UNGATED": "a measurement is missing",
    "UNARMED": "the gate did not tell good from bad on this baseline",
}


def candidates(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that could have won: neither the baseline nor a confirmation."""
    return [r for r in records if r.role != "baseline" and r.role not in ASIDE]


def rejection_counts(records: Sequence[TrialRecord]) -> Counter[str]:
    """Count the trials that were turned down, each once, by its first reason in short."""
    turned_down = [r for r in candidates(records) if not (r.accepted or r.surpassed)]
    return Counter(_reason_class(r) for r in turned_down)


def open_counts(records: Sequence[TrialRecord]) -> Counter[str]:
    """Count the trials of which nothing was shown, by verdict."""
    turned_down = [r for r in candidates(records) if not (r.accepted or r.surpassed)]
    labels = Counter(verdict_label(r) for r in turned_down)
    return Counter({label: labels[label] for label in OPEN if labels[label]})


def surpassed_counts(records: Sequence[TrialRecord]) -> Counter[str]:
    """Count the trials that were stopped because they could not win, by what surpassed them."""
    return Counter(_rival_class(r) for r in candidates(records) if r.surpassed)


def _reason_class(record: TrialRecord) -> str:
    if record.failure is not None:
        return record.failure.kind
    label = verdict_label(record)
    if label == "PASS":
        return "service level missed"
    bounds = (record.verdict or {}).get("bounds", ())
    if label == "FAIL" and not bounds:
        return "FAIL at the token level"
    # The bound that decided has the verdict's own status; another may merely be undecided.
    decisive = [str(b["metric"]) for b in bounds if b.get("status") == label]
    return " ".join([label, *decisive[:1]])


def _rival_class(record: TrialRecord) -> str:
    by_baseline = record.surpassed.startswith("the baseline")
    return "no better than " + ("the baseline" if by_baseline else "an accepted trial")


def what_was_rejected(result: SweepResult) -> str:
    """Say how many candidates were accepted, stopped and rejected, and by what."""
    tried = candidates(result.records)
    rejected, stopped = rejection_counts(result.records), surpassed_counts(result.records)
    if not rejected and not stopped:
        if len(tried) == 1:
            return "The only candidate was accepted."
        return f"All {len(tried)} candidates were accepted." if tried else "No candidate was run."
    accepted = len(tried) - rejected.total() - stopped.total()
    parts = [f"{accepted} of {len(tried)} candidates were accepted"]
    if stopped:
        parts.append(f"{stopped.total()} stopped for being unable to win: {_listed(stopped)}")
    refused = Counter({k: n for k, n in rejected.items() if k.partition(" ")[0] not in OPEN})
    if refused:
        parts.append(f"rejected: {_listed(refused)}")
    for label, meaning in OPEN.items():
        found = Counter({k: n for k, n in rejected.items() if k.partition(" ")[0] == label})
        if found:
            parts.append(f"{label} ({meaning}): {_listed_open(found, label)}")
    return "; ".join(parts) + "."


def _listed_open(counts: Counter[str], label: str) -> str:
    """List what kept each from a verdict, without the verdict's own name."""
    by = Counter({reason.removeprefix(label).strip(): n for reason, n in counts.items()})
    named = Counter({reason: n for reason, n in by.items() if reason})
    return str(counts.total()) + (f", of which by {_listed(named)}" if named else "")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n} × {reason}" for reason, n in counts.most_common())
