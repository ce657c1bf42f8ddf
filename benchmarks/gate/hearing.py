"""The judge's recogniser in batches on a GPU: the same model and decoding, many clips at a time.

The judge hears one clip at a time on the CPU, because a score must not depend on a GPU. Sixteen
thousand clips take too long so; the figures that use this say how many of the words it wrote down
are those of the judge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import whisper
from whisper.audio import N_FRAMES, N_SAMPLES

from benchmarks.gate.voices import SAMPLE_RATE_HZ, Float
from evaluation import asr
from evaluation.asr.pieces import split_at_silence
from evaluation.audio import read_clip
from evaluation.metrics.wer import count_word_errors
from evaluation.scores import Clip

BATCH = 64
N_COMPARED = 24
NO_SPEECH = 0.6
MIN_LOGPROB = -1.0
"""Where both are missed, nothing was said: openai-whisper's own defaults."""


class BatchedEar:
    """The embedded ear on a device.

    Args:
        device: ``cpu`` or ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        self._one_by_one = asr.load("embedded")
        decoding = dict(self._one_by_one._decoding)
        del decoding["condition_on_previous_text"]  # there is no last window
        self._options = whisper.DecodingOptions(**decoding)
        self._model = self._one_by_one.model.to(device)
        self._device = device

    def transcribe(self, clips: Sequence[Float]) -> list[str]:
        """Write down what is said in each clip; shapes (n_samples,), 16 kHz."""
        pieces = [
            (i, piece)
            for i, clip in enumerate(clips)
            if len(clip)
            for piece in split_at_silence(clip, SAMPLE_RATE_HZ)
        ]
        heard: list[list[str]] = [[] for _ in clips]
        for start in range(0, len(pieces), BATCH):
            batch = pieces[start : start + BATCH]
            texts = self._decode([piece for _, piece in batch])
            for (i, _), text in zip(batch, texts, strict=True):
                heard[i].append(text)
        return [" ".join(filter(None, texts)) for texts in heard]

    @torch.inference_mode()
    def _decode(self, pieces: Sequence[Float]) -> list[str]:
        """Transcribe pieces that each fit Whisper's window."""
        mels = [
            whisper.pad_or_trim(
                whisper.log_mel_spectrogram(
                    torch.from_numpy(piece).to(self._device),
                    self._model.dims.n_mels,
                    padding=N_SAMPLES,
                ),
                N_FRAMES,
            )
            for piece in pieces
        ]
        results = whisper.decode(self._model, torch.stack(mels), self._options)
        return [
            "" if r.no_speech_prob > NO_SPEECH and r.avg_logprob <= MIN_LOGPROB else r.text.strip()
            for r in results
        ]


def compare_words(said: Sequence[Clip], heard: Sequence[str]) -> dict[str, int]:
    """Compare what the batched ear wrote with what the judge's own ear writes: clips and errors."""
    recogniser = asr.load("embedded")
    step = max(1, len(said) // N_COMPARED)
    clips, batched = said[::step], heard[::step]
    single = [recogniser.transcribe(read_clip(clip.wav_path)) for clip in clips]
    errors = [
        sum(count_word_errors(c.reference, text)[0] for c, text in zip(clips, texts, strict=True))
        for texts in (batched, single)
    ]
    return {
        "n": len(clips),
        "same": sum(a == b for a, b in zip(batched, single, strict=True)),
        "errors_batched": errors[0],
        "errors_judge": errors[1],
    }
