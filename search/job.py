"""What a trial's process is told, and what it tells back; plain values, no heavy imports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """One trial's work order.

    Args:
        folder: The trial folder; audio goes below it.
        model: As in ``tts.build.build``.
        device: As in ``tts.build.build``.
        options: ``Options.to_mapping``, canonical.
        repeats: Timed batches; with 0 nothing is timed.
        warmup: Batches before them.
        texts: What the timed batches speak, in turn.
        measure_ttfa: Whether to time the first chunk of a stream (batch 1).
        utterances: Prompts to speak for the judge: id, text and seed; may be empty.
        render: The baseline's speech tokens to render: id and a list of tokens per sentence.
        n_render_own: With no ``render``: how many of its own utterances to render anew, so that
            others can be compared with them; as many go into the file that candidates are
            screened with.
        fidelity: That file of the baseline's, for a candidate; "" for the baseline, and where the
            baseline has none.
    """

    folder: str
    model: str
    device: str
    options: Mapping[str, Any]
    repeats: int
    warmup: int
    texts: tuple[str, ...]
    measure_ttfa: bool
    utterances: tuple[Mapping[str, Any], ...] = ()
    render: tuple[Mapping[str, Any], ...] = ()
    n_render_own: int = 0
    fidelity: str = ""

    def to_json(self) -> str:
        """Return JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read JSON text."""
        values = json.loads(text)
        for name in ("texts", "utterances", "render"):
            values[name] = tuple(values[name])
        return cls(**values)
