"""What is kept of a gate's arming, and what it means for a study; light, for every command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.errors import InfrastructureError
from search.sections import ConfirmConfig

ARMING = "arming.json"
CONFIRMATION = "confirmation.json"


def read_arming(folder: Path) -> dict[str, Any] | None:
    """Return what a study's ``arming.json`` holds; None where there is none.

    Returns:
        ``key`` (what it depends on), ``seconds`` (all that it took) and ``arming`` (an ``Arming``
        as a mapping).

    Raises:
        InfrastructureError: It is damaged.
    """
    path = folder / ARMING
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        arming = found["arming"]
        if arming["armed"] is not (not arming["missed"]):
            raise ValueError("it says both that the gate is armed and that it is not")
        return {"key": str(found["key"]), "seconds": float(found["seconds"]), "arming": arming}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(
            f"cannot read {path}: {error}; remove it and run the same command again, which arms "
            "the gate anew"
        ) from error


def why_nothing_passes(arming: Mapping[str, Any] | None, n: int) -> str:
    """Say why nothing can pass and what to do about it; "" where the gate is armed or untried.

    Args:
        arming: As a mapping.
        n: Prompts of the search.
    """
    if arming is None or arming["armed"]:
        return ""
    missed = " ".join(arming["missed"])
    return (
        f"the gate is not armed on this baseline, so nothing can pass. {missed} Give it more "
        f"prompts (prompts.n is {n}) or margins that this baseline keeps against itself (gate), "
        "leave out a canary that is no damage to this voice (arming.canaries), and run it as "
        "another study"
    )


def planned(confirm: ConfirmConfig, folder: Path) -> ConfirmConfig:
    """Return a confirmation with the utterances that it really takes, where ``auto`` asks for it.

    All that only read a study must ask for as many as the sweep does.

    Raises:
        InfrastructureError: What the sweep kept is damaged.
    """
    path = folder / CONFIRMATION
    if not confirm.auto or not path.exists():
        return confirm
    try:
        return replace(confirm, n=int(json.loads(path.read_text(encoding="utf-8"))["n"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InfrastructureError(
            f"cannot read {path}: {error}; remove it and run the same command again"
        ) from error
