"""What a score depends on, in sixteen hexadecimal digits: two scores compare only if these agree.

The same clip scores otherwise after an edit of a metric, another network file, another
recogniser, another curated reference or another version of a library; which folder the code lies
in, who runs it and when changes nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOM = Path(__file__).parent
CODE = (
    "asr", "metrics", "audio.py", "content_guards.py", "features.py", "guards.py", "loops.py",
    "sheet.py",
)  # fmt: skip
"""What turns audio into scores, below ``evaluation``; the gate itself may change without them."""

GATE_CODE = (
    "arming.py", "arming_words.py", "canaries.py", "canary_trials.py", "comparisons.py", "gate.py",
    "length_and_noise.py", "paired_rates.py", "planning.py", "recogniser.py", "sequential.py",
    "statistics.py", "tail.py", "tail_bound.py", "verdict.py", "wording.py",
)  # fmt: skip
"""What turns scores into verdicts: how a gate was armed says nothing of other code than this."""

PACKAGES = ("numpy", "scipy", "soundfile", "soxr")
"""Libraries on the way to every metric; each metric names those of its own."""

# The name under which a recogniser was asked for, or its path, says nothing once its bytes do.
_STANDS_FOR = {"asr": "asr_sha256"}


def score_hash(mapping: Mapping[str, str]) -> str:
    """Name what scores depend on: 16 hexadecimal digits, whatever the order of the keys.

    Args:
        mapping: Versions, checksums and digests, as ``Judge.provenance`` returns them.
    """
    counted = {k: v for k, v in mapping.items() if _STANDS_FOR.get(k) not in mapping}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:16]


def describe(metrics: Iterable[object] = (), room: Path = ROOM) -> dict[str, str]:
    """Return the digest of the code that scores, and the versions it runs on.

    Args:
        metrics: Metrics in use; the files of those that are not ours count too.
        room: Where ``evaluation`` lies.
    """
    found = {"code_sha256": code_digest(room)}
    for metric in metrics:
        module = type(metric).__module__
        if not module.startswith("evaluation.metrics."):
            found[f"{module}_sha256"] = _module_digest(module)
    return found | {name: _version(name) for name in PACKAGES}


def code_digest(room: Path = ROOM, names: Iterable[str] = CODE) -> str:
    """Return the SHA-256 of code, by content and place below ``room``.

    Args:
        room: Where ``evaluation`` lies.
        names: Its files and folders: what scores, or ``GATE_CODE``.
    """
    return files_sha256(_sources(room, names), room)


def references_digest(references: Mapping[str, str]) -> str:
    """Name a set of references by its content: 16 hexadecimal digits, whatever their order.

    Args:
        references: Utterance to what should be heard.
    """
    return hashlib.sha256(json.dumps(dict(sorted(references.items()))).encode()).hexdigest()[:16]


def files_sha256(paths: Iterable[Path], folder: Path) -> str:
    """Return the SHA-256 of files in this order, by content and place below ``folder``."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return whole.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sources(room: Path, names: Iterable[str] = CODE) -> list[Path]:
    found: list[Path] = []
    for name in names:
        path = room / name
        found += [path] if path.suffix else path.rglob("*.py")
    return sorted(found)


def _module_digest(name: str) -> str:
    """Return the SHA-256 of a module's source; empty where it has no file."""
    source = importlib.import_module(name).__file__
    return file_sha256(Path(source)) if source else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
