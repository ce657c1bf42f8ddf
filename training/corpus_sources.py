"""English sentences as Debian's packages hold them: fortunes, WordNet, dictionaries, manuals."""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Iterator
from pathlib import Path

_SENTENCE_END = re.compile(
    r"(?<=[.?!])(?<!\b[A-Z]\.)(?<!\b[DM]r\.)(?<!\bMrs\.)(?<!\bSt\.)(?<!\be\.g\.)(?<!\bi\.e\.)"
    r"(?<!\bvs\.)(?<!\bcf\.)[\"')\]]*\s+(?=[\"'(]?[A-Z0-9])"
)
# What dictionaries print around a definition and nobody says.
_APPARATUS = re.compile(
    r"\\|\b(?:Syn|Obs|Zool|Bot|Gr|OE|pl|adj|adv|fr|cf|Cf|op|cit|Op|Naut|Anat|Geol|Mil|Mus|Min|R|L|F|"
    r"v|n|p|t|i|a|imp|Chem|Law|Med|Arch|Eccl|Scot|Prov|Webster|Etym)[.:]|^\W*See\b|^\W*\w+\W*$"
)
_MANUALS = (
    "usr/share/doc/debian-handbook/html/en-US",
    "usr/share/doc/aptitude/html/en",
    "usr/share/doc/installation-guide-amd64/en",
    "usr/share/doc/debian/FAQ",
    "usr/share/debian-reference",
    "usr/share/doc/maint-guide/html",
    "usr/share/doc/developers-reference",
    "usr/share/gimp/2.0/help/en",
)


def fortunes(root: Path) -> Iterator[str]:
    """Yield the sentences of every fortune that is not marked offensive."""
    for path in sorted((root / "usr/share/games/fortunes").glob("*")):
        if path.suffix or path.is_dir() or path.name in ("ascii-art", "translate-me"):
            continue
        for fortune in path.read_text("utf-8", "replace").split("\n%"):
            body = re.split(r"\n\s*(?:--|\[)", fortune)[0]
            yield from _sentences(body)


def wordnet_glosses(root: Path) -> Iterator[str]:
    """Yield WordNet's definitions, without its examples."""
    for gloss in _glosses(root):
        yield from (part.strip() for part in re.sub(r'"[^"]*"', "", gloss).split(";"))


def wordnet_examples(root: Path) -> Iterator[str]:
    """Yield WordNet's example sentences and phrases."""
    for gloss in _glosses(root):
        yield from re.findall(r'"([^"]+)"', gloss)


def _glosses(root: Path) -> Iterator[str]:
    for path in sorted((root / "usr/share/wordnet").glob("data.*")):
        for line in path.read_text("latin-1").splitlines():
            head, bar, gloss = line.partition(" | ")
            if bar and not head.startswith("  "):
                yield gloss


def dictionaries(root: Path) -> Iterator[str]:
    """Yield the prose of dictd dictionaries; headwords and cross references are left out."""
    for name in ("jargon", "foldoc", "devils", "devil", "gcide"):
        path = root / f"usr/share/dictd/{name}.dict.dz"
        if path.exists():
            text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
            for paragraph in re.split(r"\n\s*\n|\n(?=\S)", text):
                prose = re.sub(r"[{}]|\[[^\]]*\]|--\s*[A-Z][\w.& ]+", "", paragraph)
                yield from (s for s in _sentences(prose) if not _APPARATUS.search(s))


def manuals(root: Path) -> Iterator[str]:
    """Yield the sentences of the paragraphs of English HTML manuals."""
    for folder in _MANUALS:
        yield from _pages(root / folder)


def essays(root: Path) -> Iterator[str]:
    """Yield the sentences of the long essays of the package anarchism: prose, not reference."""
    yield from _pages(root / "usr/share/doc/anarchism")


def _pages(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.html")):
        if re.search(r"\.(?!en\b)[a-z]{2}(?:[-_]\w+)?\.html$", path.name):
            continue
        page = path.read_text("utf-8", "replace")
        for paragraph in re.findall(r"<p\b[^>]*>(.*?)</p>", page, re.DOTALL):
            yield from _sentences(html.unescape(re.sub(r"<[^>]+>", "", paragraph)))


def words(root: Path) -> list[str]:
    """Read the word list: lower-case words without possessives."""
    lines = (root / "usr/share/dict/american-english").read_text("utf-8").split()
    return [w for w in lines if re.fullmatch(r"[a-z]{2,}(?:'t)?", w)]


def names(root: Path) -> list[str]:
    """Read the proper nouns of the largest word list there is."""
    folder = root / "usr/share/dict"
    path = next(p for size in ("-huge", "") if (p := folder / f"american-english{size}").exists())
    return [w for w in path.read_text("utf-8").split() if re.fullmatch("[A-Z][a-z]{2,13}", w)]


def _sentences(paragraph: str) -> Iterator[str]:
    yield from _SENTENCE_END.split(" ".join(paragraph.split()))
