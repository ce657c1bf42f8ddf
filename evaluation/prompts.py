"""Prompts: what is spoken, what a listener should write down, and which half may be searched on.

A prompt file is a UTF-8 table with tabs: a header line ``id stratum text reference``, then one
prompt a line. The reference is curated: the spoken words, lower case, apostrophes the only marks.
A file that is named in a ``SHA256SUMS`` beside it must have that checksum: scores on other prompts
do not compare.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluation.errors import EvaluationError
from evaluation.provenance import file_sha256

HEADER = ("id", "stratum", "text", "reference")
SUMS = "SHA256SUMS"
# Which prompts are held back must never change with a sweep's own seed.
SPLIT_SEED = 20_260

Split = Literal["search", "confirmation", "all"]


class PromptError(EvaluationError):
    """A prompt file that does not read; the message names file, line and remedy.

    Args:
        path: The file.
        line: The line, counted from 1; None where the whole file is meant.
        message: What is wrong and what to do about it.
    """

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        super().__init__(f"{path}{'' if line is None else f':{line}'}: {message}")
        self.path = path
        self.line = line


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One text to speak.

    Args:
        id: Its name, unique in its file and safe in a file name.
        text: What is spoken, as a person writes it.
        reference: The words a listener should write down.
        stratum: The kind of text, such as ``questions``.
    """

    id: str
    text: str
    reference: str
    stratum: str = field(default="all")


def load_prompts(
    path: Path | str,
    *,
    split: Split = "all",
    n: int | None = None,
    seed: int = 0,
    max_characters: int | None = None,
) -> tuple[Prompt, ...]:
    """Read a prompt file, or an even share of one half of it.

    Args:
        path: A table of prompts.
        split: ``search``, ``confirmation`` (disjoint halves of every stratum) or ``all``.
        n: How many, spread evenly over the strata; None takes all of them in file order. With the
            same seed a smaller ``n`` takes the first of what a larger one takes.
        seed: Which ones are taken and in which order; it never moves a prompt between halves.
        max_characters: Leave out longer texts, in either half; None keeps all.

    Returns:
        The prompts.

    Raises:
        PromptError: The file does not read, is not the one whose checksum stands beside it, or
            holds fewer than ``n`` prompts in this half.
    """
    path = Path(path)
    if split not in ("search", "confirmation", "all"):
        raise PromptError(path, None, f"split {split!r}: choose search, confirmation or all")
    prompts = _read(path)
    kept = prompts if split == "all" else _half(prompts, split)
    if max_characters is not None:
        kept = [prompt for prompt in kept if len(prompt.text) <= max_characters]
    if n is None:
        return tuple(kept)
    if not 1 <= n <= len(kept):
        raise PromptError(
            path,
            None,
            f"n={n}: the {split} part holds {len(kept)} prompts; ask for 1 to {len(kept)}",
        )
    return _spread(kept, n, seed)


def prompt_digest(prompts: Iterable[Prompt]) -> str:
    """Name a list of prompts by its content: 16 hexadecimal digits, sensitive to the order."""
    sha = hashlib.sha256()
    for prompt in prompts:
        for value in (prompt.id, prompt.stratum, prompt.text, prompt.reference):
            sha.update(f"{len(value)}:{value}".encode())
    return sha.hexdigest()[:16]


def _half(prompts: Sequence[Prompt], split: Split) -> list[Prompt]:
    """Keep one half of every stratum, in file order; an odd one out goes to the search."""
    chosen: set[str] = set()
    for name, members in _strata(prompts).items():
        ids = sorted(prompt.id for prompt in members)
        random.Random(f"{SPLIT_SEED}/{name}").shuffle(ids)
        middle = (len(ids) + 1) // 2
        chosen.update(ids[:middle] if split == "search" else ids[middle:])
    return [prompt for prompt in prompts if prompt.id in chosen]


def _spread(prompts: Sequence[Prompt], n: int, seed: int) -> tuple[Prompt, ...]:
    """Take turns over the strata, each in an order of its own, until there are ``n``."""
    queues = []
    for name, members in _strata(prompts).items():
        order = list(members)
        random.Random(f"{seed}/{name}").shuffle(order)
        queues.append(order)
    random.Random(f"{seed}").shuffle(queues)
    longest = max(map(len, queues))
    turns = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    return tuple(turns[:n])


def _strata(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    strata: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        strata.setdefault(prompt.stratum, []).append(prompt)
    return strata


def _read(path: Path) -> list[Prompt]:
    header, *rows = read_lines(path)
    _check_sum(path)
    if tuple(header.split("\t")) != HEADER:
        missing = [name for name in HEADER if name not in header.split("\t")]
        what = f"the column {missing[0]!r} is missing" if missing else "wrong header"
        raise PromptError(path, 1, f"{what}; the first line must be {'<TAB>'.join(HEADER)}")
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(rows, start=2):
        if not row.strip():
            continue
        prompt = _prompt(path, number, row)
        if prompt.id in prompts:
            raise PromptError(
                path, number, f"the id {prompt.id!r} is taken; give every line its own"
            )
        prompts[prompt.id] = prompt
    if not prompts:
        raise PromptError(path, None, "there is no prompt below the header; add at least one line")
    return list(prompts.values())


def _check_sum(path: Path) -> None:
    """Compare a file with the checksum beside it, if there is one: a line as ``sha256sum`` writes.

    Raises:
        PromptError: They differ, or the checksums do not read.
    """
    sums = path.parent / SUMS
    if not sums.is_file():
        return
    found = file_sha256(path)
    anew = f"write it anew with: cd {path.parent} && sha256sum *.tsv > {SUMS}"
    for number, line in enumerate(read_lines(sums), start=1):
        known = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if line and known is None:
            raise PromptError(sums, number, f"no checksum and file name; {anew}")
        if known and known[2] == path.name and known[1] != found:
            what = f"its SHA-256 is {found[:12]}..., not {known[1][:12]}... as in {sums}"
            remedy = f"restore it with 'git checkout {path}', or, if you mean the change, {anew}"
            raise PromptError(path, None, f"changed: {what}; {remedy}")


def read_lines(path: Path) -> list[str]:
    """Read a UTF-8 file, with or without a byte order mark, of Unix or Windows line ends.

    Raises:
        PromptError: It does not read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise PromptError(path, None, f"{reason}; give the path of a table of texts") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PromptError(path, line, "not UTF-8; save the file as UTF-8") from error
    return text.replace("\r\n", "\n").split("\n")


def _prompt(path: Path, number: int, row: str) -> Prompt:
    cells = [cell.strip() for cell in row.split("\t")]
    if len(cells) != len(HEADER):
        raise PromptError(
            path, number, f"{len(cells)} columns instead of {len(HEADER)}; separate "
            f"{', '.join(HEADER)} by single tabs",
        )  # fmt: skip
    for name, cell in zip(HEADER, cells, strict=True):
        if not cell:
            raise PromptError(path, number, f"the {name} is empty; fill it in or remove the line")
    if not re.fullmatch(r"[\w.-]+", cells[0], re.ASCII):
        raise PromptError(
            path, number, f"the id {cells[0]!r} cannot name a file; use letters, digits, . _ and -"
        )
    if is_unheard(cells[3]):
        what = f"the reference {cells[3]!r} is empty once normalised, so no word can be counted"
        raise PromptError(path, number, f"{what}; write what a listener hears")
    return Prompt(id=cells[0], stratum=cells[1], text=cells[2], reference=cells[3])


def is_unheard(reference: str) -> bool:
    """Say whether no word is left of a reference once it is normalised, as of ``uh`` or ``[bang]``.

    The normaliser drops what stands in brackets and the fillers, of h, m and u alone; it takes
    seconds to load, so it is asked only where one of these may be all there is.
    """
    if not re.search(r"[(\[<]", reference) and re.search(r"[^\W_hmuHMU]", reference):
        return False
    from evaluation.metrics.wer import normalise

    return not any(character.isalnum() for character in normalise(reference))
