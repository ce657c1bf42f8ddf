"""The voice with continuous batching: the same audio as with static batching."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tts.embedded.flow import Flow
from tts.embedded.generation import Generator
from tts.embedded.state import Row
from tts.types import Built, Utterance

TEXTS = (
    "One two.",
    "The quick brown fox sleeps. Then nothing happens for a while.",
    "Hello there! How are you today, my friend?",
    "Seven.",
    "Seven.",
)


@pytest.fixture
def many() -> list[Utterance]:
    return [Utterance(id=str(i), text=text, seed=i % 4) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize(("kv_cache", "batch_size"), [("static", 2), ("paged", 3)])
def test_any_number_of_utterances_sound_as_in_static_batches(
    speak_with: Callable[..., Built], many: list[Utterance], kv_cache: str, batch_size: int
) -> None:
    voice = speak_with(kv_cache=kv_cache, batching="continuous", batch_size=batch_size).synthesizer
    audios = voice.synthesize(many)
    expected = speak_with(batch_size=len(many)).synthesizer.synthesize(many)
    for audio, other in zip(audios, expected, strict=True):
        assert audio.utterance_id == other.utterance_id
        assert audio.tokens == other.tokens
        assert audio.n_truncated == other.n_truncated
        assert np.abs(audio.samples - other.samples).max() < 1e-4
    assert set(voice.stats()) == {"text_s", "decode_s", "vocoder_s"}  # type: ignore[attr-defined]


def test_a_second_call_finds_the_rows_empty(
    speak_with: Callable[..., Built], many: list[Utterance]
) -> None:
    voice = speak_with(kv_cache="paged", batching="continuous", batch_size=2).synthesizer
    first, second = voice.synthesize(many), voice.synthesize(many[::-1])[::-1]
    assert [a.tokens for a in first] == [a.tokens for a in second]


def test_whoever_stops_listening_leaves_no_rows_behind(speak_with: Callable[..., Built]) -> None:
    built = speak_with(kv_cache="paged", batching="continuous", batch_size=2)
    generator = built.synthesizer.generator  # type: ignore[attr-defined]
    assert isinstance(generator, Generator)
    flow = Flow(generator, 2)
    rows = [
        Row(characters=(80, 90, 100), seed=i, sentence=0, cap=cap)
        for i, cap in enumerate((2, 30, 30, 30))
    ]
    speaking = flow.run(iter(rows))
    next(speaking)
    speaking.close()
    assert [f.request for f in flow.run(rows[2:])] == rows[2:]


@pytest.mark.parametrize("kv_cache", ["static", "paged"])
def test_the_kernels_of_continuous_batching_are_observed(
    speak_with: Callable[..., Built],
    many: list[Utterance],
    monkeypatch: pytest.MonkeyPatch,
    kv_cache: str,
) -> None:
    def another(*_: object) -> None:
        raise AssertionError("a static batch would have a cache and graphs of its own")

    voice = speak_with(kv_cache=kv_cache, batching="continuous", batch_size=2).synthesizer
    assert voice.observed() == {"cuda_graphs": "0"}  # type: ignore[attr-defined]
    before = [audio.tokens for audio in voice.synthesize(many)]
    monkeypatch.setattr("tts.embedded.voice.Batch", another)
    observed = voice.observed()  # type: ignore[attr-defined]
    assert observed["attention_prefill"] == observed["attention_step"] == "attention_math"
    # All rows and pages are free again, and nobody hears of it.
    assert [audio.tokens for audio in voice.synthesize(many)] == before


def test_what_was_captured_is_run_again_to_be_watched(
    speak_with: Callable[..., Built], many: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Graph:
        """Counts replays; its dry run is one step."""

        def __init__(self, step: Callable[[], torch.Tensor], device: torch.device) -> None:
            del device
            self.step = step
            step()

        def __call__(self) -> torch.Tensor:
            n_replays.append(1)
            return self.step()

    n_replays: list[int] = []
    voice = speak_with(kv_cache="static", batching="continuous", batch_size=2).synthesizer
    voice.generator.has_graph = True  # type: ignore[attr-defined]
    for module in ("open_batch", "prefill"):
        monkeypatch.setattr(f"tts.embedded.{module}.StepGraph", Graph)
    voice.synthesize(many)
    n_before, n_graphs = len(n_replays), voice.generator.n_graphs  # type: ignore[attr-defined]
    assert n_before > 0
    voice.observed()  # type: ignore[attr-defined]
    assert len(n_replays) == n_before
    assert voice.generator.n_graphs == n_graphs  # type: ignore[attr-defined]


def test_nothing_to_speak_is_no_audio(speak_with: Callable[..., Built]) -> None:
    voice = speak_with(kv_cache="static", batching="continuous", batch_size=2).synthesizer
    assert voice.synthesize([]) == []


def test_after_a_fault_of_the_device_the_next_call_speaks(
    speak_with: Callable[..., Built], many: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = speak_with(kv_cache="paged", batching="continuous", batch_size=2).synthesizer
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise torch.OutOfMemoryError("the device is full")

        patch.setattr("tts.embedded.prefill.Prefill.__call__", full)
        with pytest.raises(torch.OutOfMemoryError):
            voice.synthesize(many[:1])
    assert voice.synthesize(many[:1])[0].n_tokens > 0


def test_a_second_run_beside_one_that_is_not_over_is_refused(
    speak_with: Callable[..., Built],
) -> None:
    built = speak_with(kv_cache="static", batching="continuous", batch_size=2)
    flow = Flow(built.synthesizer.generator, 2)  # type: ignore[attr-defined]
    rows = [Row(characters=(80, 90), seed=i, sentence=0, cap=3 + i) for i in range(3)]
    first = flow.run(rows)
    next(first)
    with pytest.raises(RuntimeError, match="not over"):
        next(flow.run(rows))
    assert len(list(first)) == 2
    assert len(list(flow.run(rows))) == 3
