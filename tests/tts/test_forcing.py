"""Given tokens: the same answer as one pass over the whole sequence, whatever runs the steps."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from tts.embedded.lm import BOS, EOS
from tts.embedded.voice import EmbeddedVoice, _rows
from tts.options import Sampling
from tts.types import Built, GivenSentence, LogProbs, TokenScorer, Utterance

GREEDY = Sampling(temperature=0.0, cfg_weight=1.0)
TOKENS = ((5, 17, 15_000, 4), (900, 901), (77,) * 7)


@pytest.fixture
def given(utterances: list[Utterance]) -> list[GivenSentence]:
    return [
        GivenSentence(utterance=u, sentence=len(_rows(u)) - 1, tokens=t)
        for u, t in zip(utterances, TOKENS, strict=True)
    ]


def in_one_pass(voice: EmbeddedVoice, given: GivenSentence) -> LogProbs:
    """The textbook's way: no cache, no steps."""
    lm, row = voice.generator.lm, _rows(given.utterance)[given.sentence]
    with torch.inference_mode():
        text = lm.embed_text(torch.tensor([row.characters]))
        speech = lm.embed_speech(torch.tensor([[BOS, *given.tokens]]))
        x = torch.cat((text, speech), dim=1)
        hidden = lm.decoder(x, torch.arange(x.shape[1])[None])
        scores = lm.logits(hidden[:, len(row.characters) :])
        return scores[0, :, : EOS + 1].log_softmax(dim=-1).numpy()


@pytest.mark.parametrize("cfg_weight", [1.0, 2.0])
@pytest.mark.parametrize("kv_cache", ["none", "dynamic", "static"])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_steps_say_what_one_pass_says(
    speak_with: Callable[..., Built],
    given: list[GivenSentence],
    batch_size: int,
    kv_cache: str,
    cfg_weight: float,
) -> None:
    sampling = Sampling(cfg_weight=cfg_weight, temperature=0.9, repetition_penalty=1.3)
    voice = speak_with(kv_cache=kv_cache, batch_size=batch_size, sampling=sampling).synthesizer
    assert isinstance(voice, TokenScorer)
    found = list(voice.log_probabilities(given))
    assert [len(one) for one in found] == [5, 3, 8]
    for one, sentence in zip(found, given, strict=True):
        assert one.dtype == np.float32
        assert np.abs(one - in_one_pass(voice, sentence)).max() < 1e-3  # type: ignore[arg-type]
        assert np.exp(one.astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_compiled_steps_say_the_same(
    speak_with: Callable[..., Built], given: list[GivenSentence]
) -> None:
    plain = speak_with(kv_cache="static", batch_size=2).synthesizer
    compiled = speak_with(kv_cache="static", batch_size=2, compile="default").synthesizer
    assert isinstance(plain, TokenScorer)
    assert isinstance(compiled, TokenScorer)
    pairs = zip(plain.log_probabilities(given), compiled.log_probabilities(given), strict=True)
    for mine, theirs in pairs:
        assert np.abs(mine - theirs).max() < 1e-3


def test_what_greedy_decoding_said_is_likeliest(
    speak_with: Callable[..., Built], utterances: list[Utterance]
) -> None:
    voice = speak_with(sampling=GREEDY, kv_cache="static").synthesizer
    assert isinstance(voice, TokenScorer)
    tokens = voice.synthesize([utterances[0]])[0].tokens[0]
    sentence = GivenSentence(utterance=utterances[0], sentence=0, tokens=tokens)
    (found,) = voice.log_probabilities([sentence])
    assert tuple(found[:-1].argmax(axis=1)) == tokens
    # Another token in the middle changes what follows it and nothing before it.
    other = (*tokens[:5], (tokens[5] + 1) % 15_360, *tokens[6:])
    (changed,) = voice.log_probabilities([replace(sentence, tokens=other)])
    assert np.abs(changed[:6] - found[:6]).max() < 1e-5
    assert (np.abs(changed[6:] - found[6:]).max(axis=1) > 1e-3).all()


def test_the_cache_itself_is_what_is_asked(
    speak_with: Callable[..., Built], given: list[GivenSentence]
) -> None:
    """A pass past the cache would not see that the cache rounds."""
    exact, rounded = (
        speak_with(kv_cache=layout, batch_size=3).synthesizer
        for layout in ("static", "static_int8")
    )
    assert isinstance(exact, TokenScorer)
    assert isinstance(rounded, TokenScorer)
    for mine, theirs in zip(
        exact.log_probabilities(given), rounded.log_probabilities(given), strict=True
    ):
        off = np.abs(mine - theirs).max(axis=1)
        assert off[0] < 1e-5  # the prefill looks at what it was given
        assert (off[1:] > 1e-4).all()


def test_speech_is_not_changed_by_having_been_asked(
    speak_with: Callable[..., Built], utterances: list[Utterance], given: list[GivenSentence]
) -> None:
    voice = speak_with(kv_cache="static", batch_size=3).synthesizer
    before = voice.synthesize(utterances)
    assert isinstance(voice, TokenScorer)
    list(voice.log_probabilities(given))
    assert [a.tokens for a in voice.synthesize(utterances)] == [a.tokens for a in before]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": (1, 15_360)}, "speech token 15360 is outside"),
        ({"sentence": 3}, "has 1 sentences, none of them number 3"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    speak_with: Callable[..., Built],
    given: list[GivenSentence],
    changes: dict[str, object],
    message: str,
) -> None:
    voice = speak_with().synthesizer
    assert isinstance(voice, TokenScorer)
    with pytest.raises(ValueError, match=message):
        list(voice.log_probabilities([replace(given[0], **changes)]))  # type: ignore[arg-type]
