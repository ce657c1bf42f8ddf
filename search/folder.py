"""A study's folder: one sweep at a time, numbered trial folders, the time spent."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from search.errors import InfrastructureError, StudyBusyError, StudyMismatchError
from search.record import (
    DRAFT_NAME,
    RECORD_NAME,
    TrialRecord,
    folder_name,
    read_record,
    read_records,
    write_atomically,
)

CONDITIONS = "study.json"
CLOCK = "clock.json"
CLIPS = "clips.json"
Account = Literal["search", "confirm"]


class StudyFolder:
    """``root/<study>``, locked for as long as the context lasts.

    The lock is the kernel's: it is gone with the process that held it, however that ended.
    """

    def __init__(self, root: Path, study: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.root, self.study, self.clock = root, study, clock
        self.path = root / study
        self.trials = self.path / "trials"
        self.lock = -1
        self.account: Account = "search"
        self.earlier_s: dict[Account, float] = {"search": 0.0, "confirm": 0.0}
        self.begun = clock()

    def __enter__(self) -> StudyFolder:
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
            self.lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InfrastructureError(
                f"cannot write below {self.root}: {error.strerror or error}; make the folder "
                "writable or choose another one"
            ) from error
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.lock)
            raise StudyBusyError(
                f"another sweep is running on study {self.study!r}; wait for it, or give this one "
                "another name"
            ) from error
        told = self._read(CLOCK)
        confirm_s = float(told.get("confirm_s", 0.0))
        self.earlier_s = {
            "search": float(told.get("spent_s", 0.0)) - confirm_s, "confirm": confirm_s,
        }  # fmt: skip
        self.begun = self.clock()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.lock)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InfrastructureError(f"cannot read {path}: {error}") from error
        return found if isinstance(found, dict) else {}

    @property
    def spent_s(self) -> float:
        """Seconds spent on this study, earlier sittings included."""
        return sum(self.accounts().values())

    def accounts(self) -> dict[Account, float]:
        """Return the seconds spent on the search and on the confirmation."""
        spent = dict(self.earlier_s)
        spent[self.account] += self.clock() - self.begun
        return spent

    def spend_on(self, account: Account) -> None:
        """Let the time from here on count as the search's or as the confirmation's."""
        now = self.clock()
        self.earlier_s[self.account] += now - self.begun
        self.account, self.begun = account, now

    def save_clock(self) -> None:
        """Write down the time spent; a kill loses what came after the last call."""
        spent = self.accounts()
        told = {"spent_s": sum(spent.values()), "confirm_s": spent["confirm"]}
        write_atomically(self.path / CLOCK, json.dumps(told))

    def check_conditions(self, conditions: Mapping[str, str], config: Mapping[str, Any]) -> None:
        """Write down what the study's results depend on, or compare with what is there.

        Raises:
            StudyMismatchError: The study was begun under other conditions.
        """
        known = self._read(CONDITIONS).get("conditions")
        if known is not None:
            other = [k for k in conditions if known.get(k) != conditions[k]]
            if other:
                changes = "; ".join(f"{k} was {known.get(k)}, is {conditions[k]}" for k in other)
                raise StudyMismatchError(
                    f"study {self.study!r} was begun under other conditions ({changes}); its "
                    f"results cannot be compared: give this sweep another name or remove "
                    f"{self.path}"
                )
        text = json.dumps({"conditions": dict(conditions), "config": dict(config)}, indent=1)
        write_atomically(self.path / CONDITIONS, text)

    def records(self) -> list[TrialRecord]:
        """Read all records, and clear away trial folders that got neither one nor a draft."""
        records = read_records(self.path)
        kept = {record.folder_name for record in (*records, *self.drafts())}
        for path in self.trials.iterdir():
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
        return records

    def drafts(self) -> list[TrialRecord]:
        """Read the records that are not finished: confirmations that were cut short."""
        found = sorted(self.trials.glob(f"*/{DRAFT_NAME}"))
        return [read_record(p) for p in found if not (p.parent / RECORD_NAME).exists()]

    def make_trial(self, number: int, digest: str) -> Path:
        """Make an empty trial folder."""
        path = self.trials / folder_name(number, digest)
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        except OSError as error:
            raise InfrastructureError(f"cannot make {path}: {error.strerror or error}") from error
        return path

    def remove_trial(self, name: str) -> None:
        """Remove a trial folder that gets no record."""
        shutil.rmtree(self.trials / name, ignore_errors=True)

    def set_aside(self, record: TrialRecord) -> Path:
        """Move the folder of a trial that does not count away, so that it can be run again."""
        target = self.path / "unfit" / f"{record.folder_name}-{int(time.time())}"
        target.parent.mkdir(exist_ok=True)
        (self.trials / record.folder_name).rename(target)
        return target

    def forget_conditions(self) -> None:
        """Let the study begin anew under other conditions: it has no baseline yet."""
        (self.path / CONDITIONS).unlink(missing_ok=True)
