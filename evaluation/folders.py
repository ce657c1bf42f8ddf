"""Folders of anybody's wavs: every file is checked before the first one is judged.

Two folders hold the same utterances by name, at one sample rate, in one channel. What they were
made by is not known here. Rates other than 16 kHz are resampled for both sides alike.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from evaluation.audio import SAMPLE_RATE_HZ
from evaluation.errors import InputsError
from evaluation.metrics.pesq import MAX_LENGTH_DIFFERENCE_S
from evaluation.texts import Spoken
from evaluation.wavs import Sound, examine, list_wavs


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The wavs of one side.

    Args:
        path: The folder.
        sounds: By utterance.
    """

    path: Path
    sounds: Mapping[str, Sound]

    @property
    def digest(self) -> str:
        """Name the folder by its content: 16 hexadecimal digits."""
        lines = sorted(f"{name} {sound.sha256}\n" for name, sound in self.sounds.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that is judged, checked.

    Args:
        texts: What was said, in the order in which it is listened to.
        baseline: What is compared with.
        candidate: What is judged.
        again: The baseline spoken again with other seeds; None where it was not.
        rate_hz: The sample rate of every file.
    """

    texts: tuple[Spoken, ...]
    baseline: Folder
    candidate: Folder
    again: Folder | None
    rate_hz: int

    @property
    def resampling(self) -> str:
        """Say how the audio comes to 16 kHz; empty where it is there already."""
        if self.rate_hz == SAMPLE_RATE_HZ:
            return ""
        return f"{self.rate_hz} to {SAMPLE_RATE_HZ} Hz by soxr {version('soxr')}, HQ"


def check_folders(
    texts: Sequence[Spoken],
    texts_path: Path,
    *,
    baseline: Path,
    candidate: Path,
    again: Path | None = None,
    n: int | None = None,
    aligned: bool = False,
) -> Inputs:
    """Read every file once and pair them up.

    Args:
        texts: What was said.
        texts_path: Where that is written, for the messages.
        baseline: The folder of what is compared with.
        candidate: The folder of what is judged.
        again: The folder of the baseline with other seeds.
        n: How many utterances to judge; None is all.
        aligned: Whether both folders are renderings of the same tokens, of the same length.

    Raises:
        InputsError: Every problem with its file and its remedy.
    """
    paths = [baseline, candidate, *([again] if again else [])]
    problems = _same_folder(paths)
    if n is not None and not 1 <= n <= len(texts):
        problems.append(f"--n {n}: {texts_path} has {len(texts)} texts; give 1 to {len(texts)}")
    listed = [list_wavs(path) for path in paths]
    problems += [problem for _, found in listed for problem in found]
    if any(not wavs for wavs, _ in listed):  # a folder that is not there would miss every file
        raise InputsError(problems)
    problems += _unpaired(texts, texts_path, paths, [wavs for wavs, _ in listed])
    folders = []
    for path, (wavs, _) in zip(paths, listed, strict=True):
        sounds, found = _read(wavs)
        problems += found
        folders.append(Folder(path=path, sounds=sounds))
    problems += _mixed_rates(folders)
    problems += _not_aligned(folders[0], folders[1]) if aligned else []
    problems += _not_again(folders[0], folders[2]) if again else []
    if problems:
        raise InputsError(problems)
    return Inputs(
        texts=tuple(sorted(texts, key=_place)[:n]),
        baseline=folders[0],
        candidate=folders[1],
        again=folders[2] if again else None,
        rate_hz=next(iter(folders[0].sounds.values())).rate_hz,
    )


def _place(spoken: Spoken) -> str:
    """Return where an utterance stands in the order of listening.

    Files of texts often begin with the short ones, and an early look must see a fair share of all.
    """
    return hashlib.sha256(spoken.name.encode()).hexdigest()


def _same_folder(paths: Sequence[Path]) -> list[str]:
    count = Counter(path.resolve() for path in paths)
    twice = [path for path, times in count.items() if times > 1]
    return [f"{path}: is given twice; a folder cannot be judged against itself" for path in twice]


def _unpaired(
    texts: Sequence[Spoken],
    texts_path: Path,
    paths: Sequence[Path],
    listed: Sequence[Mapping[str, Path]],
) -> list[str]:
    """Name each text without a wav and each wav without a text."""
    problems = []
    for spoken in texts:
        absent = [
            str(folder) for folder, wavs in zip(paths, listed, strict=True)
            if spoken.name not in wavs
        ]  # fmt: skip
        if absent:
            problems.append(
                f"{texts_path}:{spoken.line}: {spoken.name}.wav is missing in "
                f"{' and '.join(absent)}; add it or remove the line"
            )
    names = {spoken.name for spoken in texts}
    for wavs in listed:
        problems += [
            f"{path}: {texts_path} has no text for it; add a line for {name!r} or move it away"
            for name, path in wavs.items()
            if name not in names
        ]
    return problems


def _read(wavs: Mapping[str, Path]) -> tuple[dict[str, Sound], list[str]]:
    found = {name: examine(path) for name, path in wavs.items()}
    problems = [sound for sound in found.values() if isinstance(sound, str)]
    return {name: sound for name, sound in found.items() if isinstance(sound, Sound)}, problems


def _mixed_rates(folders: Sequence[Folder]) -> list[str]:
    """Name the files whose rate is not the baseline's usual one; a whole folder on one line."""
    rates = [sound.rate_hz for sound in folders[0].sounds.values()]
    if not rates:
        return []
    usual, remedy = Counter(rates).most_common(1)[0][0], "resample all of them to one rate"
    where = f"the files of {folders[0].path} have {usual} Hz"
    problems = []
    for folder in folders:
        others = [sound for sound in folder.sounds.values() if sound.rate_hz != usual]
        found = {sound.rate_hz for sound in others}
        if len(others) == len(folder.sounds) > 1 and len(found) == 1:
            whole = f"all {len(others)} files have {found.pop()} Hz"
            problems.append(f"{folder.path}: {whole}, {where}; {remedy}")
        else:
            problems += [f"{s.path}: has {s.rate_hz} Hz, {where}; {remedy}" for s in others]
    return problems


def _not_aligned(baseline: Folder, candidate: Folder) -> list[str]:
    """Name the pairs whose lengths show that they are not renderings of the same tokens."""
    problems = []
    for name, ours in candidate.sounds.items():
        theirs = baseline.sounds.get(name)
        difference_s = abs(ours.duration_s - theirs.duration_s) if theirs else 0.0
        if difference_s > MAX_LENGTH_DIFFERENCE_S:
            problems.append(
                f"{ours.path}: is {difference_s:.2f} s away from the baseline's length, so it is "
                "no rendering of the same tokens; leave --aligned out"
            )
    return problems


def _not_again(baseline: Folder, again: Folder) -> list[str]:
    """Refuse a second hearing that is the first one: it would agree with itself whatever it is."""
    ours = {name: sound.sound_sha256 for name, sound in again.sounds.items()}
    if ours and ours == {name: sound.sound_sha256 for name, sound in baseline.sounds.items()}:
        what = "every file holds the baseline's own samples"
        remedy = "synthesize the texts again with other seeds, or leave --baseline-again out"
        return [f"{again.path}: {what}; {remedy}"]
    return []
