from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.prompts import Prompt, PromptError, load_prompts, prompt_digest
from tts.embedded.text import normalise, split_sentences

FOLDER = Path(__file__).parents[2] / "configs" / "prompts"
ENGLISH, STRESS = FOLDER / "english.tsv", FOLDER / "stress.tsv"
STRATA = (
    "very_short", "short", "medium", "long", "over_200", "numbers_dates", "abbreviations", "names",
    "questions", "hard_consonants",
)  # fmt: skip
HEADER = "id\tstratum\ttext\treference\n"
SHIPPED = [p for path in (ENGLISH, STRESS) for p in load_prompts(path)]


@pytest.mark.parametrize("prompt", SHIPPED, ids=lambda p: p.id)
def test_the_reference_is_what_the_voice_is_given_to_read(prompt: Prompt) -> None:
    spoken = " ".join(re.sub("[^a-z' ]", " ", normalise(prompt.text)).split())
    assert spoken == prompt.reference


def test_the_shipped_prompts_cover_the_strata() -> None:
    count = Counter(prompt.stratum for prompt in load_prompts(ENGLISH))
    assert sum(count.values()) >= 288
    assert set(count) == set(STRATA)
    assert min(count.values()) >= 24
    assert len(load_prompts(STRESS)) >= 24


def test_texts_are_unique_and_plain() -> None:
    assert len({p.text for p in SHIPPED}) == len({p.id for p in SHIPPED}) == len(SHIPPED)
    assert all(re.fullmatch("[a-z' ]+", p.reference) for p in SHIPPED)


def test_long_texts_have_several_sentences() -> None:
    for prompt in load_prompts(ENGLISH):
        if prompt.stratum == "over_200":
            assert len(prompt.text) > 200
            assert len(split_sentences(normalise(prompt.text))) >= 2


def test_the_halves_are_disjoint_and_every_stratum_is_in_both() -> None:
    search, confirmation = (load_prompts(ENGLISH, split=s) for s in ("search", "confirmation"))
    assert not set(search) & set(confirmation)
    assert set(search) | set(confirmation) == set(load_prompts(ENGLISH))
    difference = Counter(p.stratum for p in search)
    difference.subtract(p.stratum for p in confirmation)
    assert set(difference.values()) <= {0, 1}


@pytest.mark.parametrize("n", [1, 10, 24, 64, 128])
@pytest.mark.parametrize("split", ["search", "confirmation", "all"])
def test_n_prompts_spread_evenly(split: str, n: int) -> None:
    taken = load_prompts(ENGLISH, split=split, n=n)  # type: ignore[arg-type]
    count = Counter(prompt.stratum for prompt in taken)
    assert len(set(taken)) == n
    assert len(count) == min(n, 10)
    assert max(count.values()) - min(count.values()) <= 2


def test_the_same_seed_takes_the_same_prompts_and_fewer_are_a_prefix() -> None:
    taken = load_prompts(ENGLISH, split="search", n=40, seed=3)
    assert taken == load_prompts(ENGLISH, split="search", n=40, seed=3)
    assert taken[:8] == load_prompts(ENGLISH, split="search", n=8, seed=3)
    assert taken != load_prompts(ENGLISH, split="search", n=40, seed=4)


def test_a_seed_moves_no_prompt_between_the_halves() -> None:
    held_back = set(load_prompts(ENGLISH, split="confirmation"))
    assert not held_back & set(load_prompts(ENGLISH, split="search", n=100, seed=9))


def test_reordering_the_file_keeps_the_halves(tmp_path: Path) -> None:
    header, *rows = ENGLISH.read_text("utf-8").splitlines()
    other = tmp_path / "reversed.tsv"
    other.write_text("\n".join([header, *reversed(rows)]), "utf-8")
    assert set(load_prompts(other, split="search")) == set(load_prompts(ENGLISH, split="search"))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("", 1, "'id' is missing"),
        ("id\tstratum\ttext\n", 1, "'reference' is missing"),
        ("text\tid\tstratum\treference\n", 1, "wrong header"),
        (HEADER, None, "no prompt below the header"),
        (f"{HEADER}a\ts\tHello.\n", 2, "3 columns instead of 4"),
        (f"{HEADER}a\ts\tHello.\thello\tmore\n", 2, "5 columns instead of 4"),
        (f"{HEADER}a\ts\tHello.\thello\na\ts\tBye.\tbye\n", 3, "'a' is taken"),
        (f"{HEADER}a\ts\tHello.\t \n", 2, "the reference is empty"),
        (f"{HEADER}a\ts\t\thello\n", 2, "the text is empty"),
        (f"{HEADER}a\ts\tHello.\t...\n", 2, "empty once normalised"),
        (f"{HEADER}a\ts\tHello.\thello\nb\ts\tUh.\tuh um\n", 3, "'uh um' is empty once"),
        (f"{HEADER}a\ts\tBang.\t[bang]\n", 2, "'.bang.' is empty once normalised"),
        (f"{HEADER}../a\ts\tHello.\thello\n", 2, "cannot name a file"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path, content: str, line: int | None, message: str
) -> None:
    path = tmp_path / "prompts.tsv"
    path.write_text(content, "utf-8")
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(path)
    assert str(caught.value).startswith(str(path) if line is None else f"{path}:{line}: ")
    assert (caught.value.path, caught.value.line) == (path, line)


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.tsv"
    path.write_bytes(HEADER.encode() + b"a\ts\tHello.\thello\nb\ts\tCaf\xe9.\tcafe\n")
    with pytest.raises(PromptError, match=r"prompts\.tsv:3: not UTF-8"):
        load_prompts(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"none\.tsv: No such file"):
        load_prompts(tmp_path / "none.tsv")


@pytest.mark.parametrize("n", [0, -1, 1000])
def test_more_prompts_than_there_are_is_an_error(n: int) -> None:
    with pytest.raises(PromptError, match="the search part holds 148 prompts"):
        load_prompts(ENGLISH, split="search", n=n)


def test_the_shipped_prompts_are_those_of_their_checksums() -> None:
    lines = (FOLDER / "SHA256SUMS").read_text("utf-8").split("\n")
    known = {name: digest for digest, _, name in (line.partition("  ") for line in lines if line)}
    assert known == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.tsv")
    }


def test_a_shipped_prompt_that_was_changed_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        shutil.copy(path, tmp_path)
    own, changed = tmp_path / "own.tsv", tmp_path / ENGLISH.name
    own.write_text(f"{HEADER}a\ts\tHello.\thello\n", "utf-8")
    assert len(load_prompts(own)) == 1
    text = changed.read_text("utf-8")
    changed.write_text(text.replace("Splendid idea.", "Splendid ideas."), "utf-8")
    with pytest.raises(PromptError, match=r"english\.tsv: changed: .*git checkout .*sha256sum"):
        load_prompts(changed)
    assert load_prompts(tmp_path / STRESS.name)
    changed.write_text(text, "utf-8")
    assert load_prompts(changed) == load_prompts(ENGLISH)


def test_checksums_that_do_not_read_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text(f"{HEADER}a\ts\tHello.\thello\n", "utf-8")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  other.tsv\nabc own.tsv\n", "utf-8")
    with pytest.raises(PromptError, match=r"SHA256SUMS:2: no checksum"):
        load_prompts(path)


def test_an_unknown_split_is_an_error() -> None:
    with pytest.raises(PromptError, match="choose search, confirmation or all"):
        load_prompts(ENGLISH, split="train")  # type: ignore[arg-type]


def test_blank_lines_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.tsv"
    text = f"\ufeff{HEADER}\na\ts\tHello.\thello\n\n".replace("\n", "\r\n")
    path.write_bytes(text.encode())
    assert load_prompts(path) == (Prompt(id="a", stratum="s", text="Hello.", reference="hello"),)


def test_the_digest_sees_every_field_and_the_order() -> None:
    prompt = Prompt(id="a", stratum="s", text="Hello.", reference="hello")
    changed = [
        replace(prompt, id="b"),
        replace(prompt, stratum="t"),
        replace(prompt, text="Hello!"),
        replace(prompt, reference="hallo"),
        # The same characters in other columns.
        Prompt(id="as", stratum="", text="Hello.", reference="hello"),
    ]
    digests = {prompt_digest([p]) for p in [prompt, *changed]}
    assert len(digests) == 6
    pair = [prompt, changed[0]]
    assert prompt_digest(pair) == prompt_digest(tuple(pair)) != prompt_digest(pair[::-1])


@pytest.mark.parametrize("split", ["search", "confirmation"])
def test_longer_texts_can_be_left_out_of_either_half(split: str) -> None:
    short = load_prompts(ENGLISH, split=split, n=32, max_characters=60)  # type: ignore[arg-type]
    whole = {p.id for p in load_prompts(ENGLISH, split=split)}  # type: ignore[arg-type]
    assert max(len(p.text) for p in short) <= 60
    assert {p.id for p in short} <= whole
