"""What goes in and what comes out of a speech model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
LogProbs = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One text to speak.

    Args:
        id: A name that is unique within its prompt set.
        text: What to say, as a person would write it.
        seed: The seed of this utterance's own random stream, so that its audio does not
            depend on who shares its batch.
    """

    id: str
    text: str
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Audio:
    """One spoken utterance.

    Args:
        utterance_id: The ``Utterance.id`` it answers.
        samples: Shape (n_samples,), float32 in [-1, 1].
        sample_rate_hz: Samples per second.
        tokens: The speech tokens behind it, one tuple per sentence of the text; empty where the
            model has none.
        n_truncated: Sentences that reached the token cap without an end-of-speech token.
    """

    utterance_id: str
    samples: Samples
    sample_rate_hz: int
    tokens: tuple[tuple[int, ...], ...] = ()
    n_truncated: int = 0

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz

    @property
    def n_tokens(self) -> int:
        """How many speech tokens were decoded."""
        return sum(len(sentence) for sentence in self.tokens)


@dataclass(frozen=True, kw_only=True)
class AudioChunk:
    """One piece of a streamed utterance: shape (n_samples,), float32 in [-1, 1]."""

    samples: Samples
    sample_rate_hz: int
    is_last: bool


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What one optimization pass really did.

    Args:
        name: The pass, such as ``"quantization"``.
        value: The option's value that took effect.
        n_modules: How many modules it changed.
        detail: One line for the record, such as the names of what was converted.
    """

    name: str
    value: str
    n_modules: int
    detail: str


@runtime_checkable
class Synthesizer(Protocol):
    """A speech model as the rest of mosgate sees it."""

    sample_rate_hz: int

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Audio]:
        """Speak one batch; the audio is on the host and finished when this returns."""
        ...

    def stream(self, utterance: Utterance) -> Iterator[AudioChunk]:
        """Speak one utterance piece by piece; the first chunk sets the time to first audio."""
        ...

    def render(self, tokens: Sequence[Sequence[int]]) -> Samples:
        """Turn given speech tokens (a tuple per sentence) into audio: the vocoder alone.

        Raises:
            InapplicableError: The model has no speech tokens.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GivenSentence:
    """A sentence whose speech tokens are given: what a model is to say of them.

    Args:
        utterance: The utterance it is part of.
        sentence: Which sentence of the utterance, from 0, as in ``Audio.tokens``.
        tokens: Its speech tokens, without the end.
    """

    utterance: Utterance
    sentence: int
    tokens: tuple[int, ...]


@runtime_checkable
class TokenScorer(Protocol):
    """What a ``Synthesizer`` may be besides: a model that can be asked for its probabilities.

    ``end_token`` is the id of the end-of-speech decision.
    """

    end_token: int

    def log_probabilities(self, given: Sequence[GivenSentence]) -> Iterator[LogProbs]:
        """Say how likely every token was at each position of given sentences (teacher forcing).

        The sentences run through the very steps, cache and kernels that generation runs through,
        one token at a time in batches of ``batch_size``.

        Returns:
            One array per sentence, in order: natural log-probabilities, shape
            (n_tokens + 1, vocabulary), float32; row i before token i, the last one where the end
            is due. At temperature 1, without guidance and before any filter: sampling parameters
            do not change it.

        Raises:
            ValueError: A text has no such sentence, or a token is none of the model's.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Built:
    """A synthesizer with the options that took effect and what each pass did.

    Args:
        synthesizer: Ready to speak; compiled lazily, so the first calls warm it up.
        applied: One entry per pass, in order.
        load_s: Seconds from the first byte of the weights to a ready model, passes included.
        observed: What was seen while building. What can only be seen after warm-up (attention
            kernels, captured graphs, compiled graphs), a synthesizer tells by a method
            ``observed() -> dict[str, str]``, which it may have.
    """

    synthesizer: Synthesizer
    applied: tuple[Applied, ...]
    load_s: float
    observed: dict[str, str] = field(default_factory=dict)
