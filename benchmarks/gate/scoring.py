"""Score sound that is in memory: written to a folder of its own, judged, and forgotten."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gate.voices import SAMPLE_RATE_HZ, Spoken
from evaluation.judge import Judge
from evaluation.prompts import Prompt
from evaluation.scores import Clip, UtteranceScores

METRICS = ("guards", "dnsmos", "wer")
"""What the gate decides on; PESQ informs and is left out."""


def score(
    judge: Judge,
    prompts: Sequence[Prompt],
    spoken: Sequence[Spoken],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[UtteranceScores]:
    """Judge one utterance per prompt; each is called by its prompt's name."""
    with tempfile.TemporaryDirectory(prefix="gate-") as name:
        clips = write_clips(Path(name), prompts, spoken)
        return judge.score(clips, on_progress=on_progress)


def write_clips(folder: Path, prompts: Sequence[Prompt], spoken: Sequence[Spoken]) -> list[Clip]:
    """Write one wav file per prompt."""
    pairs = zip(prompts, spoken, strict=True)
    return [write_clip(folder, prompt, audio) for prompt, audio in pairs]


def write_clip(folder: Path, prompt: Prompt, spoken: Spoken) -> Clip:
    """Write one utterance, as 32-bit floats, as a sweep does; return it as the judge takes it."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prompt.id}.wav"
    soundfile.write(path, spoken.samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    return Clip(
        utterance_id=prompt.id,
        wav_path=path,
        reference=prompt.reference,
        n_truncated=spoken.n_truncated,
        n_tokens=sum(map(len, spoken.tokens)),
        tokens=spoken.tokens,
    )
