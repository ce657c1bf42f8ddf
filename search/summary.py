"""What a sweep found, in words and rows: what won and why, what was rejected and by what.

``search.report`` lays it out for a terminal, a README and a browser.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.causes import what_made_it_so
from search.labels import COLUMNS, Column, clock, column, short_options, verdict_label, why_not
from search.ranking import speedup
from search.record import ASIDE, SweepResult, TrialRecord
from search.rejections import rejection_counts, surpassed_counts, what_was_rejected
from search.standing import few

_MOS = {"dnsmos_ovrl": "OVRL", "dnsmos_p808": "P808"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished sweep in words and rows.

    Args:
        title: One line.
        columns: Headings.
        rows: One per configuration: the baseline, then the front; cells as text.
        sentences: What won and why, what was rejected, how sure it is.
        rejections: How many trials were turned down, by reason, most frequent first.
        surpassed: How many were stopped because they could not win, by what was as good.
        phases: Seconds of all trials by phase, longest first.
        notes: What a reader must know to judge the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]
    rejections: tuple[tuple[str, int], ...]
    surpassed: tuple[tuple[str, int], ...]
    phases: tuple[tuple[str, float], ...]
    notes: tuple[str, ...]


def summarise(result: SweepResult) -> Summary:
    """Turn a result into words and rows."""
    shown = [result.baseline, *ranked_front(result)]
    present = [c for c in COLUMNS if any(c.metric in r.metrics for r in shown)]
    return Summary(
        title=_title(result),
        columns=("", "trial", "configuration", *(c.title for c in present), "verdict"),
        rows=tuple(_row(result, record, present) for record in shown),
        sentences=(_what_won(result), what_made_it_so(result), what_was_rejected(result)),
        rejections=tuple(rejection_counts(result.records).most_common()),
        surpassed=tuple(surpassed_counts(result.records).most_common()),
        phases=tuple(phase_seconds(result.records).most_common()),
        notes=_notes(result),
    )


def ranked_front(result: SweepResult) -> list[TrialRecord]:
    """Return the accepted front, the winner first, or the best that is not confirmed."""
    best = result.winner or result.unconfirmed
    first = [best] if best else []
    return first + [r for r in result.front if r != best]


def _title(result: SweepResult) -> str:
    n = sum(r.role not in ASIDE for r in result.records)
    stopped = ", interrupted" if result.interrupted else ""
    device = device_name(result.baseline)
    return f"{result.study}: {n} trials on {device} in {clock(result.wall_s)}{stopped}"


def device_name(record: TrialRecord) -> str:
    """Return the device as the record's environment names it."""
    seen = record.environment
    return str(seen.get("device_name") or seen.get("device") or "an unnamed device")


def _row(result: SweepResult, record: TrialRecord, present: Sequence[Column]) -> tuple[str, ...]:
    mark = "winner" if record == result.winner else "front"
    mark = "unconfirmed" if record == result.unconfirmed else mark
    mark = "baseline" if record.number == result.baseline.number else mark
    cells = tuple(c.write(record.metrics.get(c.metric)) for c in present)
    return (mark, str(record.number), short_options(record.options), *cells, verdict_text(record))


def verdict_text(record: TrialRecord) -> str:
    """Return the verdict with what it is sure of, such as ``PASS (OVRL ≥ -1.8 %, n=16)``.

    DNSMOS may not fall and word errors may not rise, so one side of each bound counts.
    """
    label = verdict_label(record)
    found = {str(b["metric"]): b for b in (record.verdict or {}).get("bounds", ())}
    sure = [f"{_MOS[m]} ≥ {low:+.1f} %" for low, m in sorted(_bounds(found, "lower_pct"))[:1]]
    rise = found.get("wer", {}).get("upper_pct")
    sure += [f"WER ≤ {rise:+.1f} points"] if rise is not None else []
    if record.role == "baseline" or record.verdict is None or record.surpassed or not sure:
        return label
    return f"{label} ({', '.join(sure)}, n={record.verdict['n']})"


def _bounds(found: Mapping[str, Mapping[str, Any]], side: str) -> list[tuple[float, str]]:
    return [
        (float(found[metric][side]), metric)
        for metric in _MOS
        if found.get(metric, {}).get(side) is not None
    ]


def _what_won(result: SweepResult) -> str:
    metric = result.objectives[0]
    best = result.winner or result.unconfirmed
    if best is None:
        return _nothing_won(result)
    if result.winner is None:
        said = f"Not confirmed, so nothing can be exported yet: {_best(result, best, metric)}"
        return f"{said}. {result.not_confirmed[:1].upper()}{result.not_confirmed[1:]}."
    return f"{_best(result, best, metric)}{_confirmed(result)}."


def _best(result: SweepResult, best: TrialRecord, metric: str) -> str:
    shown = column(metric)
    ratio = speedup(best, result.baseline, metric)
    said = "won" if result.winner else "is the best so far"
    better = "smaller" if metric == "peak_memory_bytes" else "faster"
    times = f"{ratio:.2f} times {better} than the baseline" if ratio else "its figures"
    return (
        f"{'Trial' if result.winner else 'trial'} {best.number} ({short_options(best.options)}) "
        f"{said}: {shown.title} "
        f"{shown.write(best.metrics.get(metric))}{_spread(best, metric)} against "
        f"{shown.write(result.baseline.metrics.get(metric))}"
        f"{_spread(result.baseline, metric)}, {times}"
    )


def _nothing_won(result: SweepResult) -> str:
    if result.not_confirmed:
        return f"Nothing won: {result.not_confirmed}; nothing can be exported."
    if result.front:
        return (
            "Nothing won: what was accepted is not faster than the baseline, or its confirmation "
            "on fresh processes and unseen prompts did not uphold it; nothing can be exported."
        )
    return (
        "Nothing won: no configuration was both proven to sound as good as the baseline and "
        "within the service levels, so nothing can be exported."
    )


def _spread(record: TrialRecord, metric: str) -> str:
    """Return the range of the raw samples behind a metric, or nothing where there are none."""
    name = metric.split("_p", maxsplit=1)[0] if "_p" in metric else metric
    found = record.measurements.get(name) or record.measurements.get(f"{name}_s")
    samples = [float(x) for x in (found or {}).get("samples", ())]
    if len(samples) < 2:
        return ""
    write = column(metric).write
    return f" ({len(samples)} runs, {write(min(samples))} to {write(max(samples))})"


def _confirmed(result: SweepResult) -> str:
    """Say how the winner was confirmed."""
    done = result.confirmation
    if done is None or done.verdict is None:  # no sweep names such a winner
        return ", not confirmed"
    speed = (
        f"; timed again in turn with the baseline, {done.speedup:.2f} times "
        f"({done.speedup_low:.2f} to {done.speedup_high:.2f} over {len(done.winner_samples)} pairs)"
    )
    heard = f", and {done.verdict['status']} on unseen prompts (n={done.verdict['n']})"
    warning = few(done)
    return speed + heard + (f"; {warning}" if warning else "")


def phase_seconds(records: Sequence[TrialRecord]) -> Counter[str]:
    """Sum the wall time of all trials by phase, in seconds."""
    total: Counter[str] = Counter()
    for record in records:
        for phase, spent in record.phases.items():
            total[phase] += spent  # type: ignore[assignment] # Counter holds floats as well
    return total


def _notes(result: SweepResult) -> tuple[str, ...]:
    notes = []
    n = [(r.verdict or {}).get("n") for r in ranked_front(result)]
    judged = [int(x) for x in n if x]
    if judged:
        notes.append(
            "The verdict's bounds are one-sided confidence bounds of the change against the "
            "baseline: at worst this much DNSMOS lost, in the worse of OVRL and P808, and this "
            "many points of word error rate gained, over "
            f"n={int(statistics.median(judged))} paired utterances."
        )
    if result.baseline.failure is not None:
        notes.append(f"The baseline itself: {why_not(result.baseline)}")
    return tuple(notes)
