"""What this machine has, what it lacks, and what each axis of the search can do here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args, get_type_hints

from tts.options import Options

if TYPE_CHECKING:
    from tts.device import DeviceCaps

Status = Literal["ok", "warning", "failure"]
OLDEST_PYTHON = (3, 11)
PACKAGES = (
    "torch", "torchaudio", "torchao", "optuna", "mlflow", "torchmetrics", "pesq", "speechmos",
    "onnxruntime", "librosa", "jiwer", "openai-whisper", "soundfile", "soxr",
)  # fmt: skip
AXES = ("precision", "quantization", "compile", "attention", "kv_cache")
_LEAST_FREE_BYTES = 2 * 2**30
_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What it is.
        status: ``failure`` stops a sweep, ``warning`` narrows it.
        detail: What was found, and what to do about it.
    """

    name: str
    status: Status
    detail: str


def examine(root: Path, device: str = "auto") -> list[Check]:
    """Look at everything a sweep needs.

    Args:
        root: The ``mlruns`` folder.
        device: As in ``tts.device.probe``.
    """
    checks = [_guarded("python", _python), _guarded("packages", _packages)]
    checks.append(_guarded("torchaudio", _torchaudio))
    caps: DeviceCaps | None = None
    try:
        from tts.device import probe

        caps = probe(device)
        checks.append(_ok("device", _device_said(caps)))
    except Exception as error:  # noqa: BLE001 - a doctor reports whatever is broken
        checks.append(Check(name="device", status="failure", detail=str(error)))
    checks.append(_guarded("compiler", _compiler))
    checks.append(_guarded("nvml", lambda: _nvml(caps)))
    checks.append(_guarded("voice", _voice))
    checks.append(_guarded("ear", _ear))
    checks.append(_guarded("dnsmos", _dnsmos))
    checks.append(_guarded("studies", lambda: _folder(root)))
    checks.append(_guarded("mlflow", lambda: _database(root)))
    return checks + (list(_axes(caps)) if caps is not None else [])


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - a doctor reports whatever is broken
        return Check(name=name, status="failure", detail=f"{type(error).__name__}: {error}")


def _ok(name: str, detail: str) -> Check:
    return Check(name=name, status="ok", detail=detail)


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check(name="python", status="failure", detail=f"{found}; needs 3.11 or later")
    return _ok("python", found)


def _packages() -> Check:
    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        detail = f"missing: {', '.join(missing)}; install the lock file (make sweep does)"
        return Check(name="packages", status="failure", detail=detail)
    return _ok("packages", ", ".join(found))


def _torchaudio() -> Check:
    import torchaudio

    return _ok("torchaudio", f"imports beside torch ({torchaudio.__version__})")


def _device_said(caps: DeviceCaps) -> str:
    import torch

    memory = f"{caps.memory_bytes / 2**30:.0f} GiB"
    if caps.type == "cpu":
        why = "" if torch.cuda.is_available() else "; PyTorch sees no CUDA GPU"
        flags = f", {' '.join(caps.cpu_flags)}" if caps.cpu_flags else ""
        return f"{caps.name}, {caps.n_threads} threads, {memory}{flags}{why}"
    sm = ".".join(map(str, caps.capability or ()))
    return f"{caps.name} ({caps.torch_name}), compute capability {sm}, {memory}, CUDA {_cuda()}"


def _cuda() -> str:
    import torch

    return str(torch.version.cuda)


def _compiler() -> Check:
    asked = os.environ.get("CXX")
    for name in [asked] if asked else _COMPILERS:
        if path := shutil.which(name):
            return _compiles(path)
    detail = "none found; torch.compile on a CPU needs one: install g++ or set CXX"
    return Check(name="compiler", status="failure", detail=detail)


def _compiles(path: str) -> Check:
    """Compile three lines: a compiler without its library's headers is found but of no use."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "probe.cpp"
        source.write_text("#include <vector>\nint main() { return std::vector<int>().size(); }\n")
        done = subprocess.run(
            [path, "-shared", "-fPIC", str(source), "-o", str(Path(place) / "probe.so")],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[0]
        return Check(name="compiler", status="failure", detail=f"{path} does not compile: {said}")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return _ok("compiler", f"{path}: {(version.stdout.splitlines() or ['?'])[0]}")


def _nvml(caps: DeviceCaps | None) -> Check:
    if caps is None or caps.type != "cuda":
        return _ok("nvml", "not needed: no GPU is used, so no utilisation and power are recorded")
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        detail = f"{error}: GPU utilisation and power will be missing"
        return Check(name="nvml", status="warning", detail=detail)
    driver = pynvml.nvmlSystemGetDriverVersion()
    pynvml.nvmlShutdown()
    return _ok("nvml", f"driver {driver}")


def _voice() -> Check:
    from tts.embedded.weights import DEFAULT_DIRECTORY, read_manifest

    manifest = read_manifest()
    sums = {name: str(entry["sha256"]) for name, entry in manifest["files"].items()}
    return _checked_files("voice", DEFAULT_DIRECTORY, sums)


def _ear() -> Check:
    from evaluation.asr.embedded import WEIGHTS, WEIGHTS_DIRECTORY, read_manifest

    manifest = read_manifest()
    return _checked_files("ear", WEIGHTS_DIRECTORY, {WEIGHTS: str(manifest["sha256"])})


def _checked_files(name: str, folder: Path, sums: dict[str, str]) -> Check:
    size = 0
    for file, expected in sums.items():
        path = folder / file
        blob = path.read_bytes()
        size += len(blob)
        if hashlib.sha256(blob).hexdigest() != expected:
            detail = f"{path} is damaged (its SHA-256 differs); restore it with 'git checkout'"
            return Check(name=name, status="failure", detail=detail)
    return _ok(name, f"{len(sums)} files, {size / 2**20:.1f} MiB, checksums right")


def _dnsmos() -> Check:
    import onnxruntime
    import speechmos

    models = sorted(Path(speechmos.__file__).parent.rglob("*.onnx"))
    if not models:
        detail = "speechmos carries no ONNX model; install speechmos again from its wheel"
        return Check(name="dnsmos", status="failure", detail=detail)
    for model in models:
        onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return _ok("dnsmos", f"{len(models)} ONNX models load")


def _folder(root: Path) -> Check:
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=root, prefix=".doctor-"):
        pass
    free = shutil.disk_usage(root).free
    said = f"{root.resolve()} can be written, {free / 2**30:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        return Check(name="studies", status="warning", detail=f"{said}: little for a sweep")
    return _ok("studies", said)


def _database(root: Path) -> Check:
    import sqlite3

    path = root / "mlflow.db"
    if not path.is_file():
        return _ok("mlflow", "no database yet; the first sweep makes it")
    with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as connection:
        (state,) = connection.execute("PRAGMA quick_check").fetchone()
    connection.close()
    if state != "ok":
        detail = f"{path} is damaged ({state}); move it away: the next sweep reports anew"
        return Check(name="mlflow", status="failure", detail=detail)
    return _ok("mlflow", f"{path} is sound")


def _axes(caps: DeviceCaps) -> Iterator[Check]:
    """Yield one check per axis: what can be chosen here, and why the rest cannot."""
    from tts.validity import choices

    for axis in AXES:
        can = choices(axis, caps)
        lacks = [v for v in get_args(get_type_hints(Options)[axis]) if v not in can]
        said = ", ".join(can)
        for value in lacks:
            said += f"; not {value}: {_why_not(axis, value, caps)}"
        yield _ok(f"axis {axis}", said)


def _why_not(axis: str, value: str, caps: DeviceCaps) -> str:
    from tts.validity import canonical, refusal

    options = replace(Options(), **{axis: value})  # type: ignore[arg-type]
    instead = getattr(canonical(options, caps), axis)
    if instead != value:
        return f"the same as {instead} here"
    refused = refusal(options, caps)
    return refused.reason if refused is not None else "in no combination"


def as_json(checks: list[Check]) -> str:
    """Return checks as JSON text."""
    return json.dumps([vars(check) for check in checks], indent=1)
