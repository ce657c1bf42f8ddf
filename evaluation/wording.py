"""The verdict in words."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.verdict import Bound, Verdict

_SHOWN = 3

LABELS = {
    "dnsmos_ovrl": "OVRL",
    "dnsmos_p808": "P808",
    "wer": "WER",
    "bad_utterances": "bad",
    "duration_s": "duration",
    "noise_floor_dbfs": "noise floor",
}


def label(metric: str) -> str:
    """Return the name people read for a metric."""
    return LABELS.get(metric, metric)


def signed(value: float) -> str:
    """Return a change with its sign and one decimal, without a minus zero."""
    rounded = round(value, 1) + 0.0
    return f"{rounded:+.1f} %"


def summarise(verdict: Verdict) -> str:
    """Return one sentence: status, figures, n, power, and what kept it from passing.

    Example: ``PASS: OVRL -0.4 % (lower bound -1.6 %, sigma 5.1 %), P808 +0.2 % (-0.9 %, 4.4 %),
    WER 2.1 % vs 2.0 % (at most +1.3 points), 0/64 newly ruined (at most 3.5 %), n=64, power 0.99``.
    """
    figures = [*_figures(verdict.bounds), f"n={verdict.n}"]
    if verdict.power is not None:
        figures.append(f"power {verdict.power:.2f}")
    figures += [f"{name} failed on {count}" for name, count in sorted(verdict.failures.items())]
    sentence = f"{verdict.status}: {', '.join(figures)}"
    if verdict.status == "PASS" or not verdict.reasons:
        return sentence
    shown = "; ".join(reason.removesuffix(".") for reason in verdict.reasons[:_SHOWN])
    rest = len(verdict.reasons) - _SHOWN
    return f"{sentence}: {shown}{f' (and {rest} more)' if rest > 0 else ''}."


def _figures(bounds: Sequence[Bound]) -> list[str]:
    """Return one phrase per bound; the first MOS says which figures the others give too."""
    phrases: list[str] = []
    for bound in bounds:
        if bound.metric == "wer":
            rates = f"{100 * bound.candidate_mean:.1f} % vs {100 * bound.baseline_mean:.1f} %"
            phrases.append(f"WER {rates} (at most {bound.upper_pct:+.1f} points)")
        elif bound.metric == "bad_utterances":
            ruined = round(bound.delta_pct * bound.n / 100)
            phrases.append(f"{ruined}/{bound.n} newly ruined (at most {bound.upper_pct:.1f} %)")
        elif bound.metric == "duration_s":
            if bound.status != "PASS":
                phrases.append(f"duration {signed(bound.delta_pct)}")
        elif bound.metric == "noise_floor_dbfs":
            if bound.status != "PASS":
                phrases.append(f"noise floor {bound.delta_pct:+.1f} dB")
        else:
            phrases.append(_mos_figure(bound, is_first=not phrases))
    return phrases


def _mos_figure(bound: Bound, *, is_first: bool) -> str:
    lower, sigma = signed(bound.lower_pct), f"{bound.sigma_pct:.1f} %"
    words = f"lower bound {lower}, sigma {sigma}" if is_first else f"{lower}, {sigma}"
    return f"{label(bound.metric)} {signed(bound.delta_pct)} ({words})"
