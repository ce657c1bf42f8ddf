"""The scores of many configurations in one file that grows, so that a run can be gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gate import scorefile
from benchmarks.gate.configurations import CONFIGURATIONS
from evaluation.scores import UtteranceScores

FILE = "classify.jsonl.gz"
KEPT = ("refused", "seconds", "same_words", "same_dnsmos")

Header = dict[str, Any]


class Collection:
    """The file of scores as it grows, written whole after each configuration.

    Args:
        path: The file.
        header: What everything in it has in common, its ``identity`` above all.

    Raises:
        ScoreFileError: There is a file of another voice, judge or set of prompts.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.scores: dict[str, list[UtteranceScores]] = {}
        self.header |= {"refused": {}, "failed": {}, "seconds": {}}
        if path.exists():
            known, self.scores = scorefile.read(path)
            if known["identity"] != header["identity"]:
                raise scorefile.ScoreFileError(
                    f"{path} is of another voice, judge or device: remove it or change --out"
                )
            self.header |= {key: known[key] for key in KEPT if key in known}

    def missing(self) -> list[str]:
        """Return what is not there yet; what was refused will be refused again."""
        done = {*self.scores, *self.header["refused"]}
        return [name for name in CONFIGURATIONS if name not in done]

    def add(
        self, name: str, scores: Sequence[UtteranceScores], seconds: Mapping[str, float]
    ) -> None:
        """Take in one configuration and write the file."""
        self.scores[name] = [scorefile.as_kept(item) for item in scores]
        self.header["seconds"][name] = {k: round(v, 1) for k, v in seconds.items()}
        self.save()

    def save(self) -> None:
        """Write everything, in the order of the configurations."""
        ordered = {name: self.scores[name] for name in CONFIGURATIONS if name in self.scores}
        scorefile.write(self.path, self.header, ordered)
