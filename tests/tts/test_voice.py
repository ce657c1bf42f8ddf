"""The whole voice: the same answer whatever the way of running it."""

from collections.abc import Callable

import numpy as np
import pytest

from tts import compilation
from tts import kv_cache as caches
from tts.embedded.codec import SAMPLES_PER_TOKEN
from tts.embedded.voice import token_cap
from tts.errors import InapplicableError, TextError
from tts.options import Sampling
from tts.types import Audio, Built, Synthesizer, Utterance

GREEDY = Sampling(temperature=0.0)
LONG = "One two three. Four five six seven! And at last there comes an eighth one?"


def tokens(audios: list[Audio]) -> list[tuple[tuple[int, ...], ...]]:
    return [audio.tokens for audio in audios]


@pytest.fixture
def reference(speak_with: Callable[..., Built], utterances: list[Utterance]) -> list[Audio]:
    return speak_with(sampling=GREEDY, batch_size=3).synthesizer.synthesize(utterances)


@pytest.mark.parametrize("attention", ["math", "flash"])
@pytest.mark.parametrize("kv_cache", ["none", "dynamic", "static", "bucketed", "paged"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_greedy_tokens_are_equal(
    monkeypatch: pytest.MonkeyPatch,
    speak_with: Callable[..., Built],
    utterances: list[Utterance],
    reference: list[Audio],
    attention: str,
    kv_cache: str,
    batch_size: int,
) -> None:
    monkeypatch.setattr(caches, "FIRST_BUCKET", 16)  # every utterance outgrows a bucket or two
    built = speak_with(
        sampling=GREEDY, attention=attention, kv_cache=kv_cache, batch_size=batch_size
    )
    audios = []
    for i in range(0, 3, batch_size):
        audios += built.synthesizer.synthesize(utterances[i : i + batch_size])
    assert tokens(audios) == tokens(reference)
    for audio, expected in zip(audios, reference, strict=True):
        assert np.abs(audio.samples - expected.samples).max() < 1e-4


def test_an_8_bit_cache_begins_as_the_exact_one(
    speak_with: Callable[..., Built], utterances: list[Utterance], reference: list[Audio]
) -> None:
    audios = speak_with(
        sampling=GREEDY, kv_cache="static_int8", batch_size=3
    ).synthesizer.synthesize(utterances)
    assert [a.tokens[0][0] for a in audios] == [r.tokens[0][0] for r in reference]
    assert [a.n_tokens for a in audios] == pytest.approx([r.n_tokens for r in reference], rel=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_speak(
    speak_with: Callable[..., Built], utterances: list[Utterance], precision: str
) -> None:
    audios = speak_with(precision=precision, batch_size=3).synthesizer.synthesize(utterances)
    assert all(np.isfinite(audio.samples).all() and len(audio.samples) for audio in audios)


def test_sampled_tokens_do_not_depend_on_the_batch(
    speak_with: Callable[..., Built], utterances: list[Utterance]
) -> None:
    together = speak_with(batch_size=3).synthesizer.synthesize(utterances)
    alone = speak_with().synthesizer
    assert tokens(together) == [alone.synthesize([u])[0].tokens for u in utterances]
    assert tokens(together)[::-1] == tokens(
        speak_with(batch_size=3).synthesizer.synthesize(utterances[::-1])
    )


def test_a_seed_repeats_itself_and_another_does_not(speak_with: Callable[..., Built]) -> None:
    voice = speak_with(sampling=Sampling(temperature=1.0)).synthesizer
    first, again, other = (
        voice.synthesize([Utterance(id="a", text="One two three.", seed=seed)])[0].tokens
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_sentences_of_an_utterance_draw_from_streams_of_their_own(
    speak_with: Callable[..., Built],
) -> None:
    voice = speak_with(sampling=Sampling(temperature=1.0)).synthesizer
    sentence = "The same words stand here again and again today."
    audio = voice.synthesize([Utterance(id="a", text=f"{sentence} {sentence}")])[0]
    assert len(audio.tokens) == 2
    assert audio.tokens[0] != audio.tokens[1]


@pytest.mark.parametrize("kv_cache", ["dynamic", "static"])
@pytest.mark.parametrize("text", ["One two.", LONG])
def test_a_stream_is_what_one_shot_gives(
    speak_with: Callable[..., Built], text: str, kv_cache: str
) -> None:
    voice = speak_with(kv_cache=kv_cache, batch_size=1).synthesizer
    utterance = Utterance(id="a", text=text, seed=3)
    whole = voice.synthesize([utterance])[0].samples
    chunks = list(voice.stream(utterance))
    joined = np.concatenate([chunk.samples for chunk in chunks])
    assert joined.shape == whole.shape
    assert np.abs(joined - whole).max() < 1e-4
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_stream_begins_small(speak_with: Callable[..., Built]) -> None:
    chunks = list(speak_with(sampling=GREEDY).synthesizer.stream(Utterance(id="a", text=LONG)))
    assert len(chunks) > 3
    assert len(chunks[0].samples) == 4 * SAMPLES_PER_TOKEN


def test_rendering_its_own_tokens_gives_its_own_audio(speak_with: Callable[..., Built]) -> None:
    voice = speak_with(batch_size=2).synthesizer
    audio = voice.synthesize([Utterance(id="a", text=LONG)])[0]
    assert np.abs(voice.render(audio.tokens) - audio.samples).max() < 1e-5


def test_rendering_refuses_what_is_no_code(speak_with: Callable[..., Built]) -> None:
    with pytest.raises(ValueError, match="15360"):
        speak_with().synthesizer.render([[1, 15_360]])


def test_guidance_changes_the_tokens_and_weight_one_runs_half_the_rows(
    speak_with: Callable[..., Built],
) -> None:
    utterance = Utterance(id="a", text="One two three.")
    voices = [
        speak_with(sampling=Sampling(temperature=0.0, cfg_weight=w)).synthesizer for w in (1, 3)
    ]
    first, second = (voice.synthesize([utterance])[0].tokens for voice in voices)
    assert first != second
    assert not voices[0].generator.is_guided


def test_a_row_that_reaches_its_cap_counts_as_truncated(reference: list[Audio]) -> None:
    for audio in reference:
        assert audio.n_truncated in (0, 1)
        assert (audio.n_tokens < 25 * 1.5) or audio.n_truncated in (0, 1)
    assert any(audio.n_truncated for audio in reference)
    first = reference[0]
    assert first.n_tokens == token_cap(len("one two."))


def test_more_utterances_than_the_batch_size_raise(
    speak_with: Callable[..., Built], utterances: list[Utterance]
) -> None:
    with pytest.raises(ValueError, match="batch_size is 1"):
        speak_with().synthesizer.synthesize(utterances)


def test_text_that_cannot_be_spoken_names_its_utterance(speak_with: Callable[..., Built]) -> None:
    with pytest.raises(TextError, match="'x'"):
        speak_with().synthesizer.synthesize([Utterance(id="x", text="")])


def test_it_is_a_synthesizer(speak_with: Callable[..., Built]) -> None:
    built = speak_with()
    assert isinstance(built.synthesizer, Synthesizer)
    assert built.load_s > 0


def test_stats_time_the_stages(
    speak_with: Callable[..., Built], utterances: list[Utterance]
) -> None:
    voice = speak_with(batch_size=3).synthesizer
    voice.synthesize(utterances)
    assert set(voice.stats()) == {"text_s", "prefill_s", "decode_s", "vocoder_s"}
    assert all(seconds > 0 for seconds in voice.stats().values())


@pytest.mark.parametrize(
    ("attention", "kernel"), [("math", "attention_math"), ("flash", "flash_attention_for_cpu")]
)
@pytest.mark.parametrize("kv_cache", ["none", "dynamic", "static_int8"])
def test_the_attention_kernel_that_ran_is_observed(
    speak_with: Callable[..., Built],
    utterances: list[Utterance],
    attention: str,
    kernel: str,
    kv_cache: str,
) -> None:
    voice = speak_with(attention=attention, kv_cache=kv_cache, batch_size=3).synthesizer
    assert voice.observed() == {"cuda_graphs": "0"}
    before = tokens(voice.synthesize(utterances))
    seen = voice.observed()
    assert seen["attention_prefill"] == seen["attention_step"] == kernel
    assert tokens(voice.synthesize(utterances)) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # inductor's import
@pytest.mark.parametrize(
    "options",
    [
        {"kv_cache": "static"},
        {"kv_cache": "static", "compile": "default"},
    ],
    ids=str,
)
def test_flex_attention_speaks_the_same_tokens(
    speak_with: Callable[..., Built],
    utterances: list[Utterance],
    reference: list[Audio],
    options: dict[str, str],
) -> None:
    """One kernel is compiled, whatever the lengths."""
    built = speak_with(sampling=GREEDY, batch_size=3, attention="flex", **options)
    before = int(compilation.observe()["compiled_graphs"])
    assert tokens(built.synthesizer.synthesize(utterances)) == tokens(reference)
    observed = built.synthesizer.observed()
    assert int(observed["compiled_graphs"]) == before + 1
    assert observed["attention_prefill"] == "flash_attention_for_cpu"
    assert observed["attention_step"] == "flex_attention, compiled"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # inductor's import
def test_compiled_steps_speak_the_same_tokens(
    speak_with: Callable[..., Built], utterances: list[Utterance], reference: list[Audio]
) -> None:
    n_graphs = 0
    for attention in ("math", "flash"):
        built = speak_with(
            sampling=GREEDY,
            kv_cache="static",
            compile="default",
            attention=attention,
            batch_size=3,
        )
        assert tokens(built.synthesizer.synthesize(utterances)) == tokens(reference)
        observed = built.synthesizer.observed()
        # Each build compiles code of its own: kept code would run the other's kernel.
        assert int(observed["compiled_graphs"]) > n_graphs
        assert observed["graph_breaks"] == "0"
        # Nor may code kept on disk for one kernel serve the other.
        assert observed["attention_step"].startswith(
            {"math": "attention_math", "flash": "flash_attention_for_cpu"}[attention]
        )
        n_graphs = int(observed["compiled_graphs"])


def test_int8_is_refused_where_a_layer_would_be_passed_over(
    speak_with: Callable[..., Built], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchao.quantization.quantize_", lambda model, config: None)
    with pytest.raises(InapplicableError, match="left 9 of 9"):
        speak_with(quantization="int8_weight_only")
