"""Two folders of wavs: what is refused, with which words, and what is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluation.errors import InputsError
from evaluation.folders import Inputs, check_folders
from evaluation.texts import read_texts
from tests.evaluation.sounds import RATE, voice, write

NAMES = ("a", "b", "c", "d")
TEXTS = "# what was said\n\n" + "".join(f"{name}\tsay {name} now\n" for name in NAMES)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two folders of four utterances that agree with their texts."""
    (tmp_path / "said.tsv").write_text(TEXTS, encoding="utf-8")
    for i, side in enumerate(("base", "cand")):
        (tmp_path / side).mkdir()
        for j, name in enumerate(NAMES):
            write(tmp_path / side / f"{name}.wav", voice(0.5, seed=10 * i + j), subtype="PCM_16")
    return tmp_path


def check(place: Path, **further: object) -> Inputs:
    path = place / "said.tsv"
    return check_folders(
        read_texts(path),
        path,
        baseline=place / "base",
        candidate=place / "cand",
        **further,  # type: ignore[arg-type]
    )


def test_folders_that_agree_are_paired(place: Path) -> None:
    inputs = check(place)
    assert sorted(spoken.name for spoken in inputs.texts) == list(NAMES)
    assert inputs.baseline.sounds["a"].n_samples == RATE // 2
    assert (inputs.rate_hz, inputs.resampling, inputs.again) == (RATE, "", None)


def wrong(place: Path, side: str = "cand", name: str = "b", **what: object) -> None:
    values = {"samples": voice(0.5), "rate": RATE, "subtype": "FLOAT", **what}
    write(place / side / f"{name}.wav", **values)  # type: ignore[arg-type]


def text(place: Path, content: bytes) -> None:
    (place / "said.tsv").write_bytes(content)


def stereo(place: Path) -> None:
    wrong(place, samples=np.stack([voice(0.5)] * 2, axis=1))


def not_finite(place: Path) -> None:
    samples = voice(0.5)
    samples[100], samples[200] = np.nan, np.inf
    wrong(place, samples=samples)


def flac(place: Path) -> None:
    soundfile.write(place / "cand" / "b.wav", voice(0.5), RATE, format="FLAC")


TABLE: list[tuple[Callable[[Path], object], str]] = [
    # what is done to the two folders, what is said ({} is where they are)
    (stereo, "{}/cand/b.wav: has 2 channels; mix it down to one"),
    (not_finite, "{}/cand/b.wav: 2 samples are NaN or infinite; find out why"),
    (flac, "{}/cand/b.wav: is FLAC inside; convert it to wav"),
    (lambda p: wrong(p, rate=24_000), "{}/cand/b.wav: has 24000 Hz, the files of {}/base have 160"),
    (lambda p: wrong(p, "base", rate=24_000), "{}/base/b.wav: has 24000 Hz, the files of {}/base"),
    (lambda p: wrong(p, samples=np.zeros(0)), "{}/cand/b.wav: holds no samples; synthesize it"),
    (lambda p: wrong(p, samples=voice() * 32_768), "{}/cand/b.wav: its peak is 16384 where a flo"),
    (lambda p: (p / "cand/b.wav").write_bytes(b""), "{}/cand/b.wav: is an empty file; synthesiz"),
    (lambda p: (p / "cand/b.wav").write_text("no"), "{}/cand/b.wav: is no wav that can be read"),
    (lambda p: (p / "cand/b.wav").unlink(), "{}/said.tsv:4: b.wav is missing in {}/cand; add it"),
    (lambda p: (p / "base/b.wav").unlink(), "{}/said.tsv:4: b.wav is missing in {}/base; add it"),
    (lambda p: wrong(p, name="x"), "{}/cand/x.wav: {}/said.tsv has no text for it; add a line"),
    (lambda p: wrong(p, name="b2"), "{}/cand/b2.wav: {}/said.tsv has no text for"),
    (
        lambda p: (p / "cand/b.wav").rename(p / "cand/b.WAV") and wrong(p),
        "{}/cand/b.wav: b.WAV has the same name; keep one of the two",
    ),
    (
        lambda p: text(p, TEXTS.encode() + b"e\tone too many\n"),
        "{}/said.tsv:7: e.wav is missing in {}/base and {}/cand; add it or remove the line",
    ),
    (lambda p: text(p, TEXTS.encode() + b"a\tagain\n"), "{}/said.tsv:7: the name 'a' is on line 3"),
    (lambda p: text(p, TEXTS.encode() + b"a.wav\tx\n"), "{}/said.tsv:7: the name 'a' is on line 3"),
    (lambda p: text(p, TEXTS.encode() + b"only a text\n"), "{}/said.tsv:7: no tab in it; write na"),
    (lambda p: text(p, TEXTS.encode() + b"e\ta\tb\tc\n"), "{}/said.tsv:7: 4 columns; write name<"),
    (lambda p: text(p, TEXTS.encode() + b"e\t \n"), "{}/said.tsv:7: the text is empty; fill it in"),
    (lambda p: text(p, TEXTS.encode() + b"\tsay\n"), "{}/said.tsv:7: the name is empty; fill it"),
    (lambda p: text(p, TEXTS.encode() + b"e\tx\t\n"), "{}/said.tsv:7: the reference is empty; fil"),
    (lambda p: text(p, TEXTS.encode() + b"../e\tx\n"), "{}/said.tsv:7: the name '../e' is none of"),
    (lambda p: text(p, TEXTS.encode() + b"e\tHmm.\n"), "{}/said.tsv:7: the reference 'Hmm.' is em"),
    (
        lambda p: text(p, b"id\tstratum\ttext\treference\na\ts\tHmm.\thmm\n"),
        "{}/said.tsv:2: the reference 'hmm' is empty once normalised",
    ),
    (lambda p: text(p, TEXTS.encode() + b"e\tcaf\xe9\n"), "{}/said.tsv:7: not UTF-8; save the fi"),
    (lambda p: text(p, b"# nothing\n\n"), "{}/said.tsv: holds no text; write a line for each wav"),
    (lambda p: (p / "said.tsv").unlink(), "{}/said.tsv: No such file or directory; give the path"),
    (
        lambda p: text(p, b"id\tstratum\ttext\treference\na\ts\tSay.\n"),
        "{}/said.tsv:2: 3 columns instead of 4",
    ),
    (
        lambda p: (p / "cand").rename(p / "gone"),
        "{}/cand: No such file or directory; give a folder of wavs",
    ),
    (
        lambda p: (p / "cand").rename(p / "gone") and (p / "cand").write_text(""),
        "{}/cand: is no folder; give the folder that holds the wavs",
    ),
    (
        lambda p: [path.unlink() for path in (p / "cand").iterdir()],
        "{}/cand: holds no .wav file; give a folder of wavs",
    ),
]


@pytest.mark.parametrize(("spoil", "said"), TABLE)
def test_one_thing_wrong_is_one_line_that_names_it(
    place: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(place)
    with pytest.raises(InputsError) as caught:
        check(place)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert str(caught.value).startswith(said.format(*[place] * said.count("{}")))
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "a remedy follows"


def test_a_folder_of_another_rate_is_said_once(place: Path) -> None:
    for name in NAMES:
        wrong(place, name=name, rate=24_000)
    with pytest.raises(InputsError, match=r"cand: all 4 files have 24000 Hz, the files of .*16000"):
        check(place)


def test_ten_problems_are_listed_and_the_others_counted(place: Path) -> None:
    for i in range(12):
        wrong(place, name=f"x{i:02d}")
    stereo(place)
    with pytest.raises(InputsError) as caught:
        check(place)
    lines = str(caught.value).splitlines()
    assert len(caught.value.problems) == 13
    assert (len(lines), lines[-1]) == (11, "... and 3 more")


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("rate", [RATE, 24_000])
def test_a_wav_says_its_own_scale(place: Path, subtype: str, rate: int) -> None:
    for side in ("base", "cand"):
        for name in NAMES:
            wrong(place, side, name, rate=rate, subtype=subtype)
    inputs = check(place)
    assert inputs.rate_hz == rate
    by_soxr = f"24000 to 16000 Hz by soxr {version('soxr')}, HQ"
    assert inputs.resampling == ("" if rate == RATE else by_soxr)
    for folder in (inputs.baseline, inputs.candidate):
        sound = folder.sounds["a"]
        samples, found = soundfile.read(sound.path, dtype="float32")
        assert (found, np.abs(samples).max()) == (rate, pytest.approx(0.5, abs=1e-4))
        assert sound.sound_sha256 == hashlib.sha256(samples.tobytes()).hexdigest()  # it saw these


def test_a_folder_is_not_judged_against_itself(place: Path) -> None:
    with pytest.raises(InputsError, match="base: is given twice"):
        check_folders(
            read_texts(place / "said.tsv"), place / "said.tsv",
            baseline=place / "base", candidate=place / "cand" / ".." / "base",
        )  # fmt: skip


def test_a_second_hearing_must_be_another_one(place: Path) -> None:
    (place / "again").mkdir()
    for name in NAMES:
        (place / "again" / f"{name}.wav").write_bytes((place / "base" / f"{name}.wav").read_bytes())
    with pytest.raises(InputsError, match="again: every file holds the baseline's own samples"):
        check(place, again=place / "again")
    # The same samples in another container are no second hearing either.
    for name in NAMES:
        samples, rate = soundfile.read(place / "base" / f"{name}.wav", dtype="float32")
        write(place / "again" / f"{name}.wav", samples, rate=rate, subtype="FLOAT")
    with pytest.raises(InputsError, match="again: every file holds the baseline's own samples"):
        check(place, again=place / "again")
    write(place / "again" / "a.wav", voice(0.5, seed=99), subtype="PCM_16")
    again = check(place, again=place / "again").again
    assert again is not None
    assert again.path == place / "again"


def test_aligned_files_are_of_one_length(place: Path) -> None:
    assert check(place, aligned=True)
    wrong(place, samples=voice(0.8))
    assert check(place)
    with pytest.raises(InputsError, match=r"b\.wav: is 0\.30 s away .*leave --aligned out"):
        check(place, aligned=True)


@pytest.mark.parametrize("n", [0, -1, 5])
def test_no_more_are_judged_than_there_are(place: Path, n: int) -> None:
    with pytest.raises(InputsError, match=f"--n {n}: .*said.tsv has 4 texts; give 1 to 4"):
        check(place, n=n)


def test_fewer_are_a_fair_share_the_same_ones_each_time(place: Path) -> None:
    few, more = check(place, n=2).texts, check(place, n=3).texts
    assert few == more[:2]
    lines = TEXTS.splitlines()
    text(place, "\n".join(reversed(lines)).encode())
    assert [s.name for s in check(place, n=2).texts] == [s.name for s in few]


def test_other_files_in_a_folder_are_left_alone(place: Path) -> None:
    (place / "cand" / "notes.txt").write_text("mine", encoding="utf-8")
    (place / "cand" / "plots").mkdir()
    assert len(check(place).candidate.sounds) == 4


def test_a_folder_is_known_by_its_content(place: Path) -> None:
    before = check(place).baseline.digest
    os.utime(place / "base" / "a.wav")
    assert check(place).baseline.digest == before != check(place).candidate.digest
    wrong(place, "base", samples=voice(0.5, seed=99))
    assert check(place).baseline.digest != before


def test_texts_are_read_in_their_three_forms(tmp_path: Path) -> None:
    path = tmp_path / "said.tsv"
    path.write_text("\ufeffa.wav\tIt is 3:30.\tit is three thirty\r\nb\tGo.\r\n", encoding="utf-8")
    first, second = read_texts(path)
    assert (first.name, first.reference, first.line) == ("a", "it is three thirty", 1)
    assert (second.name, second.reference, second.line) == ("b", "Go.", 2)
    path.write_text("id\tstratum\ttext\treference\n\na\ts\t3:30\tthree thirty\n", encoding="utf-8")
    (only,) = read_texts(path)
    assert (only.text, only.reference, only.line) == ("3:30", "three thirty", 3)
