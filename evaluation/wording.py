"""The verdict in words."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.verdict import Bound, Status

LABELS = {
    "dnsmos_ovrl": "OVRL",
    "dnsmos_p808": "P808",
    "wer": "WER",
    "bad_utterances": "bad",
    "duration_s": "duration",
}


def label(metric: str) -> str:
    """Return the name people read for a metric."""
    return LABELS.get(metric, metric)


def signed(value: float) -> str:
    """Return a change with its sign and one decimal, without a minus zero."""
    rounded = round(value, 1) + 0.0
    return f"{rounded:+.1f} %"


def summarise(status: Status, bounds: Sequence[Bound], n: int, reasons: Sequence[str]) -> str:
    """Return one sentence: the status, the figures behind it, and what kept it from passing.

    Example: ``PASS: OVRL -0.4 % (lower bound -1.6 %), P808 +0.2 % (-0.9 %), WER 2.1 % vs 2.0 %,
    0/24 bad, n=24``.
    """
    figures = [*_figures(bounds), f"n={n}"]
    sentence = f"{status}: {', '.join(figures)}"
    if status == "PASS" or not reasons:
        return sentence
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{sentence}. {reasons[0]}{more}"


def _figures(bounds: Sequence[Bound]) -> list[str]:
    """Return one phrase per bound; the first bound says which bound it is."""
    phrases: list[str] = []
    for bound in bounds:
        if bound.metric == "wer":
            phrases.append(
                f"WER {100 * bound.candidate_mean:.1f} % vs {100 * bound.baseline_mean:.1f} %"
            )
        elif bound.metric == "bad_utterances":
            phrases.append(f"{round(bound.candidate_mean * bound.n)}/{bound.n} bad")
        elif bound.metric == "duration_s":
            if bound.status != "PASS":
                phrases.append(f"duration {signed(bound.delta_pct)}")
        else:
            words = "" if any("(" in phrase for phrase in phrases) else "lower bound "
            change = signed(bound.delta_pct)
            phrases.append(f"{label(bound.metric)} {change} ({words}{signed(bound.lower_pct)})")
    return phrases
