"""Real speech for the judge's figures: our voice and every voice of flite and espeak-ng."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import soundfile

from benchmarks.gate import scoring
from benchmarks.gate.damage import RUINS
from benchmarks.gate.voices import VOICES, Float, Speaker, Spoken, flite, speaker
from evaluation.prompts import Prompt
from evaluation.scores import Clip

MORE: dict[str, Speaker] = {
    f"flite_{name}": flite(name, has_pitch=False) for name in ("kal", "kal16", "awb")
}
ALL_VOICES = (*VOICES, *MORE)
"""All that say any sentence: flite's awb_time tells the time and nothing else."""


def write_clip(folder: Path, prompt: Prompt, spoken: Spoken) -> Clip:
    """Write one utterance under a name that no other folder has."""
    clip = scoring.write_clip(folder, prompt, spoken)
    return replace(clip, utterance_id=f"{folder.name}/{prompt.id}")


def speak(voice: str, prompts: Sequence[Prompt], seed: int, folder: Path) -> list[Clip]:
    """Speak prompts with one voice and write them to a folder of that name and seed."""
    # A voice that is not installed is in nobody's way until it is asked for.
    speak_with = MORE[voice] if voice in MORE else speaker(voice)
    said = speak_with(prompts, seed)
    into = folder / f"{voice}-{seed}"
    return [write_clip(into, prompt, one) for prompt, one in zip(prompts, said, strict=True)]


def ruin(clip: Clip, kind: str, folder: Path, prompt: Prompt) -> Clip:
    """Ruin one utterance in one of the gate's ways."""
    samples: Float = soundfile.read(clip.wav_path, dtype="float32")[0]
    ruined = RUINS[kind](samples, random.Random(f"{kind}/{clip.utterance_id}"))
    into = folder / f"{kind}-{clip.wav_path.parent.name}"
    return write_clip(into, prompt, Spoken(samples=ruined))
