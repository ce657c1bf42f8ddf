"""The sentences the voice and the ear learn from, in spoken form.

    python -m training.corpus -o training/data/corpus.txt.gz

Prose from Debian packages (fortunes, wordnet-base, dict-gcide, dict-jargon, dict-foldoc,
dict-devil, wamerican-huge and English manuals; what is missing is skipped and said so), single
words and phrases, and templates of our own, many with names. ``--root`` reads packages that were
only unpacked.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from evaluation.prompts import load_prompts
from training import corpus_sources as sources
from training.corpus_templates import named, short_answers, templates
from tts.embedded.text import normalise, split_sentences
from tts.errors import TextError

SHORTEST, LONGEST = 2, 190
# Shorter prose is debris more often than not; short answers and phrases have sources of their own.
SHORTEST_PROSE = 18
N_SHORT, N_TEMPLATES, N_NAMES = 31_000, 42_000, 48_000
N_FREQUENT, N_RARE = 12_000, 6_000
LONG_SHARE = 0.17
# At most so many sentences of one source, so that no style drowns the others.
CAPS = {
    "fortunes": 30_000, "glosses": 28_000, "examples": 36_000, "dictionaries": 36_000,
    "manuals": 42_000, "essays": 18_000,
}  # fmt: skip
# Code, tables, paths and formulas.
_ODD = re.compile(r"[{}<>\\|_^~`=]|[/\-.]{3,}|\d[A-Za-z]{2,}\d|(?:\W\s?){5,}|[A-Z]{7,}|\bhttps?:")
_UNFIT = re.compile(
    r"\b(?:f+u+c+k\w*|motherf\w*|shit\w*|bullshit\w*|cunt\w*|nigg\w*|negro\w*|fag|fags|faggot\w*|"
    r"kikes?|spics?|chinks?|wetback\w*|retard(?:ed|s)?|whor\w+|sluts?|bitch\w*|bastard\w*|"
    r"assholes?|arseholes?|piss\w*|cocksuck\w*|dildo\w*|penis\w*|vaginas?|vulvas?|clitoris\w*|"
    r"anus|rectums?|semen|sperm\w*|ejaculat\w*|masturbat\w*|orgasm\w*|coitus|copulat\w*|"
    r"intercourse|fornicat\w*|sodom\w*|rape[ds]?|raping|rapists?|incest\w*|pederast\w*|"
    r"paedophil\w*|pedophil\w*|prostitut\w*|brothels?|porn\w*|nazis?|hitler|lynch\w*|genocid\w*|"
    r"suicid\w*|tits|boobs?|blowjobs?|erections?|testicles?|scrotum|feces|faeces|dykes?|gook\w*|"
    r"darkies|darky|coons?|honky|gyps(?:y|ies)|squaws?|heathens?|savages|jews?|sambo|wog|wogs|sex|"
    r"sexual\w*|horny|lesbians?|homosexual\w*|turds?|farts?|fart\w+|crap\w*|damn\w*)\b"
)


def spoken(texts: Iterable[str], rng: random.Random) -> Iterable[str]:
    """Turn written sentences into pieces of LONGEST characters at the most, unfit ones left out."""
    for text in texts:
        if len(text) < SHORTEST or len(text) > 900 or _ODD.search(text):
            continue
        try:
            said = normalise(text)
        except TextError:
            continue
        pieces = split_sentences(said, rng.choice((140, 165, LONGEST)))
        yield from (piece for piece in pieces if _fits(piece))


def _fits(piece: str) -> bool:
    if not SHORTEST <= len(piece) <= LONGEST or _UNFIT.search(piece):
        return False
    words = re.findall("[a-z']+", piece)
    # A row of single letters or one endless word is debris of a table or of a formula.
    letters = sum(len(word) == 1 for word in words)
    return bool(words) and max(map(len, words)) <= 22 and letters <= max(2, len(words) // 3)


def phrases(prose: Sequence[str], listed: Sequence[str], rng: random.Random) -> list[str]:
    """Make single words and two- or three-word phrases; every frequent word is among them.

    Args:
        prose: Spoken sentences: frequency is counted here, and phrases are cut from here.
        listed: A word list; words outside it are not spoken alone.
        rng: The source of chance.
    """
    count = Counter(word for text in prose for word in re.findall("[a-z']+", text))
    known = set(listed)
    frequent = [word for word, _ in count.most_common() if word in known][:N_FREQUENT]
    others = sorted(known - set(frequent))
    rare = rng.sample(others, min(len(others), N_RARE))
    singles = [f"{word}{rng.choice('....?!')}" for word in [*frequent, *rare]]
    cut = []
    for text in rng.sample(list(prose), min(len(prose), N_SHORT)):
        words = re.findall("[a-z']+", text)
        size = rng.choice((2, 2, 3, 3, 4))
        at = rng.randrange(max(1, len(words) - size + 1))
        cut.append(f"{' '.join(words[at : at + size])}{rng.choice('...?!')}")
    return singles + [text for text in cut if _fits(text)][: N_SHORT - len(singles)]


def joined(prose: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Join two or three sentences into long ones of LONGEST characters at the most."""
    tries = (" ".join(rng.choices(prose, k=rng.choice((2, 2, 3)))) for _ in range(50 * count))
    return list(islice((text for text in tries if 90 <= len(text) <= LONGEST), count))


def excluded(folder: Path) -> set[str]:
    """Read the words of every prompt, whole and cut: none may be learned from."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.tsv")):
        for prompt in load_prompts(path):
            said = normalise(prompt.text)
            pieces = {said, *split_sentences(said), *re.split(r"(?<=[.?!]) ", said)}
            found |= {_words(piece) for piece in pieces}
    return found


def _words(text: str) -> str:
    return " ".join(re.findall("[a-z']+", text))


def build(root: Path, prompts: Path, seed: int) -> list[str]:
    """Gather, filter, deduplicate and shuffle the whole corpus."""
    rng = random.Random(seed)
    readers = {
        "fortunes": sources.fortunes(root), "glosses": sources.wordnet_glosses(root),
        "examples": sources.wordnet_examples(root), "dictionaries": sources.dictionaries(root),
        "manuals": sources.manuals(root), "essays": sources.essays(root),
    }  # fmt: skip
    prose: list[str] = []
    for name, reader in readers.items():
        written = sorted({text for text in reader if len(text) >= SHORTEST_PROSE})
        rng.shuffle(written)
        taken = list(islice(spoken(written, rng), CAPS[name]))
        print(f"{name}: {len(written)} sentences, {len(taken)} pieces taken")
        prose += taken
    own = [*spoken(templates(rng, N_TEMPLATES), rng), *spoken(short_answers(), rng)]
    own += spoken(named(sources.names(root), rng, N_NAMES), rng)
    short = phrases(prose, sources.words(root), rng)
    everything = {*prose, *own, *short}
    unseen = excluded(prompts)
    everything = {text for text in everything if _words(text) not in unseen}
    everything |= set(
        joined(sorted(everything - set(short)), int(LONG_SHARE * len(everything)), rng)
    )
    kept = sorted(everything)
    rng.shuffle(kept)
    return kept


def describe(sentences: Sequence[str]) -> str:
    """Say how many sentences there are and how long they are."""
    lengths = [len(text) for text in sentences]
    bins = Counter(min(n // 20, LONGEST // 20) for n in lengths)
    rows = [f"{20 * b:4d}-{20 * b + 19:<4d} {bins[b]:7d}" for b in sorted(bins)]
    mean = sum(lengths) / len(lengths)
    return "\n".join([f"{len(sentences)} sentences, {mean:.1f} characters on average", *rows])


def main() -> None:
    """Write the corpus, one sentence a line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path("/"), help="where packages lie unpacked")
    parser.add_argument("--prompts", type=Path, default=Path("configs/prompts"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sentences = build(args.root, args.prompts, args.seed)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    partial = args.output.with_suffix(".tmp")
    # A fixed time stamp: the same packages and seed give the same bytes.
    partial.write_bytes(gzip.compress("\n".join(sentences).encode("ascii") + b"\n", 9, mtime=0))
    partial.rename(args.output)
    print(describe(sentences))


if __name__ == "__main__":
    main()
