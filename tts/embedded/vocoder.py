"""Speech tokens in, waveform out: whole sentences in a batch, or piece by piece without a seam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tts.embedded.codec import (
    SAMPLE_RATE_HZ,
    SAMPLES_PER_TOKEN,
    CodecDecoder,
    code_digits,
    digit_values,
)
from tts.types import Samples

PAUSE_S = 0.14
FADE_S = 0.005
_N_FADE = round(FADE_S * SAMPLE_RATE_HZ)
_FADE = (0.5 - 0.5 * np.cos(np.pi * (np.arange(_N_FADE) + 0.5) / _N_FADE)).astype(np.float32)


class Vocoder:
    """Renders speech tokens with the codec decoder."""

    def __init__(self, codec: CodecDecoder, device: torch.device) -> None:
        self.codec, self.device = codec, device
        self.context = codec.config.context_tokens

    def sentences(self, rows: Sequence[Sequence[int]]) -> list[Samples]:
        """Render whole sentences in one batch, each faded at both ends."""
        return [fade(samples) for samples in self._decode(rows)]

    def piece(self, tokens: Sequence[int], start: int, end: int) -> Samples:
        """Render tokens ``start`` to ``end`` as they sound within all of ``tokens``.

        Only a window with ``context`` tokens on both sides is computed. Unless ``end`` is the
        sentence's last token, ``context`` tokens beyond it must be known.
        """
        first, stop = max(0, start - self.context), min(len(tokens), end + self.context)
        window = self._decode([tokens[first:stop]])[0]
        return window[(start - first) * SAMPLES_PER_TOKEN : (end - first) * SAMPLES_PER_TOKEN]

    @torch.inference_mode()
    def _decode(self, rows: Sequence[Sequence[int]]) -> list[Samples]:
        # One token of padding: the last frames of a row then overlap with silence in every batch.
        n = max(map(len, rows), default=0) + 1
        padded = [[*row, *[0] * (n - len(row))] for row in rows]
        codes = torch.tensor(padded, dtype=torch.int64, device=self.device).view(len(rows), n)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        waveform = self.codec(digit_values(code_digits(codes)), lengths).clamp(-1, 1).cpu().numpy()
        return [waveform[i, : len(row) * SAMPLES_PER_TOKEN].copy() for i, row in enumerate(rows)]


def fade(samples: Samples, *, at_start: bool = True, at_end: bool = True) -> Samples:
    """Fade 5 ms in and out, in place, so that nothing clicks where a sentence begins or ends."""
    n = min(_N_FADE, len(samples))
    if at_start:
        samples[:n] *= _FADE[:n]
    if at_end and n:
        samples[-n:] *= _FADE[:n][::-1]
    return samples


def pause() -> Samples:
    """Return the silence between two sentences."""
    return np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), dtype=np.float32)


def join(sentences: Sequence[Samples]) -> Samples:
    """Join sentences with a pause between each two."""
    if not sentences:
        return np.zeros(0, dtype=np.float32)
    pieces: list[Samples] = []
    for samples in sentences:
        pieces += [samples, pause()]
    return np.concatenate(pieces[:-1])
