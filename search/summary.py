"""What a sweep found, in words and rows: what won and why, what was rejected and by what.

``search.report`` lays it out for a terminal, a README and a browser.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from search.labels import (
    COLUMNS,
    Column,
    clock,
    column,
    flat_options,
    short_options,
    verdict_label,
    why_not,
)
from search.record import SweepResult, TrialRecord

_HIGHER_IS_BETTER = {c.metric for c in COLUMNS if not c.lower_is_better}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished sweep in words and rows.

    Args:
        title: One line.
        columns: Headings.
        rows: One per configuration: the baseline, then the front; cells as text.
        sentences: What won and why, what was rejected, how sure it is.
        rejections: How many trials were turned down, by reason, most frequent first.
        phases: Seconds of all trials by phase, longest first.
        notes: What a reader must know to judge the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]
    rejections: tuple[tuple[str, int], ...]
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
        sentences=(_what_won(result), _why_it_won(result), _what_was_rejected(result)),
        rejections=tuple(rejection_counts(result.records).most_common()),
        phases=tuple(phase_seconds(result.records).most_common()),
        notes=_notes(result),
    )


def ranked_front(result: SweepResult) -> list[TrialRecord]:
    """Return the accepted front, the winner first."""
    first = [result.winner] if result.winner else []
    return first + [r for r in result.front if r != result.winner]


def _title(result: SweepResult) -> str:
    n = len(result.records)
    stopped = ", interrupted" if result.interrupted else ""
    device = device_name(result.baseline)
    return f"{result.study}: {n} trials on {device} in {clock(result.wall_s)}{stopped}"


def device_name(record: TrialRecord) -> str:
    """Return the device as the record's environment names it."""
    seen = record.environment
    return str(seen.get("device_name") or seen.get("device") or "an unnamed device")


def _row(result: SweepResult, record: TrialRecord, present: Sequence[Column]) -> tuple[str, ...]:
    mark = "winner" if record == result.winner else "front"
    mark = "baseline" if record.number == result.baseline.number else mark
    cells = tuple(c.write(record.metrics.get(c.metric)) for c in present)
    return (mark, str(record.number), short_options(record.options), *cells, verdict_text(record))


def verdict_text(record: TrialRecord) -> str:
    """Return the verdict with its bounds and n, such as ``PASS (OVRL ≥ -1.8 %, n=16)``."""
    bounds = [b for b in (record.verdict or {}).get("bounds", ()) if b.get("lower_pct") is not None]
    worst = min(bounds, key=lambda b: float(b["lower_pct"]), default=None)
    label = verdict_label(record)
    if record.role == "baseline" or worst is None or record.verdict is None:
        return label
    name = {"dnsmos_ovrl": "OVRL", "dnsmos_p808": "P808"}.get(worst["metric"], worst["metric"])
    return f"{label} ({name} ≥ {worst['lower_pct']:+.1f} %, n={record.verdict['n']})"


def speedup(better: TrialRecord, worse: TrialRecord, metric: str) -> float | None:
    """Return how many times better the first is in a metric; above 1 is better."""
    a, b = better.metrics.get(metric), worse.metrics.get(metric)
    if not a or not b:
        return None
    return a / b if metric in _HIGHER_IS_BETTER else b / a


def _what_won(result: SweepResult) -> str:
    won, metric = result.winner, result.objectives[0]
    if won is None:
        return _nothing_won(len(result.front))
    shown = column(metric)
    ratio = speedup(won, result.baseline, metric)
    better = "smaller" if metric == "peak_memory_bytes" else "faster"
    times = f"{ratio:.2f} times {better} than the baseline" if ratio else "its figures"
    return (
        f"Trial {won.number} ({short_options(won.options)}) won: {shown.title} "
        f"{shown.write(won.metrics.get(metric))}{_spread(won, metric)} against "
        f"{shown.write(result.baseline.metrics.get(metric))}"
        f"{_spread(result.baseline, metric)}, {times}{_confirmed(result)}."
    )


def _nothing_won(n_accepted: int) -> str:
    if n_accepted:
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
    done = result.confirmation
    if done is None:
        return ", not confirmed"
    speed = (
        f"; timed again in turn with the baseline, {done.speedup:.2f} times "
        f"({done.speedup_low:.2f} to {done.speedup_high:.2f} over {len(done.winner_samples)} pairs)"
    )
    if done.verdict is None:
        return speed + ", unseen prompts were not reached"
    return speed + f", and {done.verdict['status']} on unseen prompts (n={done.verdict['n']})"


def _why_it_won(result: SweepResult) -> str:
    won, metric = result.winner, result.objectives[0]
    if won is None:
        return _nearest_miss(result)
    changed = _changed_axes(won, result.baseline)
    if not changed:
        return "The baseline itself is the best that passed: no optimization helped."
    effects = [e for axis in changed if (e := _axis_effect(result, won, axis, metric))]
    if not effects:
        names = ", ".join(f"{a}={flat_options(won.options)[a]}" for a in changed)
        return f"It differs from the baseline in {names}; no trial tells these axes apart."
    effects.sort(key=lambda e: -e[0])
    parts = "; ".join(text for _, text in effects[:3])
    return f"What made it so, by the nearest trials that differ in one axis: {parts}."


def _nearest_miss(result: SweepResult) -> str:
    metric = result.objectives[0]
    ran = [r for r in result.records if r.role not in ("baseline", "confirm")]
    missed = [r for r in ran if r.metrics.get(metric) and r.status == "completed"]
    if not missed:
        return "No configuration but the baseline ran to the end."
    best = max(missed, key=lambda r: speedup(r, result.baseline, metric) or 0.0)
    said = why_not(best) or verdict_label(best)
    if best.accepted:
        said = "it did not stand its confirmation, or is no faster than the baseline"
    return (
        f"The fastest that ran was trial {best.number} ({short_options(best.options)}, "
        f"{column(metric).write(best.metrics[metric])}), turned down because: {said}."
    )


def _changed_axes(record: TrialRecord, other: TrialRecord) -> list[str]:
    mine, theirs = flat_options(record.options), flat_options(other.options)
    return [axis for axis in mine if mine[axis] != theirs.get(axis)]


def _axis_effect(
    result: SweepResult, won: TrialRecord, axis: str, metric: str
) -> tuple[float, str] | None:
    """Return (gain, words) of one axis from trials that differ from the winner in it alone."""
    pairs = [
        (gain, r)
        for r in result.records
        if r.role != "confirm" and _changed_axes(won, r) == [axis]
        if (gain := speedup(won, r, metric)) is not None
    ]
    if not pairs:
        return None
    before = flat_options(result.baseline.options).get(axis)
    same = [(g, r) for g, r in pairs if flat_options(r.options)[axis] == before]
    gain, other = same[0] if same else pairs[0]
    now, then = flat_options(won.options)[axis], flat_options(other.options)[axis]
    return gain, f"{axis} {then} → {now} {gain:.2f} times (against trial {other.number})"


def rejection_counts(records: Sequence[TrialRecord]) -> Counter[str]:
    """Count the trials that may not win, each once, by its first reason in short."""
    return Counter(
        _reason_class(r)
        for r in records
        if r.role not in ("baseline", "confirm") and not r.accepted
    )


def _reason_class(record: TrialRecord) -> str:
    if record.failure is not None:
        return record.failure.kind
    if verdict_label(record) == "PASS":
        return "service level missed"
    failed = [
        str(b["metric"])
        for b in (record.verdict or {}).get("bounds", ())
        if b.get("status") not in ("PASS", None)
    ]
    return " ".join([verdict_label(record), *(failed[:1])])


def phase_seconds(records: Sequence[TrialRecord]) -> Counter[str]:
    """Sum the wall time of all trials by phase, in seconds."""
    total: Counter[str] = Counter()
    for record in records:
        for phase, spent in record.phases.items():
            total[phase] += spent  # type: ignore[assignment] # Counter holds floats as well
    return total


def _what_was_rejected(result: SweepResult) -> str:
    tried = [r for r in result.records if r.role not in ("baseline", "confirm")]
    counts = rejection_counts(result.records)
    accepted = len(tried) - counts.total()
    if not counts:
        if len(tried) == 1:
            return "The only candidate was accepted."
        return f"All {len(tried)} candidates were accepted." if tried else "No candidate was run."
    listed = ", ".join(f"{n} × {reason}" for reason, n in counts.most_common())
    return f"{accepted} of {len(tried)} candidates were accepted; rejected: {listed}."


def _notes(result: SweepResult) -> tuple[str, ...]:
    notes = []
    n = [(r.verdict or {}).get("n") for r in ranked_front(result)]
    judged = [int(x) for x in n if x]
    if judged:
        notes.append(
            f"The verdict's bound is the one-sided lower confidence bound of the worst quality "
            "metric against the baseline, over "
            f"n={int(statistics.median(judged))} paired utterances."
        )
    if result.baseline.failure is not None:
        notes.append(f"The baseline itself: {why_not(result.baseline)}")
    return tuple(notes)
