"""The house rules that no linter knows: the lock, the sizes, the version, the public names."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("tts", "evaluation", "search")
MAX_FILE_LINES = 600
MAX_WEIGHTS_BYTES = 50_000_000
LOCKS = ("requirements.lock", "requirements-build.lock")

# What a user's own adapter, metric or script may import; a name leaves only with a major version.
PUBLIC = {
    "tts.adapters": ["BUILTIN", "ModelError"],
    "tts.build": ["build"],
    "tts.errors": ["InapplicableError", "TextError", "TtsError", "WeightsError"],
    "tts.options": ["Options", "Sampling"],
    "tts.types": ["Applied", "Audio", "AudioChunk", "Built", "Synthesizer", "Utterance"],
    "evaluation.errors": ["MetricError"],
    "evaluation.gate": ["Bound", "GateConfig", "Verdict", "check_baseline", "decide"],
    "evaluation.judge": ["Judge"],
    "evaluation.metrics.base": ["Metric", "MetricSettings", "Subject"],
    "evaluation.scores": ["Clip", "UtteranceScores"],
    "search.config": ["ConfigError", "SweepConfig", "load_config"],
    "search.record": ["TrialRecord"],
    "search.study": ["run_sweep"],
}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normalised(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def pinned(lock: str) -> dict[str, str]:
    """The entries of a lock file: a package with its hashes, by normalised name."""
    lines = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return {normalised(line): line for line in lines if re.match(r"[A-Za-z0-9]", line)}


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    for forbidden in ("://", "--index", "--extra-index", "--find-links", "file:", " @ ", str(ROOT)):
        assert forbidden not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_package_by_version_and_hash(lock: str) -> None:
    entries = pinned(lock)
    assert entries
    loose = [
        name
        for name, entry in entries.items()
        if not re.search(r"==\d", entry) or "--hash=sha256:" not in entry
    ]
    assert loose == []


def test_every_dependency_is_in_the_lock(project: dict[str, Any]) -> None:
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    missing = {normalised(name) for name in wanted} - set(pinned("requirements.lock"))
    assert missing == set()


def test_what_builds_packages_is_what_they_run_with() -> None:
    run, build = (pinned(lock) for lock in LOCKS)
    shared = sorted(set(run) & set(build))
    assert "numpy" in shared
    assert [build[name].split()[0] for name in shared] == [run[name].split()[0] for name in shared]


def test_version_is_the_same_everywhere(project: dict[str, Any]) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "search.cli", "--version"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert project["version"] in asked.stdout.split()


def test_no_file_outgrows_its_room() -> None:
    sizes = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in sources(*ROOMS)}
    assert {path for path, n_lines in sizes.items() if n_lines > MAX_FILE_LINES} == set()


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_file_is_named_for_nothing(name: str) -> None:
    assert [path for path in sources(*ROOMS, "training") if path.stem == name] == []


def test_weights_stay_small() -> None:
    weights = [path for room in ROOMS for path in (ROOT / room).rglob("*.safetensors")]
    assert sum(path.stat().st_size for path in weights) <= MAX_WEIGHTS_BYTES


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names_are_there(module: str) -> None:
    names = vars(importlib.import_module(module))
    assert set(PUBLIC[module]) <= set(names)


def test_tts_and_evaluation_load_without_the_search() -> None:
    """Importing the two lower rooms must not cost Optuna, MLflow or each other."""
    modules = ["tts.build", "tts.validity", "evaluation.gate", "evaluation.judge"]
    script = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\n"
        "print(sorted({'optuna', 'mlflow', 'search', 'training'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
