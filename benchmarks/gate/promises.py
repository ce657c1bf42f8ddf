"""What the gate promises, beside what was found."""

from __future__ import annotations

import math
from typing import Any

Result = dict[str, Any]


def promises(points: list[Result]) -> list[Result]:
    """Return the issue's promises voice by voice: what was asked, what was found, met or not.

    A test at 95 % accepts a loss of exactly the budget in 5 of 100 judgements, so half of all
    measurements of that lie above 5. What is missed by less than two standard errors of as many
    draws is therefore called within the noise.
    """
    found = []
    for row in points:
        for what, value, limit, at_most in _asked(row):
            missed_by = value - limit if at_most else limit - value
            noise = 2 * math.sqrt(limit * (1 - limit) / row["n_draws"])
            outcome = "met" if missed_by <= 0 else "noise" if missed_by <= noise else "MISSED"
            found.append(
                {
                    "voice": row["voice"],
                    "n": row["n"],
                    "what": what,
                    "value": value,
                    "asked": f"{'<=' if at_most else '>='} {limit:g}",
                    "outcome": outcome,
                    "n_draws": row["n_draws"],
                }
            )
    return found


def _asked(row: Result) -> list[tuple[str, float, float, bool]]:
    """List (what, value, limit, whether it is the most) of one operating point."""
    if row["ruins"] in ("exactly", "by chance"):
        how = "2 % ruined" if row["ruins"] == "exactly" else "each ruined with chance 2 %"
        return [
            (f"{how}: caught", 1 - row["accepted"], 0.90, False),
            (f"{how}: accepted by the mean alone", row["mean_alone_accepts"], 0.90, False),
        ]
    return {
        0.0: [("baseline against itself: rejected", row["rejected"], 0.05, True)],
        2.0: [("true loss of 2 %: accepted", row["accepted"], 0.95, False)],
        5.0: [("true loss of 5 %: accepted", row["accepted"], 0.05, True)],
        10.0: [
            ("true loss of 10 %: share of the utterances", row["mean_spent"] / row["n"], 0.25, True)
        ],
    }.get(row["loss_pct"], [])
