"""Speak one sentence piece by piece: a small first piece, then ever larger ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tts.attention import only
from tts.embedded.generation import Batch, Generator
from tts.embedded.state import Row
from tts.embedded.vocoder import Vocoder, fade
from tts.types import Samples

FIRST_CHUNK_TOKENS = 4  # 0.16 s, while the next, twice as long, is made
MAX_CHUNK_TOKENS = 50


def pieces(generator: Generator, vocoder: Vocoder, row: Row) -> Iterator[tuple[Samples, bool]]:
    """Yield the audio of a sentence in pieces of growing length, and whether each is the last.

    A piece is rendered when so many tokens beyond its end are known as its audio depends on, so
    that joined pieces are the whole sentence. No more than a window of tokens is rendered at a
    time, and no audio is kept.
    """
    n_emitted, n_wanted = 0, FIRST_CHUNK_TOKENS
    with torch.inference_mode(), only(generator.options.attention):
        batch = Batch(generator, [row])
    while True:
        known = n_emitted + n_wanted + vocoder.context
        with torch.inference_mode(), only(generator.options.attention):
            batch.advance(known - batch.n_drawn)
            is_finished = batch.is_finished()
            tokens = batch.spoken()[0].tokens
        # A row may have ended among the steps just made.
        end = len(tokens) if is_finished else n_emitted + n_wanted
        samples = vocoder.piece(tokens, n_emitted, end)
        fade(samples, at_start=n_emitted == 0, at_end=is_finished)
        yield samples, is_finished
        if is_finished:
            return
        n_emitted, n_wanted = end, min(2 * n_wanted, MAX_CHUNK_TOKENS)
