"""The ear's training: text, windows, damage, one step, and a whole run of seconds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import whisper

from evaluation.asr import embedded, load
from training import ear
from training.audio_store import is_held_out
from training.ear_augment import Damage, damage
from training.ear_data import LONG, MEDIUM, SHORT, Composer, Corpus
from training.ear_export import export
from training.ear_loop import Curriculum, Stepper, validate, word_errors
from training.ear_model import CONSTANT_CHANNEL, EarNet, EarShape, log_mel
from training.ear_text import N_CHARACTERS, Vocabulary, character_ids, spoken_words

RATE = 16_000
SHAPE = EarShape(width=32, n_heads=2, n_encoder_layers=1, n_decoder_layers=1, n_text_ctx=192)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary()


def _write_shard(folder: Path, number: int, texts: list[str]) -> None:
    """Utterances of one second or more; utterance i is a ramp that starts at 100 i + 1."""
    rows: dict[str, list[object]] = {"voice": [], "text": [], "start": [], "length": []}
    pieces, start = [], 0
    for i, text in enumerate(texts):
        length = RATE + 320 * i
        pieces.append((100 * i + 1 + np.arange(length) % 50).astype(np.int16))
        for key, value in zip(rows, ("slt" if i % 3 else "rms", text, start, length), strict=True):
            rows[key].append(value)
        start += length
    np.concatenate(pieces).tofile(folder / f"shard-{number:04d}.pcm")
    (folder / f"shard-{number:04d}.json").write_text(json.dumps(rows))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    heard = [f"sentence {word}." for word in ("one", "two", "three", "four", "five", "six")]
    letters = ("".join(four) for four in itertools.product("abcdefghijklmnopqrst", repeat=4))
    kept_out = next(text for name in letters if is_held_out(text := f"kept {name}."))
    assert not any(map(is_held_out, heard))
    _write_shard(folder, 0, [*heard, kept_out, "number 7 is left out"])
    return folder


@pytest.fixture(scope="module")
def corpus(shards: Path, vocabulary: Vocabulary) -> Corpus:
    corpus = Corpus(shards, torch.device("cpu"), 0.1, vocabulary)
    corpus.wait(0.001, patience_s=20)
    return corpus


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Well, it's a twenty-first test!", "well it's a twenty first test"),
        ("the dogs' 'tis -- done", "the dogs tis done"),
        ("room 7", None),
        ("caf\u00e9", None),
        ("it\u2019s", "it's"),
    ],
)
def test_spoken_words(text: str, words: str | None) -> None:
    assert spoken_words(text) == words


@pytest.mark.parametrize("words", ["it's the fox's xylophone", "q", "zyzzyva", "antidisestablish"])
def test_words_are_spelled_with_rows_in_use_and_read_back_by_whisper(
    vocabulary: Vocabulary, words: str
) -> None:
    rows = vocabulary.encode(words)
    assert vocabulary.decode(rows) == words
    tokens = vocabulary.row_ids[rows].tolist()
    assert whisper.tokenizer.get_tokenizer(False).decode(tokens) == f" {words}"


def test_frequent_words_are_one_row(vocabulary: Vocabulary) -> None:
    assert len(vocabulary.encode("the people said that they would")) == 6
    assert len(vocabulary) == 2_052


def test_characters_leave_zero_to_the_blank() -> None:
    ids = character_ids("a z's")
    assert min(ids) >= 1
    assert max(ids) == N_CHARACTERS - 1


@pytest.mark.parametrize("pad_as_transcribe", [False, True])
def test_log_mel_is_whispers_own_row_by_row(pad_as_transcribe: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(2, 5 * RATE, generator=generator) * torch.tensor([[0.01], [0.5]])
    content = torch.tensor([3 * RATE, 2 * RATE + 77])
    for row, end in enumerate(content.tolist()):
        audio[row, end:] = 0
    ours = log_mel(audio, content, torch.full((2,), pad_as_transcribe))
    for row, end in enumerate(content.tolist()):
        if pad_as_transcribe:
            mel = whisper.log_mel_spectrogram(audio[row, :end], padding=whisper.audio.N_SAMPLES)
            whispers = whisper.pad_or_trim(mel[:, : mel.shape[-1] - 3000], 3000)
        else:
            whispers = whisper.log_mel_spectrogram(whisper.pad_or_trim(audio[row]))
        torch.testing.assert_close(ours[row], whispers[:, :500], atol=1e-5, rtol=0)


def test_the_corpus_keeps_sentences_out_and_leaves_digits_out(corpus: Corpus) -> None:
    assert len(corpus.words) == 7
    assert corpus.n_skipped == 1
    assert corpus.is_validation.sum() == 1
    drawn = [Composer(corpus, seed).draw(MEDIUM, 8, loose=0.4) for seed in range(10)]
    held_out = corpus.start[corpus.is_validation][0]
    for windows in drawn:
        assert not ((windows.source == held_out) & (windows.length > 0)).any()


def test_a_window_holds_the_utterances_it_names(corpus: Corpus) -> None:
    composer = Composer(corpus, 0)
    windows = composer.windows(LONG, [([0, 2], 1.0), ([1], 1.0)])
    audio = corpus.audio(windows, LONG) * 32768
    first, second = windows.offset[0, :2]
    assert first == 0
    torch.testing.assert_close(audio[0, :4], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    torch.testing.assert_close(audio[0, second : second + 2], torch.tensor([201.0, 202.0]))
    assert (audio[0, windows.content[0] :] == 0).all()
    assert (audio[1, corpus.length[1] :] == 0).all()
    words = corpus.vocabulary.decode([r for r in windows.rows[0].tolist() if r >= 0])
    assert words == "sentence one sentence three"
    assert windows.is_teacher.tolist() == [False, False]


def test_another_speed_changes_the_length(corpus: Corpus) -> None:
    windows = Composer(corpus, 0).windows(SHORT, [([5], 1.05)])
    audio = corpus.audio(windows, SHORT)
    heard = int((audio != 0).sum())
    assert heard == pytest.approx(corpus.length[5] / 1.05, abs=3)


@pytest.mark.parametrize("bucket", [SHORT, MEDIUM, LONG])
def test_drawn_windows_fit(corpus: Corpus, bucket: object) -> None:
    windows = Composer(corpus, 1).draw(bucket, 40, loose=0.5)  # type: ignore[arg-type]
    assert (windows.content <= bucket.n_samples).all()  # type: ignore[attr-defined]
    assert ((windows.rows >= 0).sum(1) >= 3).all()
    assert (np.diff(windows.offset, axis=1) >= 0).all()
    ends = windows.offset + np.ceil(windows.length / windows.speed)
    assert (ends[windows.length > 0] <= bucket.n_samples).all()  # type: ignore[attr-defined]


def test_damage_stays_inside_the_content_and_spares_the_other_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(64, RATE, generator=generator) * 0.1
    content = torch.full((64,), RATE // 2)
    audio[:, RATE // 2 :] = 0
    out = damage(audio, content, Damage(share=0.5, min_snr_db=5.0), generator)
    assert (out[:, RATE // 2 :] == 0).all()
    assert out.isfinite().all()
    assert out.abs().max() <= 1
    changed = (out != audio).any(1).float().mean()
    assert 0.25 < changed < 0.75


def test_damage_of_silence_is_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    out = damage(
        torch.zeros(8, RATE), torch.full((8,), RATE), Damage(share=1.0, min_snr_db=5.0), generator
    )
    assert out.isfinite().all()
    assert out.abs().max() > 0


def test_the_curriculum_starts_short_and_clean_and_ends_with_whole_windows() -> None:
    curriculum = Curriculum()
    first = curriculum.lesson(0.1)
    assert first.shares == (1.0, 0.0, 0.0)
    assert first.damage is None
    curriculum.saw(2.0, 0.1)
    assert curriculum.aligned_at is None
    for _ in range(4):
        curriculum.saw(0.3, 0.12)
    assert curriculum.aligned_at == 0.12
    last = curriculum.lesson(1.0)
    assert last.shares[2] == 0.5
    assert last.damage is not None
    assert all(sum(curriculum.lesson(p / 20).shares) == pytest.approx(1) for p in range(21))


def test_a_run_that_never_aligns_goes_on_all_the_same() -> None:
    curriculum = Curriculum()
    assert curriculum.lesson(0.25).shares[1] > 0
    assert curriculum.lesson(0.9).shares[2] > 0


def _step(stepper: Stepper, corpus: Corpus, *, broken: bool = False) -> torch.Tensor:
    windows = Composer(corpus, 0).draw(SHORT, 4)
    audio = corpus.audio(windows, SHORT)
    if broken:
        audio[0, 0] = float("nan")
    return stepper.step(audio, torch.from_numpy(windows.content), windows, 0.5)


def test_a_step_learns_and_holds_the_constant_channel(
    corpus: Corpus, vocabulary: Vocabulary
) -> None:
    torch.manual_seed(0)
    net = EarNet(SHAPE, len(vocabulary))
    stepper = Stepper(net, vocabulary, 2e-3, seed=0)
    losses = [float(_step(stepper, corpus)[0]) for _ in range(12)]
    assert losses[-1] < losses[0]
    decoder = net.whisper.decoder
    assert decoder.ln.weight[CONSTANT_CHANNEL] == 0
    assert decoder.ln.bias[CONSTANT_CHANNEL] == 1
    assert (decoder.ln.weight[1:] != 1).any()


def test_a_step_that_is_not_finite_changes_nothing(corpus: Corpus, vocabulary: Vocabulary) -> None:
    net = EarNet(SHAPE, len(vocabulary))
    stepper = Stepper(net, vocabulary, 2e-3, seed=0)
    before = [p.detach().clone() for p in net.parameters()]
    assert not _step(stepper, corpus, broken=True).isfinite().all()
    for old, new in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [("a b c", "a b c", 0), ("a b c", "a x c", 1), ("a b c", "", 3), ("a", "a b c", 2)],
)
def test_word_errors(reference: str, hypothesis: str, errors: int) -> None:
    assert word_errors(reference, hypothesis) == errors


def test_validation_hears_what_whisper_hears(
    corpus: Corpus, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """The same words from our batched greedy decoding and from the exported ear."""
    torch.manual_seed(3)
    net = EarNet(SHAPE, len(vocabulary)).eval()
    with torch.no_grad():
        # Weights that fp16 holds, confident enough that rounding does not decide.
        net.whisper.decoder.token_embedding.weight.normal_(std=1.0)
        net.whisper.decoder.positional_embedding.normal_()
        net.whisper.decoder.token_embedding.weight[vocabulary.eot :, 0] = -50
        for parameter in net.parameters():
            parameter.copy_(parameter.half().float())
    state = {k: v.detach() for k, v in net.named_parameters()}
    ids = torch.from_numpy(vocabulary.row_ids)
    history = [{"step": 0}]
    torch.save(
        {"shape": SHAPE.as_dict(), "state": state, "row_ids": ids, "history": history},
        tmp_path / "ear.pt",
    )
    export(tmp_path / "ear.pt", tmp_path / "weights")
    recogniser = load(f"embedded:{tmp_path / 'weights'}")
    _, pairs = validate(net, Composer(corpus, 0), [1])
    samples = corpus.samples[corpus.start[1] : corpus.start[1] + corpus.length[1]].float() / 32768
    whispers = recogniser.transcribe(samples.numpy())
    assert whispers
    assert pairs[0][1][:8] == whispers[:8]


def test_a_run_of_seconds_leaves_an_ear_that_loads(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = f"--audio {shards} --out {out} --device cpu --seconds 60 --steps 4 --shape tiny"
    arguments += " --batch-seconds 10 --hours 0.1 --start-hours 0.001 --validation 1"
    args = ear.parse(arguments.split())
    for expected in (4, 4):  # the second run resumes where the first ended
        run = ear.Run(args, started=ear.time.time())
        run.run()
        assert run.step == expected
    history = json.loads((out / "ear.json").read_text())
    assert history[-1]["step"] == 4
    assert history[-1]["wer_teacher"] >= 0
    export(out / "ear.pt", tmp_path / "weights")
    assert embedded.read_manifest(tmp_path / "weights")["trained"]["last"]["step"] == 4
    load(f"embedded:{tmp_path / 'weights'}")
