"""The recogniser: checked weights, deterministic words, honest errors."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import soundfile
import torch
import whisper
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import get_tokenizer

from evaluation.asr import Recogniser, embedded, load
from evaluation.asr.pieces import MAX_PIECE_S, split_at_silence
from evaluation.errors import MetricError
from evaluation.metrics.wer import count_word_errors

RATE = 16_000
N_VOCABULARY = 51_864


def _dims(n_vocab: int) -> ModelDimensions:
    return ModelDimensions(80, 1500, 32, 2, 1, n_vocab, 24, 32, 2, 1)


@pytest.fixture(scope="module")
def row_ids() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        tokenizer = get_tokenizer(False, num_languages=99)
    words = tokenizer.encode(" the cat sat on a mat it's")
    special = [tokenizer.eot, *tokenizer.sot_sequence_including_notimestamps, tokenizer.no_speech]
    return torch.tensor(sorted({*words, *special}))


@pytest.fixture(scope="module")
def small_ear(tmp_path_factory: pytest.TempPathFactory, row_ids: torch.Tensor) -> Path:
    """An untrained ear of 100 kB."""
    directory = tmp_path_factory.mktemp("ear")
    torch.manual_seed(0)
    model = Whisper(_dims(len(row_ids)))
    torch.nn.init.normal_(model.decoder.positional_embedding)
    with torch.no_grad():
        model.decoder.ln.weight[0], model.decoder.ln.bias[0] = 0.0, 1.0
        # An untrained ear that babbles instead of ending at once.
        model.decoder.token_embedding.weight[row_ids >= 50256, 0] = -50.0
    embedded.save(directory, _dims(N_VOCABULARY), dict(model.named_parameters()), row_ids, {})
    return directory


@pytest.fixture
def copied_ear(small_ear: Path, tmp_path: Path) -> Path:
    for name in (embedded.WEIGHTS, embedded.MANIFEST):
        (tmp_path / name).write_bytes((small_ear / name).read_bytes())
    return tmp_path


@pytest.fixture(scope="module")
def recogniser(small_ear: Path) -> Recogniser:
    return load(f"embedded:{small_ear}")


def _noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=int(seconds * RATE)) * 0.1).astype(np.float32)


def test_the_same_audio_gives_the_same_words(recogniser: Recogniser, small_ear: Path) -> None:
    audio = _noise(3)
    first = recogniser.transcribe(audio)
    assert first
    assert first == recogniser.transcribe(audio) == load(f"embedded:{small_ear}").transcribe(audio)


def test_the_checkpoint_is_one_that_whisper_loads(
    recogniser: Recogniser, small_ear: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ear.pt"
    torch.save(embedded.checkpoint(small_ear), path)
    whole = whisper.load_model(str(path), device="cpu")
    assert whole.dims.n_vocab == N_VOCABULARY
    assert not whole.is_multilingual
    features, tokens = torch.randn(1, 1500, 32), torch.tensor([[50257, 50362, 262]])
    with torch.no_grad():
        expected = whole.decoder(tokens, features)
        torch.testing.assert_close(recogniser.model.decoder(tokens, features), expected)
    assert load(str(path)).transcribe(_noise(2))


def test_a_row_that_is_not_in_use_never_wins(small_ear: Path, row_ids: torch.Tensor) -> None:
    whole = embedded.checkpoint(small_ear)
    model = Whisper(ModelDimensions(**whole["dims"]))
    model.load_state_dict(whole["model_state_dict"])
    unused = torch.ones(N_VOCABULARY, dtype=torch.bool)
    unused[row_ids] = False
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for scale in (0.0, 1.0, 100.0):
            features = torch.randn(4, 20, 32, generator=generator) * scale
            logits = model.decoder(torch.tensor([[50257, 50362]] * 4), features)
            assert (logits[..., unused] == embedded.UNUSED_ROW_LOGIT).all()
            assert (logits[..., ~unused] > embedded.UNUSED_ROW_LOGIT / 2).all()


def test_whispers_own_decode_works_on_it(recogniser: Recogniser) -> None:
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(_noise(2)))
    options = whisper.DecodingOptions(language="en", fp16=False, without_timestamps=True)
    assert isinstance(whisper.decode(recogniser.model, mel, options).text, str)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0, np.float32), "not empty"),
        (np.zeros((2, RATE), np.float32), r"\(2, 16000\)"),
        (np.zeros(RATE, np.int16), "int16"),
        (np.full(RATE, np.nan, np.float32), "NaN"),
        (np.full(RATE, np.inf, np.float32), "infinite"),
    ],
)
def test_audio_that_is_none_is_refused(
    recogniser: Recogniser, samples: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recogniser.transcribe(samples)


def test_threads_are_given_back(recogniser: Recogniser) -> None:
    before = torch.get_num_threads()
    recogniser.transcribe(_noise(1))
    assert torch.get_num_threads() == before


def test_a_torn_weight_file_is_named_with_the_remedy(copied_ear: Path) -> None:
    path = copied_ear / embedded.WEIGHTS
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)
    with pytest.raises(MetricError, match=r"ear\.safetensors: damaged: SHA-256.*git checkout"):
        load(f"embedded:{copied_ear}")


@pytest.mark.parametrize("name", [embedded.WEIGHTS, embedded.MANIFEST])
def test_a_missing_file_is_named(copied_ear: Path, name: str) -> None:
    (copied_ear / name).unlink()
    with pytest.raises(MetricError, match=rf"{name}: cannot be read: No such file.*git checkout"):
        load(f"embedded:{copied_ear}")


def _without_dims(manifest: dict[str, object]) -> str:
    return json.dumps({k: v for k, v in manifest.items() if k != "dims"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: json.dumps(m)[:40], "damaged"),
        (lambda m: "[]", "no sha256 or dims"),
        (_without_dims, "no sha256 or dims"),
        (lambda m: json.dumps(m | {"format": 9}), "format 9, not 1"),
        (lambda m: json.dumps(m | {"dims": {"n_mels": 80}}), "not an ear of this version"),
        (lambda m: json.dumps(m | {"dims": m["dims"] | {"n_text_ctx": 99}}), "do not fit"),
    ],
)
def test_a_damaged_manifest_is_named(
    copied_ear: Path, change: Callable[[dict[str, object]], str], message: str
) -> None:
    path = copied_ear / embedded.MANIFEST
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(MetricError, match=message):
        load(f"embedded:{copied_ear}")


def test_an_ear_without_its_constant_channel_is_refused(
    tmp_path: Path, row_ids: torch.Tensor
) -> None:
    state = dict(Whisper(_dims(len(row_ids))).named_parameters())
    embedded.save(tmp_path, _dims(N_VOCABULARY), state, row_ids, {})
    with pytest.raises(MetricError, match="not the constant 1"):
        load(f"embedded:{tmp_path}")


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(MetricError, match=r"'bas\.en' is unknown: use 'embedded'.*base\.en"):
        load("bas.en")


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(MetricError, match=r"other\.pt: not a Whisper checkpoint"):
        load(str(path))
    with pytest.raises(MetricError, match=r"absent\.pt"):
        load(str(tmp_path / "absent.pt"))


def test_a_name_that_needs_a_network_says_what_to_put_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(whisper, "load_model", unreachable)
    with pytest.raises(MetricError, match=r"network.*base\.en\.pt into .*asr: embedded"):
        load("base.en")


def test_short_audio_is_one_piece() -> None:
    audio = _noise(MAX_PIECE_S)
    assert [len(p) for p in split_at_silence(audio, RATE)] == [len(audio)]


def test_long_audio_is_cut_where_it_is_quiet() -> None:
    audio = _noise(70)
    pauses = [(20.0, 20.4), (41.0, 41.4), (60.0, 60.4)]
    for start, end in pauses:
        audio[int(start * RATE) : int(end * RATE)] = 0.0
    pieces = split_at_silence(audio, RATE)
    np.testing.assert_array_equal(np.concatenate(pieces), audio)
    cuts = np.cumsum([len(p) for p in pieces])[:-1] / RATE
    assert all(any(start < cut < end for start, end in pauses) for cut in cuts)
    assert all(len(p) <= MAX_PIECE_S * RATE for p in pieces)


@pytest.mark.parametrize("audio", [_noise(100), np.zeros(100 * RATE, np.float32)])
def test_audio_without_a_pause_is_cut_all_the_same(audio: np.ndarray) -> None:
    pieces = split_at_silence(audio, RATE)
    assert sum(map(len, pieces)) == len(audio)
    assert 4 <= len(pieces) <= 8


def test_every_piece_of_long_audio_is_heard(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def transcribe(audio: np.ndarray, **_: object) -> dict[str, str]:
        heard.append(len(audio))
        return {"text": f" part{len(heard)}"}

    monkeypatch.setattr(recogniser.model, "transcribe", transcribe)
    assert recogniser.transcribe(_noise(40)) == "part1 part2"
    assert sum(heard) == 40 * RATE


def test_provenance_names_versions_and_weights(recogniser: Recogniser, small_ear: Path) -> None:
    manifest = embedded.read_manifest(small_ear)
    assert recogniser.provenance["asr_sha256"] == manifest["sha256"]
    assert recogniser.provenance["openai_whisper"] == whisper.__version__


# What follows listens to the real ear.

SPEECH = Path(__file__).parent / "speech"


@pytest.fixture(scope="module")
def ear() -> Recogniser:
    return load("embedded")


def _speech() -> list[tuple[str, np.ndarray]]:
    """The teacher's voice on sentences that are in no corpus: (reference, samples)."""
    sentences = json.loads((SPEECH / "sentences.json").read_text())
    return [
        (text, soundfile.read(SPEECH / name, dtype="float32")[0])
        for name, text in sentences.items()
    ]


def _wer(ear: Recogniser, clips: list[tuple[str, np.ndarray]]) -> float:
    counts = [count_word_errors(text, ear.transcribe(samples)) for text, samples in clips]
    return sum(errors for errors, _ in counts) / sum(words for _, words in counts)


def test_the_real_ear_hears_its_teacher_and_suffers_from_noise(ear: Recogniser) -> None:
    random = np.random.default_rng(0)

    def noisy(samples: np.ndarray, snr_db: float) -> np.ndarray:
        noise = random.normal(size=len(samples)) * samples.std() * 10 ** (-snr_db / 20)
        return (samples + noise).astype(np.float32)

    clips = _speech()
    clean = _wer(ear, clips)
    assert clean <= 0.10
    assert _wer(ear, [(text, noisy(samples, -5.0)) for text, samples in clips]) > clean + 0.2


def test_the_real_ear_does_not_understand_reversed_speech(ear: Recogniser) -> None:
    """DNSMOS hears nothing wrong with it, so words must tell."""
    backwards = [(text, samples[::-1].copy()) for text, samples in _speech()]
    for text, samples in backwards:
        errors, words = count_word_errors(text, ear.transcribe(samples))
        assert errors / words > 0.5, text


@pytest.mark.parametrize("level", [0.0, 0.001, 0.05])
def test_the_real_ear_writes_next_to_nothing_where_nothing_is_said(
    ear: Recogniser, level: float
) -> None:
    noise = np.random.default_rng(0).normal(size=4 * RATE) * level
    assert len(ear.transcribe(noise).split()) <= 2


def test_the_real_ear_hears_speech_of_more_than_a_window(ear: Recogniser) -> None:
    pause = np.zeros(RATE // 3, np.float32)
    clips = _speech() * 3
    joined = np.concatenate([part for _, samples in clips for part in (samples, pause)])
    assert len(joined) > 30 * RATE
    assert _wer(ear, [(" ".join(text for text, _ in clips), joined)]) <= 0.15


def test_the_real_ear_is_a_checkpoint_of_at_most_14_mb(ear: Recogniser, tmp_path: Path) -> None:
    assert (embedded.WEIGHTS_DIRECTORY / embedded.WEIGHTS).stat().st_size <= 14_000_000
    torch.save(embedded.checkpoint(), tmp_path / "ear.pt")
    text, samples = _speech()[0]
    whole = load(str(tmp_path / "ear.pt"))
    assert whole.transcribe(samples) == ear.transcribe(samples)
    assert text
