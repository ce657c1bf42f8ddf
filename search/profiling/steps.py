"""The decode step alone: its time, its ceilings, its launches, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, record_function

from evaluation.timing import Measurement, measure
from search.profiling import trace
from search.profiling.ceilings import Found, hold_against, measure_ceilings
from search.profiling.record import NOT_ON_CPU, Figure, Part, figure_of, unknown
from search.profiling.subject import Subject
from search.profiling.trace import Span, Trace
from tts.precision import DTYPES
from tts.profiled import Decoding, Profiled, StepCost

N_WARM = 4
N_TIMED = 16  # steps of one sample
N_TRACED = 6
TRACE = "trace.json"
LARGEST_TRACE_BYTES = 64 * 2**20
# More than so many kernels in a call would take longer to trace than anyone waits.
_MOST_KERNELS = 200_000
UNTOLD = "this model does not tell its decode step (decoding)"
STATIC_ONLY = (
    "the step that was taken apart is a static batch's: of one whose rows are refilled, as here, "
    "time, launches, cache and shares within decode may differ"
)
_STEP_FIGURES = {
    "step.time": "s", "step.rows": "", "step.lanes": "", "step.live": "", "step.weights": "B",
    "step.cache": "B", "step.flops": "FLOP", "step.intensity": "FLOP/B", "step.bandwidth": "B/s",
    "step.arithmetic": "FLOP/s", "step.floor": "s", "step.roofline": "share",
    "step.operators": "", "step.products": "share", "step.launches": "", "step.kernels": "",
    "step.gpu_busy": "share",
}  # fmt: skip
_HELD_FIGURES = (
    "memory.weights_computed", "memory.weights_seen", "memory.cache_computed", "memory.cache_seen",
)  # fmt: skip


def examine(subject: Subject, repeats: int, call_s: float, folder: Path) -> Found:
    """Take a warm model apart and write its trace.

    Args:
        subject: Warm.
        repeats: Samples of the step's time.
        call_s: Seconds of a whole call, for the share of the copies.
        folder: Takes ``trace.json``.
    """
    voice = subject.synthesizer
    if not isinstance(voice, Profiled):
        return _closed(subject, folder)
    decoding = voice.decoding(subject.utterances())
    seconds, cost = _time(subject, decoding, repeats)
    found = Found(figures=_cost_figures(seconds, cost))
    if subject.options.batching == "continuous":
        found.notes.append(STATIC_ONLY)
    found.figures |= _held(subject, decoding)
    hold_against(subject, cost, seconds.p50, found)
    traced = _record(subject, decoding, folder / TRACE)
    _read(traced, seconds.p50, found, is_cuda=subject.is_cuda)
    found.parts.append(_copies(subject, found, call_s, folder))
    return found


def _closed(subject: Subject, folder: Path) -> Found:
    """Tell what can be told of a model that does not open up: ceilings and a trace of a call."""
    found = Found(figures={name: unknown(UNTOLD, unit) for name, unit in _STEP_FIGURES.items()})
    found.figures |= {name: unknown(UNTOLD, "B") for name in _HELD_FIGURES}
    found.figures |= {"memory.weights_allocated": _allocated(subject)}
    measure_ceilings(
        subject, str(DTYPES[subject.options.precision]).removeprefix("torch."), "", found
    )
    path = folder / TRACE
    with _profiler(subject) as profiler, record_function("call"):
        subject.speak()
        subject.synchronise()
    profiler.export_chrome_trace(str(path))
    if path.stat().st_size > LARGEST_TRACE_BYTES:
        size = path.stat().st_size // 2**20
        path.unlink()
        found.notes.append(f"the trace of one call had {size} MiB and was left out")
    else:
        trace.tidy(path)
    return found


def _time(subject: Subject, decoding: Decoding, repeats: int) -> tuple[Measurement, StepCost]:
    """Time steps that follow each other, and weigh the one in the middle."""

    def prepare() -> None:
        decoding.restart()
        decoding.advance(N_WARM)

    samples: list[float] = []
    for _ in range(repeats):
        prepare()
        timed = measure(
            lambda: decoding.advance(N_TIMED),
            repeats=1, warmup=0, synchronise=subject.synchronise, name="step",
        )  # fmt: skip
        samples.append(timed.samples[0] / N_TIMED)
    prepare()
    decoding.advance(N_TIMED // 2)
    return Measurement(name="step", unit="s", samples=tuple(samples)), decoding.cost()


def _cost_figures(seconds: Measurement, cost: StepCost) -> dict[str, Figure]:
    return {
        "step.time": figure_of(seconds),
        "step.rows": Figure(value=cost.n_rows),
        "step.lanes": Figure(value=cost.n_lanes),
        "step.live": Figure(value=cost.n_live),
        "step.weights": Figure(value=cost.weight_bytes, unit="B"),
        "step.cache": Figure(value=cost.cache_bytes, unit="B"),
        "step.flops": Figure(value=cost.flops, unit="FLOP"),
        "step.intensity": Figure(value=cost.flops / cost.total_bytes, unit="FLOP/B"),
    }


def _held(subject: Subject, decoding: Decoding) -> dict[str, Figure]:
    held = decoding.footprint()
    figures = {
        "memory.weights_computed": held.weight_bytes_computed,
        "memory.weights_seen": held.weight_bytes_seen,
        "memory.cache_computed": held.cache_bytes_computed,
        "memory.cache_seen": held.cache_bytes_seen,
    }
    return {
        "model.parameters": Figure(value=held.n_parameters),
        "memory.cache_slots": Figure(value=held.cache_slots),
        **{name: Figure(value=value, unit="B") for name, value in figures.items()},
        "memory.weights_allocated": _allocated(subject),
    }


def _allocated(subject: Subject) -> Figure:
    if not subject.is_cuda:
        return unknown(NOT_ON_CPU, "B")
    return Figure(value=subject.allocated_bytes, unit="B")


def _profiler(subject: Subject, *, only_gpu: bool = False) -> profile:
    activities = [] if only_gpu else [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if subject.is_cuda else []
    return profile(activities=activities, acc_events=True)


def _record(subject: Subject, decoding: Decoding, path: Path) -> Trace:
    """Write the trace of a prefill, a few steps and the vocoder."""
    with _profiler(subject):  # the first use pays for the profiler's own set-up
        decoding.advance(1)
        subject.synchronise()
    with _profiler(subject) as profiler, decoding.labelled():
        with record_function("prefill"):
            decoding.restart()
        subject.synchronise()
        _steps(decoding, "decode_step", is_watched=False)
        subject.synchronise()
        if subject.is_cuda:  # a captured graph hides its parts: run the same step openly, too
            _steps(decoding, "open_step", is_watched=True)
            subject.synchronise()
        with record_function("vocoder"):
            decoding.vocode()
        subject.synchronise()
    profiler.export_chrome_trace(str(path))
    trace.tidy(path)
    return trace.read(path)


def _steps(decoding: Decoding, label: str, *, is_watched: bool) -> None:
    for _ in range(N_TRACED):
        with record_function(label):
            decoding.advance(1, is_watched=is_watched)


def _read(traced: Trace, step_s: float, found: Found, *, is_cuda: bool) -> None:
    spans = traced.spans("decode_step")
    n = len(spans)
    found.figures["step.operators"] = Figure(value=traced.operators(spans) / n)
    if is_cuda:
        kernels = traced.kernels(spans)
        found.figures |= {
            "step.products": unknown("told of a CPU only: here kernels run beside the host"),
            "step.launches": Figure(value=traced.launches(spans) / n),
            "step.kernels": Figure(value=len(kernels) / n),
            "step.gpu_busy": Figure(value=sum(kernels) / n / step_s, unit="share"),
        }
    else:
        products = traced.products_s(spans) / sum(span.seconds for span in spans)
        found.figures["step.products"] = Figure(value=products, unit="share")
        for name in ("step.launches", "step.kernels", "step.gpu_busy"):
            found.figures[name] = unknown(NOT_ON_CPU, _STEP_FIGURES[name])
    for name, stage, whole in (
        ("embed", "prefill", "prefill"), ("head", "decode", "decode_step"),
        ("sampling", "decode", "decode_step"),
    ):  # fmt: skip
        found.parts.append(_part(traced, name, stage, whole, found, is_cuda=is_cuda))


def _part(traced: Trace, name: str, stage: str, whole: str, found: Found, *, is_cuda: bool) -> Part:
    """Tell a part's share of its stage, by the host's time or by the GPU's."""
    spans = traced.spans(whole)
    inside = _inside(traced.spans(name), spans)
    by_gpu = is_cuda and (found.figures["step.gpu_busy"].value or 0.0) >= 0.5
    if not inside and is_cuda:  # hidden in a graph
        spans, by_gpu = traced.spans("open_step"), True
        inside = _inside(traced.spans(name), spans)
    total = sum(traced.kernels(spans)) if by_gpu else sum(span.seconds for span in spans)
    if not inside or not total:
        return Part(
            name=name, stage=stage, share=unknown("it was not seen in the trace", "share"), how=""
        )
    part = sum(traced.kernels(inside)) if by_gpu else sum(span.seconds for span in inside)
    whose = "the GPU's" if by_gpu else "the host's"
    how = f"by {whose} time in the trace of {N_TRACED} steps and a prefill"
    return Part(name=name, stage=stage, share=Figure(value=part / total, unit="share"), how=how)


def _inside(inner: Sequence[Span], outer: Sequence[Span]) -> list[Span]:
    return [i for i in inner if any(o.start <= i.start and i.end <= o.end for o in outer)]


def _copies(subject: Subject, found: Found, call_s: float, folder: Path) -> Part:
    """Tell the share of a whole call that the GPU spends copying."""
    how = "the GPU's time in copies and fillings, of a call"
    if not subject.is_cuda:
        return Part(name="copies", stage="", share=unknown(NOT_ON_CPU, "share"), how=how)
    kernels = found.figures["step.kernels"].value or 0.0
    tokens = sum(audio.n_tokens for audio in subject.speak())
    if kernels * tokens > _MOST_KERNELS:
        reason = "a call has too many kernels to be traced"
        return Part(name="copies", stage="", share=unknown(reason, "share"), how=how)
    with _profiler(subject, only_gpu=True) as profiler:
        subject.speak()
        subject.synchronise()
    path = folder / "copies.json"
    profiler.export_chrome_trace(str(path))
    share = trace.read(path).copies_s() / call_s
    path.unlink()
    return Part(name="copies", stage="", share=Figure(value=share, unit="share"), how=how)
