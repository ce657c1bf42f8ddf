"""What the doctor says of a healthy machine and of a broken one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sqlite3
from pathlib import Path

import pytest

from search import cli, doctor
from search.doctor import Check, examine

Capture = pytest.CaptureFixture[str]


def found(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> list[Check]:
    return examine(tmp_path_factory.mktemp("mlruns"), "cpu")


@pytest.mark.parametrize(
    "name", ["python", "packages", "torchaudio", "device", "compiler", "nvml", "dnsmos", "studies"]
)
def test_this_machine_has_what_tests_need(checks: list[Check], name: str) -> None:
    check = found(checks, name)
    assert check.status == "ok", check.detail


def test_every_axis_says_what_it_can_and_why_not_the_rest(checks: list[Check]) -> None:
    assert [c.name for c in checks if c.name.startswith("axis ")] == [
        f"axis {axis}" for axis in doctor.AXES
    ]
    assert "not tf32: TF32 needs an NVIDIA GPU" in found(checks, "axis precision").detail
    assert "not reduce-overhead: the same as default" in found(checks, "axis compile").detail


def test_a_missing_device_is_a_failure_and_the_rest_is_still_examined(tmp_path: Path) -> None:
    checks = examine(tmp_path, "cuda:99")
    assert found(checks, "device").status == "failure"
    assert found(checks, "dnsmos").status == "ok"
    assert not any(c.name.startswith("axis ") for c in checks)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "pesq":
            raise importlib.metadata.PackageNotFoundError
        return "1"

    monkeypatch.setattr("importlib.metadata.version", version)
    check = doctor._packages()
    assert check.status == "failure"
    assert "missing: pesq;" in check.detail


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    check = doctor._compiler()
    assert check.status == "failure"
    assert "install g++ or set CXX" in check.detail


def test_a_compiler_that_cannot_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'no headers here' >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    check = doctor._compiler()
    assert check.status == "failure"
    assert "does not compile: no headers here" in check.detail


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"weights")
    right = hashlib.sha256(b"weights").hexdigest()
    assert doctor._checked_files("voice", tmp_path, {"a.bin": right}).status == "ok"
    check = doctor._checked_files("voice", tmp_path, {"a.bin": "0" * 64})
    assert check.status == "failure"
    assert "a.bin is damaged" in check.detail


def test_a_root_that_is_a_file_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("", encoding="utf-8")
    assert found(examine(tmp_path / "mlruns", "cpu"), "studies").status == "failure"


def test_a_damaged_database_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    check = doctor._guarded("mlflow", lambda: doctor._database(tmp_path))
    assert check.status == "failure"


def test_a_sound_database(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    connection.execute("create table runs (id)")
    connection.close()
    assert doctor._database(tmp_path).detail.endswith("is sound")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [("ok", 0, "everything a sweep needs"), ("warning", 0, "everything"), ("failure", 3, "1 of 1")],
)
def test_the_command(
    status: doctor.Status,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    check = Check(name="compiler", status=status, detail="[a-z] is no markup")
    monkeypatch.setattr("search.commands.doctor.examine", lambda *_: [check])
    assert cli.main(["doctor", "--root", str(tmp_path)]) == code
    out = capsys.readouterr().out
    assert said in out
    assert "[a-z] is no markup" in out
    assert cli.main(["doctor", "--json", "--root", str(tmp_path)]) == code
    assert json.loads(capsys.readouterr().out)[0]["status"] == status
