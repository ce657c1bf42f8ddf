"""Load a Whisper model by name and transcribe deterministically."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import whisper
from whisper.model import Whisper
from whisper.tokenizer import get_tokenizer

from evaluation.asr.embedded import WEIGHTS_DIRECTORY, load_ear, read_manifest
from evaluation.asr.pieces import split_at_silence
from evaluation.errors import MetricError
from evaluation.provenance import file_sha256

SAMPLE_RATE_HZ = 16_000
EMBEDDED = "embedded"

# One temperature and no memory of the last window: the same audio gives the same words.
_DECODING: dict[str, Any] = {
    "temperature": 0.0,
    "condition_on_previous_text": False,
    "language": "en",
    "fp16": False,
    "without_timestamps": True,
}


class Recogniser:
    """A Whisper model on the CPU.

    Args:
        name: What it was asked for as.
        model: openai-whisper's model.
        provenance: Where it comes from, for a record.
        threads: CPU threads while it works; a fixed number, because the order of a sum depends
            on it.
        decoding: Options beyond the common ones.
    """

    def __init__(
        self,
        name: str,
        model: Whisper,
        provenance: dict[str, str],
        *,
        threads: int = 1,
        decoding: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.model = name, model
        self.provenance, self.threads = provenance, threads
        self._decoding = _DECODING | (decoding or {})
        with warnings.catch_warnings():
            # Whisper leaves the vocabulary's file to the garbage collector; it is read only once.
            warnings.simplefilter("ignore", ResourceWarning)
            get_tokenizer(model.is_multilingual, num_languages=model.num_languages)

    def transcribe(self, samples: npt.ArrayLike) -> str:
        """Write down what is said.

        Args:
            samples: Shape (n_samples,), float in [-1, 1], 16 kHz; more than 28 s are cut at quiet
                places and transcribed piece by piece.

        Returns:
            The text, as the model writes it; empty where it hears nothing said.

        Raises:
            ValueError: Empty, not one-dimensional, not floating point, or not finite.
        """
        audio = _checked(samples)
        pieces = split_at_silence(audio, SAMPLE_RATE_HZ)
        with _threads(self.threads), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Performing inference on CPU when CUDA is available")
            results = [self.model.transcribe(piece, **self._decoding) for piece in pieces]
        return " ".join(text for r in results if (text := r["text"].strip()))


def load(asr: str, *, threads: int = 1) -> Recogniser:
    """Load a recogniser.

    Args:
        asr: ``"embedded"``, ``"embedded:DIRECTORY"`` with other weights of that layout, one of
            OpenAI's names such as ``"base.en"``, or the path of a Whisper checkpoint (``.pt``).
        threads: CPU threads it uses.

    Raises:
        MetricError: The name is unknown, or weights are missing, damaged or not to be had.
    """
    kind, _, directory = asr.partition(":")
    if kind == EMBEDDED:
        return _embedded(asr, Path(directory) if directory else WEIGHTS_DIRECTORY, threads)
    if asr.endswith(".pt"):
        return _checkpoint_file(asr, threads)
    if asr in whisper.available_models():
        return _openai(asr, threads)
    names = ", ".join(whisper.available_models())
    raise MetricError(f"asr {asr!r} is unknown: use 'embedded', a path ending in .pt, or {names}")


def _embedded(asr: str, directory: Path, threads: int) -> Recogniser:
    model = load_ear(directory)
    provenance = _versions() | {"asr": asr, "asr_sha256": read_manifest(directory)["sha256"]}
    # The ear ends at once where nothing is said: Whisper's default forbids that first token, and
    # divides by the length of the text, here 0, unless it is told of a penalty.
    decoding = {"suppress_blank": False, "length_penalty": 1.0}
    return Recogniser(asr, model, provenance, threads=threads, decoding=decoding)


def _checkpoint_file(asr: str, threads: int) -> Recogniser:
    try:
        model = whisper.load_model(asr, device="cpu")
    except Exception as error:  # torch.load and Whisper raise many kinds for a file that is none
        raise MetricError(f"{asr}: not a Whisper checkpoint that can be read: {error}") from error
    provenance = _versions() | {"asr": asr, "asr_sha256": file_sha256(Path(asr))}
    return Recogniser(asr, model.eval(), provenance, threads=threads)


def _openai(asr: str, threads: int) -> Recogniser:
    try:
        model = whisper.load_model(asr, device="cpu")
    except (OSError, RuntimeError) as error:
        url = whisper._MODELS[asr]
        raise MetricError(
            f"asr {asr!r} cannot be loaded ({error}): it is downloaded once and needs a network. "
            f"Put {url} into ~/.cache/whisper/ as {url.rsplit('/', 1)[-1]}, "
            "or use 'asr: embedded', which needs none"
        ) from error
    # Whisper checks the file against the checksum in its address.
    provenance = _versions() | {"asr": asr, "asr_sha256": whisper._MODELS[asr].split("/")[-2]}
    return Recogniser(asr, model.eval(), provenance, threads=threads)


def _versions() -> dict[str, str]:
    return {"openai_whisper": whisper.__version__, "torch": torch.__version__}


def _checked(samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
    audio = np.asarray(samples)
    if audio.ndim != 1 or not audio.size:
        raise ValueError(f"audio of shape {audio.shape}: expected (n_samples,), not empty")
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio of type {audio.dtype}: expected floats in [-1, 1]")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    return audio.astype(np.float32)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
