from __future__ import annotations

import gzip
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evaluation.prompts import load_prompts
from training import corpus, corpus_sources
from training.corpus_templates import named, short_answers, templates
from tts.embedded.text import normalise

PROMPTS = Path(__file__).parents[2] / "configs" / "prompts"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Give a root folder with a little of every kind of package."""
    root = tmp_path / "root"
    files = {
        "usr/share/games/fortunes/wise": "Never trust a sleeping clock.\n%\nHe said: go home.\n"
        "Nobody went home at all.\n\t\t-- Somebody\n%\n",
        "usr/share/games/fortunes/wise.dat": "\x00\x01",
        "usr/share/wordnet/data.noun": "  1 a licence line | not a gloss\n"
        '00005930 03 n 01 dwarf 0 000 | a plant that is atypically small; "a dwarf of an oak"  \n',
        "usr/share/doc/debian/FAQ/a.en.html": "<p>First, <b>open</b> the lid of the box.</p>",
        "usr/share/doc/debian/FAQ/a.de.html": "<p>Zuerst den Deckel der Kiste abnehmen.</p>",
        "usr/share/dict/american-english": "apple\napple's\nApril\nbanana\ncafé\n",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, "utf-8")
    dictionary = root / "usr/share/dictd/gcide.dict.dz"
    dictionary.parent.mkdir(parents=True)
    definition = (
        "Lid \\Lid\\, n. [AS. hlid.]\n   A cover of any kind for a vessel or a box. --Chaucer.\n"
        "   [1913 Webster]\n   Syn: See cover and many other words.\n"
    )
    dictionary.write_bytes(gzip.compress(definition.encode()))
    return root


def test_fortunes_are_cut_into_sentences_without_their_authors(packages: Path) -> None:
    assert [text.strip() for text in corpus_sources.fortunes(packages) if text.strip()] == [
        "Never trust a sleeping clock.",
        "He said: go home.",
        "Nobody went home at all.",
    ]


def test_wordnet_gives_glosses_and_examples(packages: Path) -> None:
    assert "a plant that is atypically small" in list(corpus_sources.wordnet_glosses(packages))
    assert list(corpus_sources.wordnet_examples(packages)) == ["a dwarf of an oak"]


def test_dictionaries_give_prose_without_apparatus(packages: Path) -> None:
    found = " ".join(corpus_sources.dictionaries(packages))
    assert "A cover of any kind for a vessel or a box." in found
    assert not re.search(r"Syn|\\|Chaucer|Webster", found)


def test_manuals_are_read_in_english_only(packages: Path) -> None:
    assert list(corpus_sources.manuals(packages)) == ["First, open the lid of the box."]


def test_words_are_plain_lower_case(packages: Path) -> None:
    assert corpus_sources.words(packages) == ["apple", "banana"]


@pytest.mark.parametrize("reader", [corpus_sources.fortunes, corpus_sources.dictionaries,
                                    corpus_sources.manuals, corpus_sources.wordnet_glosses,
                                    corpus_sources.essays])  # fmt: skip
def test_a_package_that_is_missing_gives_nothing(
    reader: Callable[[Path], Iterator[str]], tmp_path: Path
) -> None:
    assert list(reader(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("It costs $5.", ["it costs five dollars."]),
        ("int main() { return 0; }", []),
        ("see https://example.org/x", []),
        ("What a load of shit this is.", []),
        ("a b c d e f g h", []),
        ("...", []),
        ("x" * 30, []),
        ("A control character \x07 inside.", []),
    ],
)
def test_what_is_fit_to_be_spoken(text: str, pieces: list[str]) -> None:
    assert list(corpus.spoken([text], random.Random(0))) == pieces


def test_long_texts_are_cut() -> None:
    pieces = list(corpus.spoken(["many words and more, " * 40], random.Random(0)))
    assert len(pieces) >= 4
    assert max(map(len, pieces)) <= corpus.LONGEST


def test_templates_are_all_speakable_and_filled() -> None:
    rng = random.Random(0)
    made = templates(rng, 2000)
    assert not any("{" in text or "}" in text for text in made)
    for text in made:
        assert re.fullmatch("[a-z][a-z.,?!;:' -]*[.?!]", normalise(text)), text
    assert len(set(made)) > 1800


def test_every_name_of_the_list_is_spoken_about_equally_often() -> None:
    names = ["Adelina", "Bergstrom", "Castellano", "Dumfries"]
    made = " ".join(named(names, random.Random(0), 200))
    counts = [made.count(name) for name in names]
    assert min(counts) > 50
    assert max(counts) - min(counts) <= 2


def test_short_answers_come_in_three_tones() -> None:
    assert {"yes.", "yes?", "yes!"} <= set(short_answers())


def test_phrases_hold_the_frequent_words() -> None:
    prose = ["the lid of the box is blue."] * 50
    listed = ["the", "lid", "box", "blue", *(f"{a}{b}word" for a in "abcdefghijklmnopqrstuvwxyz"
              for b in "abcdefghijklmnopqrstuvwxyz"), *(f"{i}" for i in range(6000))]  # fmt: skip
    found = {re.sub("[.?!]$", "", text) for text in corpus.phrases(prose, listed, random.Random(0))}
    assert {"the", "lid", "box", "blue"} <= found
    assert any(" " in text for text in found)


def test_joined_sentences_are_long_but_not_too_long() -> None:
    prose = [f"this is the sentence with the number {c} in it, and it goes on." for c in "abcdef"]
    made = corpus.joined(prose, 20, random.Random(0))
    assert len(made) == 20
    assert all(90 <= len(text) <= corpus.LONGEST for text in made)


def test_no_prompt_is_learned_from() -> None:
    unseen = corpus.excluded(PROMPTS)
    for path in PROMPTS.glob("*.tsv"):
        for prompt in load_prompts(path):
            assert prompt.reference in unseen or len(prompt.text) > 140


def test_a_whole_corpus_is_reproducible_and_clean(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "N_TEMPLATES", 600)
    monkeypatch.setattr(corpus, "N_NAMES", 100)
    monkeypatch.setattr(corpus, "N_RARE", 2)
    outputs = [tmp_path / "one.txt.gz", tmp_path / "two.txt.gz"]
    for output in outputs:
        monkeypatch.setattr(
            sys, "argv", ["corpus", "-o", str(output), "--root", str(packages),
                          "--prompts", str(PROMPTS)]
        )  # fmt: skip
        corpus.main()
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    sentences = gzip.decompress(outputs[0].read_bytes()).decode("ascii").splitlines()
    assert len(sentences) == len(set(sentences)) > 500
    assert all(re.fullmatch("[a-z.,?!;:' -]{2,190}", text) for text in sentences)
    assert "never trust a sleeping clock." in sentences


def test_the_description_counts() -> None:
    text = corpus.describe(["a" * 10, "b" * 30])
    assert text.startswith("2 sentences, 20.0 characters on average")
