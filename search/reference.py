"""What candidates are compared with: the baseline as its folder tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.scores import UtteranceScores
from search.errors import InfrastructureError
from search.fidelity import FIDELITY, load
from search.folder import CLIPS


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What candidates are compared with: the baseline's scores, tokens and renderings.

    Args:
        scores: One per utterance.
        tokens: Utterance id to speech tokens, of the first few utterances.
        renders: Utterance id to a wav of those tokens by the baseline's vocoder.
        fidelity: The file that candidates are screened with, or None where there is none.
    """

    scores: tuple[UtteranceScores, ...]
    tokens: Mapping[str, Any] = field(default_factory=dict)
    renders: Mapping[str, Path] = field(default_factory=dict)
    fidelity: Path | None = None


def load_reference(folder: Path, scores: Sequence[Mapping[str, Any]]) -> Reference:
    """Read back what candidates are compared with from the baseline's trial folder."""
    try:
        saved = json.loads((folder / CLIPS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InfrastructureError(
            f"cannot read the baseline's {CLIPS}: {error}; remove {folder} and run the same "
            "command again, which runs the baseline anew"
        ) from error
    renders = {k: folder / v for k, v in saved["renders"].items()}
    fidelity = _fidelity(folder)
    tokens = {k: saved["clips"][k]["tokens"] for k in renders if k in saved["clips"]}
    found = tuple(UtteranceScores.from_mapping(s) for s in scores)
    return Reference(scores=found, tokens=tokens, renders=renders, fidelity=fidelity)


def _fidelity(folder: Path) -> Path | None:
    """Return the file that candidates are screened with, if the baseline wrote one."""
    path = folder / FIDELITY
    try:
        load(path)
    except FileNotFoundError:  # an older baseline's, or one that does not tell probabilities
        return None
    except (OSError, ValueError) as error:
        raise InfrastructureError(
            f"cannot read the baseline's {FIDELITY}: {error}; remove it, and candidates are "
            f"judged without that screen, or remove {folder} to run the baseline anew"
        ) from error
    return path
