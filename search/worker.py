"""The child: runs one trial and reports. ``python -m search.worker PIPE_FD PARENT_PID [warm]``.

The job's path comes on standard input. Imports are late on purpose: the phase "load" starts at
once, and neither Optuna nor MLflow is ever loaded here.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import importlib
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.job import Job

if TYPE_CHECKING:
    from tts.types import Audio, Built, Utterance

PR_SET_PDEATHSIG = 1
LIBRARIES = ("soundfile", "soxr", "search.benchmark", "tts.adapters.embedded", "tts.build")
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory", re.I)
JUDGE_RATE_HZ = 16_000
UNTOLD = "the model does not tell how likely given tokens are (log_probabilities)"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class Reporter:
    """Writes JSON lines to the parent."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.phases: dict[str, float] = {}

    def send(self, **message: Any) -> None:  # noqa: ANN401 - plain JSON values
        """Send one message whole."""
        data = (json.dumps(message) + "\n").encode()
        while data:
            data = data[os.write(self.fd, data) :]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announce a phase, and its seconds when it is over."""
        self.send(phase=name)
        start = time.perf_counter()
        yield
        self.phases[name] = time.perf_counter() - start
        self.send(seconds={name: self.phases[name]})


def main(arguments: list[str]) -> int:
    """Wait for a job on standard input and run it.

    Returns:
        0 when the job was finished or none came, 1 when an error was reported.
    """
    fd, parent = int(arguments[0]), int(arguments[1])
    _die_with(parent)
    os.set_inheritable(fd, False)
    faulthandler.enable()
    if "warm" in arguments:
        _load_libraries()
    line = sys.stdin.readline().strip()
    if not line:
        return 0
    job_path, reporter = Path(line), Reporter(fd)
    try:
        _redirect_output(job_path.parent / "worker.log")
        run(Job.from_json(job_path.read_text(encoding="utf-8")), reporter)
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent must hear of it
        traceback.print_exc()
        reporter.send(error={"kind": kind_of(error), "message": _describe(error)})
        return 1
    reporter.send(done=True)
    return 0


def _load_libraries() -> None:
    """Load what every job needs; what fails here fails again, and is told, in the job."""
    with suppress(Exception):
        for name in LIBRARIES:
            importlib.import_module(name)


def _redirect_output(log_path: Path) -> None:
    with log_path.open("ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run(job: Job, reporter: Reporter) -> None:
    """Go through the phases."""
    with reporter.phase("load"):
        # As in a process that stood by: else load_s and peak memory would tell which it was.
        _load_libraries()
        from tts.build import build
        from tts.options import Options
        from tts.types import Utterance

        options = Options.from_mapping(job.options)
        built = build(job.model, options, job.device)
        utterances = [Utterance(**u) for u in job.utterances]
    reporter.send(applied=[vars(a) for a in built.applied], load_s=built.load_s)
    _measure(job, built, options.batch_size, reporter)
    if job.repeats and utterances and not job.n_render_own:
        with reporter.phase("fidelity"):
            _screen(job, built, utterances, reporter)
    for name in ("audio", "render"):
        (Path(job.folder) / name).mkdir(exist_ok=True)
    if job.render:
        with reporter.phase("render"):
            _render(job, built, {str(r["id"]): r["tokens"] for r in job.render}, reporter)
    if not utterances:
        return
    tokens: dict[str, Any] = {}
    with reporter.phase("synthesize"):
        size = options.batch_size
        for start in range(0, len(utterances), size):
            batch = utterances[start : start + size]
            # The judged audio is that of the timed batch size: a short last batch is filled up.
            filled = batch + utterances[: size - len(batch)]
            while len(filled) < size:
                filled += utterances[: size - len(filled)]
            for i, audio in enumerate(built.synthesizer.synthesize(filled)[: len(batch)]):
                _keep(job, audio, start + i, reporter)
                tokens[audio.utterance_id] = audio.tokens
    reporter.send(observed=_observed(built))
    if job.n_render_own:
        with reporter.phase("render"):
            own = {k: v for k, v in list(tokens.items())[: job.n_render_own] if v}
            _render(job, built, own, reporter)
        with reporter.phase("fidelity"):
            _keep_probabilities(job, built, utterances[: job.n_render_own], tokens, reporter)


def _measure(job: Job, built: Built, batch_size: int, reporter: Reporter) -> None:
    """Warm up and time; what is told here may be the last that anybody wants to know."""
    from search.benchmark import Benchmark

    benchmark = Benchmark(built.synthesizer, job, batch_size)
    with reporter.phase("compile"):
        benchmark.warm_up()
    if not job.repeats:
        return
    with reporter.phase("measure"):
        measurements, metrics = benchmark.measure()
    reporter.send(
        measurements=measurements,
        metrics={**metrics, "load_s": built.load_s},
        observed=_observed(built),
    )


def _keep_probabilities(
    job: Job,
    built: Built,
    utterances: list[Utterance],
    tokens: Mapping[str, Any],
    reporter: Reporter,
) -> None:
    """Write the baseline's probabilities of its own tokens, if it tells them."""
    from search.fidelity import FIDELITY, choose, keep
    from tts.types import TokenScorer

    if isinstance(built.synthesizer, TokenScorer):
        keep(built.synthesizer, choose(utterances, tokens), Path(job.folder) / FIDELITY)
    else:
        reporter.send(observed={"fidelity": "not screened: " + UNTOLD})


def _screen(job: Job, built: Built, utterances: list[Utterance], reporter: Reporter) -> None:
    """Report how far a candidate's probabilities are from the baseline's, or why nobody knows."""
    from search.fidelity import measure
    from tts.types import TokenScorer

    if not isinstance(built.synthesizer, TokenScorer):
        reporter.send(observed={"fidelity": "not screened: " + UNTOLD})
    elif not job.fidelity:
        reason = "not screened: the baseline's trial has no probabilities to compare with"
        reporter.send(observed={"fidelity": reason})
    else:
        stats = measure(built.synthesizer, Path(job.fidelity), utterances)
        reporter.send(fidelity=stats.to_mapping())
        said = f"{stats.n_positions} positions of {stats.n_sentences} sentences"
        reporter.send(observed={"fidelity": said})


def _observed(built: Built) -> dict[str, str]:
    seen = dict(built.observed)
    observe = getattr(built.synthesizer, "observed", None)
    if callable(observe):
        seen |= {str(k): str(v) for k, v in observe().items()}
    return seen


def _keep(job: Job, audio: Audio, index: int, reporter: Reporter) -> None:
    """Write one utterance's audio and report it."""
    name = f"{index:03d}-{re.sub(r'[^A-Za-z0-9._-]', '_', audio.utterance_id)[:80]}.wav"
    path = Path(job.folder) / "audio" / name
    _write_wav(path, audio.samples, audio.sample_rate_hz)
    reporter.send(
        clip={
            "id": audio.utterance_id, "wav": f"audio/{name}", "n_truncated": audio.n_truncated,
            "n_tokens": audio.n_tokens, "tokens": audio.tokens,
        }
    )  # fmt: skip


def _render(job: Job, built: Built, tokens: Mapping[str, Any], reporter: Reporter) -> None:
    """Render given tokens: the vocoder alone, aligned with the baseline's sample by sample."""
    from tts.errors import InapplicableError

    for i, (utterance_id, sentences) in enumerate(tokens.items()):
        try:
            samples = built.synthesizer.render(sentences)
        except InapplicableError as error:
            reporter.send(observed={"render": str(error)})
            return
        path = Path(job.folder) / "render" / f"{i:03d}.wav"
        _write_wav(path, samples, built.synthesizer.sample_rate_hz)
        reporter.send(render={"id": utterance_id, "wav": f"render/{path.name}"})


def _write_wav(path: Path, samples: Any, rate_hz: int) -> None:  # noqa: ANN401 - an array
    """Write 32-bit float samples, so that NaN and overshoot stay visible to the guards."""
    import soundfile
    import soxr

    if rate_hz != JUDGE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, JUDGE_RATE_HZ)
    try:
        soundfile.write(path, samples, JUDGE_RATE_HZ, subtype="FLOAT")
    except soundfile.LibsndfileError as error:
        # libsndfile does not pass the reason on; all that can go wrong here is the disk.
        raise OSError(errno.ENOSPC, f"cannot write {path}: {error}") from error


def kind_of(error: BaseException) -> str:
    """Sort an exception into the kinds of a ``Failure``, or "disk"."""
    import torch

    from tts.errors import InapplicableError

    if isinstance(error, InapplicableError):
        return "refused"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "oom"
    if isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)):
        return "oom"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "oom"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return "disk"
    return "error"


def _describe(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".strip()
    return text if len(text) <= 2_000 else text[:1_000] + "\n...\n" + text[-1_000:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
