"""What an arming says: what a gate missed, and what would help a baseline of too wide a spread."""

from __future__ import annotations

import math

from evaluation import statistics
from evaluation.canary_trials import Judged
from evaluation.comparisons import MOS_METRICS
from evaluation.planning import MOST, PLANNED_POWER, Plan
from evaluation.verdict import Bound, GateConfig, Verdict

AGAIN_POWER = 0.95
"""How often the baseline should pass against itself at the n that is advised."""


def not_itself(verdict: Verdict, config: GateConfig) -> list[str]:
    """Say what is wrong when the baseline does not pass against itself, and what would help."""
    if verdict.status == "PASS":
        return []
    said = " ".join(verdict.reasons)
    word = {"FAIL": "is rejected", "UNDECIDED": "cannot be told from a worse one"}
    what = word.get(verdict.status, f"is {verdict.status}")
    advice = _advice(verdict, config) if verdict.status == "UNDECIDED" else ""
    return [f"The baseline heard again {what} (n={verdict.n}): {said}{advice}"]


def _advice(verdict: Verdict, config: GateConfig) -> str:
    """Say which n or which gate would decide where the baseline's own spread does not.

    Only what settles every open comparison is a way out; one that more utterances need not settle
    has no n.
    """
    open_bounds = [bound for bound in verdict.bounds if bound.status == "UNDECIDED"]
    needed = [_needed(bound, config) for bound in open_bounds]
    n = max(needed) if needed and all(needed) else 0
    gate: dict[str, float] = {}
    for bound in open_bounds:
        for key, value in _wider(bound).items():
            gate[key] = max(value, gate.get(key, 0.0))
    ways = [f"about n={n}"] if n > verdict.n else []
    ways += [f"a gate with {', '.join(f'{k} {v:g}' for k, v in gate.items())}"] if gate else []
    return f" It takes {', or '.join(ways)}." if ways else ""


def _needed(bound: Bound, config: GateConfig) -> int:
    """Return the utterances that let the baseline pass this comparison with itself; 0: unknown."""
    margins = {
        **dict.fromkeys(MOS_METRICS, config.mos_budget_pct),
        "wer": 100 * config.wer_margin,
        "noise_floor_dbfs": config.noise_floor_rise_db,
    }
    if bound.metric not in margins:
        return 0
    return statistics.required_n(
        bound.sigma_pct, 0.0, budget_pct=margins[bound.metric], confidence=config.confidence,
        power=AGAIN_POWER,
    )  # fmt: skip


def _wider(bound: Bound) -> dict[str, float]:
    """Return the gate's setting under which this very bound would have passed, rounded up."""
    if bound.metric in MOS_METRICS:
        return {"mos_budget_pct": math.floor(-10 * bound.lower_pct + 1) / 10}
    if bound.metric == "wer":
        return {"wer_margin": math.floor(10 * bound.upper_pct + 1) / 1000}
    if bound.metric == "bad_utterances":
        return {"max_bad_rate": math.floor(10 * bound.upper_pct + 1) / 1000}
    if bound.metric == "duration_s":
        return {"duration_drift_pct": math.floor(10 * abs(bound.delta_pct) + 1) / 10}
    if bound.metric == "noise_floor_dbfs":
        return {"noise_floor_rise_db": math.floor(10 * bound.upper_pct + 1) / 10}
    return {}


def needs(plan: Plan, n_final: int | None) -> str:
    """Say how often the voice ruins an utterance by itself, and what that asks for.

    Args:
        plan: Made from the baseline's two hearings.
        n_final: Utterances that the final judgement is to take; None where nobody has said.
    """
    said = (
        f"{plan.n_alone} of {plan.n_pairs} pairs are ruined on one hearing alone (up to "
        f"{100 * plan.alone_upper:.1f} % cannot be ruled out)"
    )
    if n_final is not None and plan.n is not None and plan.n <= n_final:
        return said
    takes = f"more than n={MOST}" if plan.n is None else f"n={plan.n}"
    more = "" if n_final is None else f", more than the confirmation's {n_final}"
    return f"{said}: accepting that loss {100 * PLANNED_POWER:g} times in 100 takes {takes}{more}"


def miss(judged: Judged) -> str:
    """Say what the gate should have said to a canary and did not."""
    because = f": {judged.reason}" if judged.reason else "."
    if judged.failures and not judged.harmless:
        failed = ", ".join(f"{name} failed on {n}" for name, n in judged.failures.items())
        said = "what is left accepts it" if judged.status == "PASS" else judged.status
        return (
            f"It cannot judge {judged.what}: {failed} of {judged.n} utterances, which proves no "
            f"damage ({said})."
        )
    if judged.harmless:
        return f"It does not accept {judged.what} ({judged.status}, n={judged.n}){because}"
    if judged.status == "PASS":
        return f"It accepts {judged.what} (n={judged.n})."
    return f"It cannot judge {judged.what} ({judged.status}, n={judged.n}){because}"
