"""The token-level screen in a trial's process: what the baseline keeps, and what is held to it.

The baseline writes its probabilities of its own tokens into its trial folder; a candidate that is
timed and may still win is fed the same tokens, before it speaks, and reports how far it is off.
What that means is for ``evaluation.fidelity`` and the parent to say. Temperature, top-p and
guidance do not enter: candidates that differ in nothing else get the same figures, and the gate
hears the rest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.drift import Sketch, compare, sketch
from evaluation.fidelity import FidelityStats, summarise

if TYPE_CHECKING:
    from tts.types import GivenSentence, TokenScorer, Utterance

FIDELITY = "fidelity.npz"
# One position takes a decode step: 17 ms of a busy CPU core in float32, see benchmarks/fidelity.
N_POSITIONS = 128
_ARRAYS = ("targets", "ids", "log_probs", "rest", "target_log_probs", "end_log_probs")


def choose(
    utterances: Sequence[Utterance],
    tokens: Mapping[str, Sequence[Sequence[int]]],
    n_positions: int = N_POSITIONS,
) -> list[GivenSentence]:
    """Return the baseline's shortest sentences that fit: the more sentences, the more ends.

    Args:
        utterances: What was spoken.
        tokens: Utterance id to a sequence of tokens per sentence.
        n_positions: The most positions in all; one sentence is taken even if it is longer.
    """
    from tts.types import GivenSentence

    found = [
        GivenSentence(utterance=utterance, sentence=i, tokens=tuple(sentence))
        for utterance in utterances
        for i, sentence in enumerate(tokens.get(utterance.id, ()))
        if sentence
    ]
    chosen: list[GivenSentence] = []
    for one in sorted(found, key=lambda s: (len(s.tokens), s.utterance.id, s.sentence)):
        used = sum(len(s.tokens) + 1 for s in chosen)
        if chosen and used + len(one.tokens) + 1 > n_positions:
            break
        chosen.append(one)
    return chosen


def keep(model: TokenScorer, given: Sequence[GivenSentence], path: Path) -> None:
    """Write what candidates are held to, atomically; nothing when there is no sentence."""
    if not given:
        return
    found = [
        sketch(f"{s.utterance.id}/{s.sentence}", log_probs, s.tokens, model.end_token)
        for s, log_probs in zip(given, model.log_probabilities(given), strict=True)
    ]
    save(path, found)


def measure(model: TokenScorer, path: Path, utterances: Sequence[Utterance]) -> FidelityStats:
    """Feed a candidate the baseline's tokens and say how far it is off.

    Args:
        model: Compiled and warm.
        path: What ``keep`` wrote.
        utterances: The trial's, the baseline's among them.

    Raises:
        ValueError: The model has another end, other tokens or other sentences than the baseline.
    """
    from tts.types import GivenSentence

    baseline, known = load(path), {u.id: u for u in utterances}
    given = []
    for one in baseline:
        if one.end_token != model.end_token:
            raise ValueError(
                f"the end is token {model.end_token}, and {one.end_token} in the baseline"
            )
        name, _, sentence = one.name.rpartition("/")
        tokens = tuple(int(token) for token in one.targets[:-1])
        given.append(GivenSentence(utterance=known[name], sentence=int(sentence), tokens=tokens))
    pairs = zip(baseline, model.log_probabilities(given), strict=True)
    return summarise([compare(theirs, ours) for theirs, ours in pairs])


def save(path: Path, sketches: Sequence[Sketch]) -> None:
    """Write sketches as one npz file, whole or not at all."""
    values: dict[str, Any] = {
        "names": np.array([s.name for s in sketches]),
        "ends": np.array([s.end_token for s in sketches], dtype=np.int32),
        "lengths": np.array([len(s.targets) for s in sketches], dtype=np.int32),
    }
    values |= {name: np.concatenate([getattr(s, name) for s in sketches]) for name in _ARRAYS}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **values)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> list[Sketch]:
    """Read what ``save`` wrote.

    Raises:
        OSError: There is no such file.
        ValueError: It is damaged.
    """
    try:
        # Opened here, because numpy leaves a file open that it cannot read.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            values = {name: file[name] for name in (*_ARRAYS, "names", "ends", "lengths")}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise ValueError(f"{path}: not a file of probabilities: {error}") from error
    stops = np.cumsum(values["lengths"])
    return [
        Sketch(
            name=str(values["names"][i]),
            end_token=int(values["ends"][i]),
            **{name: values[name][stop - n : stop] for name in _ARRAYS},
        )
        for i, (stop, n) in enumerate(zip(stops, values["lengths"], strict=True))
    ]
