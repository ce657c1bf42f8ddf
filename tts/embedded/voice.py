"""The embedded voice: text in, 16 kHz audio out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import TypeVar

import torch

from tts import compilation
from tts.attention import only, watch
from tts.embedded.codec import N_CODES, SAMPLE_RATE_HZ, TOKEN_RATE_HZ
from tts.embedded.decoding import EmbeddedDecoding
from tts.embedded.flow import Flow
from tts.embedded.forcing import forced
from tts.embedded.generation import Batch, Generator
from tts.embedded.lm import EOS
from tts.embedded.state import Row, Spoken
from tts.embedded.streaming import pieces
from tts.embedded.text import encode, normalise, split_sentences
from tts.embedded.vocoder import Vocoder, join, pause
from tts.errors import TextError
from tts.options import Options
from tts.types import Audio, AudioChunk, GivenSentence, LogProbs, Samples, Utterance

_T = TypeVar("_T")


class EmbeddedVoice:
    """A ``Synthesizer`` and a ``TokenScorer``; see ``tts.types``.

    Args:
        generator: Draws the speech tokens.
        vocoder: Renders them.
        options: In canonical form.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
    end_token = EOS

    def __init__(self, generator: Generator, vocoder: Vocoder, options: Options) -> None:
        self.generator, self.vocoder, self.options = generator, vocoder, options
        self._seconds: dict[str, float] = {}
        self._last_rows: Sequence[Row] = ()
        self._flow = Flow(generator, options.batch_size)

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Audio]:
        """Speak one batch of at most ``batch_size`` utterances, or any with continuous batching.

        Raises:
            TextError: A text has nothing to speak; all such are named, and nothing is spoken.
            ValueError: More utterances than the batch size.
        """
        is_static = self.options.batching == "static"
        if is_static and len(utterances) > self.options.batch_size:
            raise ValueError(
                f"{len(utterances)} utterances, but batch_size is {self.options.batch_size}"
            )
        self._seconds = {}
        with self._timed("text_s"):
            rows = _batch_rows(utterances)
        spoken = self._speak([row for sentences in rows for row in sentences])
        audios = []
        for utterance, sentences in zip(utterances, rows, strict=True):
            mine, spoken = spoken[: len(sentences)], spoken[len(sentences) :]
            audios.append(_audio(utterance, mine))
        return audios

    def stream(self, utterance: Utterance) -> Iterator[AudioChunk]:
        """Speak one utterance piece by piece; joined, the pieces are what ``synthesize`` gives."""
        rows = _rows(utterance)
        for i, row in enumerate(rows):
            is_last_row = i + 1 == len(rows)
            for samples, is_end in pieces(self.generator, self.vocoder, row):
                is_last = is_end and is_last_row
                yield AudioChunk(samples=samples, sample_rate_hz=SAMPLE_RATE_HZ, is_last=is_last)
            if not is_last_row:
                yield AudioChunk(samples=pause(), sample_rate_hz=SAMPLE_RATE_HZ, is_last=False)

    def render(self, tokens: Sequence[Sequence[int]]) -> Samples:
        """Render given tokens, a sequence per sentence.

        Raises:
            ValueError: A token is no code of the codec.
        """
        for sentence in tokens:
            _check_tokens(sentence)
        return join([s for group in self._groups(tokens) for s in self.vocoder.sentences(group)])

    def log_probabilities(self, given: Sequence[GivenSentence]) -> Iterator[LogProbs]:
        """Say how likely every token was at each position; see ``TokenScorer``."""
        rows = [_given_row(sentence) for sentence in given]
        for group in self._groups(range(len(rows))):
            with torch.inference_mode(), only(self.options.attention):
                found = forced(
                    self.generator,
                    [rows[i] for i in group],
                    [given[i].tokens for i in group],
                    self.options.batch_size,
                )
            yield from found

    def stats(self) -> dict[str, float]:
        """Return the seconds of the last ``synthesize`` call, by stage."""
        return dict(self._seconds)

    def decoding(self, utterances: Sequence[Utterance]) -> EmbeddedDecoding:
        """Begin the first batch of some utterances for a profile; see ``tts.profiled``."""
        rows = [row for utterance in utterances for row in _rows(utterance)]
        return EmbeddedDecoding(self.generator, self.vocoder, self.options, rows)

    def observed(self) -> dict[str, str]:
        """Return what can only be seen after warm-up, in words for the record.

        The attention kernels are those of the last batch spoken, whose prefill and first step are
        run once more for this.
        """
        found = {"cuda_graphs": str(self.generator.n_graphs), **self._kernels()}
        if self.generator.fused is not None:
            found |= compilation.observe_fused(self.generator.fused)
        return {**found, **compilation.observe()} if self.generator.is_compiled else found

    @torch.inference_mode()
    def _kernels(self) -> dict[str, str]:
        if not self._last_rows:
            return {}
        with only(self.options.attention):
            in_prefill, in_step = self._watched()
        return {
            "attention_prefill": ", ".join(sorted(in_prefill)) or "none",
            "attention_step": ", ".join(sorted(in_step)) or self._nameless(),
        }

    def _watched(self) -> tuple[set[str], set[str]]:
        if self.options.batching == "continuous":
            return self._flow.kernels(self._last_rows)
        with watch() as in_prefill:
            batch = Batch(self.generator, self._last_rows)
        with watch() as in_step:
            batch.advance(1, is_watched=True)
        return in_prefill, in_step

    def _nameless(self) -> str:
        """Name the attention of a step in which no operator of that kind was seen."""
        if self.generator.fused is not None:
            ran = self.generator.fused.ran.values()
            kernels = {"attend" if way == "layers" else "decode_attention" for way in ran}
            return f"{' and '.join(sorted(kernels))}, in our fused step"
        if self.options.attention == "flex":
            return "flex_attention, compiled"
        return "attention_math, fused by the compiler" if self.generator.is_compiled else "none"

    def _speak(self, rows: Sequence[Row]) -> list[tuple[Spoken, Samples]]:
        """Speak rows, those of like length together."""
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i].characters))
        results: dict[int, tuple[Spoken, Samples]] = {}
        groups = list(self._groups(order))
        for group, spoken in zip(groups, self._spoken([rows[i] for i in order]), strict=True):
            with self._timed("vocoder_s"):
                samples = self.vocoder.sentences([s.tokens for s in spoken])
            results.update(zip(group, zip(spoken, samples, strict=True), strict=True))
        return [results[i] for i in range(len(rows))]

    def _spoken(self, rows: Sequence[Row]) -> Iterator[Sequence[Spoken]]:
        """Yield what rows say in groups of ``batch_size``; continuous batching speaks all first."""
        if self.options.batching == "static":
            yield from map(self._generate, self._groups(rows))
            return
        self._last_rows = ()  # until all have been spoken without a fault
        with self._timed("decode_s"):  # prefills lie between the steps
            spoken = self._flow.spoken(rows)
        self._last_rows = rows[: self.options.batch_size]
        yield from self._groups(spoken)

    def _groups(self, items: Sequence[_T]) -> Iterator[Sequence[_T]]:
        size = self.options.batch_size
        return (items[i : i + size] for i in range(0, len(items), size))

    @torch.inference_mode()
    def _generate(self, rows: Sequence[Row]) -> list[Spoken]:
        self._last_rows = rows
        with only(self.options.attention):
            with self._timed("prefill_s"):
                batch = Batch(self.generator, rows)
            with self._timed("decode_s"):
                while not batch.is_finished():
                    batch.advance(self.generator.look_every)
                return batch.spoken()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if self.generator.device.type == "cuda":
            torch.cuda.synchronize(self.generator.device)
        elapsed = time.perf_counter() - started
        self._seconds[stage] = self._seconds.get(stage, 0.0) + elapsed


def token_cap(n_characters: int) -> int:
    """Return the most tokens that so many characters may take: about twice slow speech."""
    return ceil(TOKEN_RATE_HZ * (1.5 + 0.14 * n_characters))


def _batch_rows(utterances: Sequence[Utterance]) -> list[list[Row]]:
    """Read every text before any is spoken, and name all that cannot be."""
    rows: list[list[Row]] = []
    problems: list[str] = []
    for utterance in utterances:
        try:
            rows.append(_rows(utterance))
        except TextError as error:
            problems.append(str(error))
    if problems:
        raise TextError("\n".join(problems))
    return rows


def _rows(utterance: Utterance) -> list[Row]:
    try:
        sentences = split_sentences(normalise(utterance.text))
    except TextError as error:
        raise TextError(f"utterance {utterance.id!r}: {error}") from error
    return [
        Row(
            characters=tuple(encode(sentence)),
            seed=utterance.seed,
            sentence=i,
            cap=token_cap(len(sentence)),
        )
        for i, sentence in enumerate(sentences)
    ]


def _given_row(given: GivenSentence) -> Row:
    _check_tokens(given.tokens)
    rows = _rows(given.utterance)
    if not 0 <= given.sentence < len(rows):
        raise ValueError(
            f"utterance {given.utterance.id!r} has {len(rows)} sentences, none of them number "
            f"{given.sentence}"
        )
    return rows[given.sentence]


def _check_tokens(tokens: Sequence[int]) -> None:
    for token in tokens:
        if not 0 <= token < N_CODES:
            raise ValueError(f"speech token {token} is outside [0, {N_CODES})")


def _audio(utterance: Utterance, sentences: Sequence[tuple[Spoken, Samples]]) -> Audio:
    return Audio(
        utterance_id=utterance.id,
        samples=join([samples for _, samples in sentences]),
        sample_rate_hz=SAMPLE_RATE_HZ,
        tokens=tuple(spoken.tokens for spoken, _ in sentences),
        n_truncated=sum(spoken.is_truncated for spoken, _ in sentences),
    )
