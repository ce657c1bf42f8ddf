"""What was said in a folder of wavs: a name, a text and what should be heard, a line each.

A line is ``name<TAB>text`` or ``name<TAB>text<TAB>reference``; the name is the wav's without its
``.wav``. Lines that begin with ``#`` and blank ones are skipped. A table of prompts (see
``evaluation.prompts``) is read too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import InputsError
from evaluation.prompts import HEADER, PromptError, is_unheard, load_prompts, read_lines

_COLUMNS = "name<TAB>text, or name<TAB>text<TAB>reference"


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One utterance that every folder holds.

    Args:
        name: Its wav's name, without ``.wav``.
        text: What was to be spoken.
        reference: What should be heard; the text itself where no other was given.
        line: Where it stands in its file, counted from 1.
    """

    name: str
    text: str
    reference: str
    line: int


def read_texts(path: Path) -> tuple[Spoken, ...]:
    """Read a file of texts.

    Args:
        path: Lines of name, text and perhaps reference, or a table of prompts.

    Raises:
        InputsError: Every problem with its line, or that the file does not read at all.
    """
    try:
        lines = read_lines(path)
        if tuple(lines[0].split("\t")) == HEADER:
            return _from_prompts(path, lines)
    except PromptError as error:
        raise InputsError([str(error)]) from error
    spoken, problems = _from_lines(path, lines)
    problems += [f"{path}:{s.line}: {why}" for s in spoken.values() if (why := _unheard(s))]
    if problems:
        raise InputsError(problems)
    if not spoken:
        raise InputsError([f"{path}: holds no text; write a line for each wav: {_COLUMNS}"])
    return tuple(spoken.values())


def _from_prompts(path: Path, lines: list[str]) -> tuple[Spoken, ...]:
    line_of = {line.split("\t")[0].strip(): i for i, line in enumerate(lines, start=1)}
    return tuple(
        Spoken(name=p.id, text=p.text, reference=p.reference, line=line_of[p.id])
        for p in load_prompts(path)
    )


def _from_lines(path: Path, lines: list[str]) -> tuple[dict[str, Spoken], list[str]]:
    """Return what reads, by name, and one line per problem."""
    spoken: dict[str, Spoken] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _spoken(number, line)
        if isinstance(found, str):
            problems.append(f"{path}:{number}: {found}")
        elif found.name in spoken:
            taken = f"the name {found.name!r} is on line {spoken[found.name].line} already"
            problems.append(f"{path}:{number}: {taken}; give every wav one line")
        else:
            spoken[found.name] = found
    return spoken, problems


def _spoken(number: int, line: str) -> Spoken | str:
    """Return what a line says, or what is wrong with it and what to do."""
    cells = [cell.strip() for cell in line.split("\t")]
    if len(cells) not in (2, 3):
        what = "no tab in it" if len(cells) == 1 else f"{len(cells)} columns"
        return f"{what}; write {_COLUMNS}"
    for what, cell in zip(("name", "text", "reference"), cells, strict=False):
        if not cell:
            return f"the {what} is empty; fill it in or remove the line"
    name = cells[0][:-4] if cells[0].lower().endswith(".wav") else cells[0]
    if not name or Path(name).name != name:
        return f"the name {cells[0]!r} is none of a file in a folder; give the wav's own name"
    return Spoken(name=name, text=cells[1], reference=cells[-1], line=number)


def _unheard(spoken: Spoken) -> str | None:
    """Say why nothing can be compared with a reference, or return None."""
    if not is_unheard(spoken.reference):
        return None
    return (
        f"the reference {spoken.reference!r} is empty once normalised, so no word can be counted; "
        "write what should be heard into a third column, or remove the line and its wavs"
    )
