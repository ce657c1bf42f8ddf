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
    """Write one wav file per prompt, as 32-bit floats, as a sweep does."""
    import soundfile

    clips = []
    for prompt, audio in zip(prompts, spoken, strict=True):
        path = folder / f"{prompt.id}.wav"
        soundfile.write(path, audio.samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        clips.append(
            Clip(
                utterance_id=prompt.id,
                wav_path=path,
                reference=prompt.reference,
                n_truncated=audio.n_truncated,
                n_tokens=sum(map(len, audio.tokens)),
                tokens=audio.tokens,
            )
        )
    return clips
