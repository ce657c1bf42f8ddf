"""The three things that take most of the time, why, and what the measurements suggest.

Advice follows from what was measured, and only from that: an option is named where the device
takes it and where the figure that it would change is the one that is poor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.labels import seconds, size
from search.profiling.record import OTHER, BatchRow, Bottleneck, Figure, Part, Stage
from tts.compilation import GRAPHED
from tts.device import DeviceCaps
from tts.options import STATIC, Options
from tts.validity import canonical, refusal

N_NAMED = 3
LEAST_SHARE = 0.005
# Below it the GPU waits for the host more than it works.
BUSY = 0.5
# With less of a core a model on a CPU was kept from computing.
OWN_CORE = 0.9
# Above it a step is as near its floor as kernels come in practice.
NEAR = 0.6
# With less of a step in matrix products it is the calls around them that cost.
PRODUCTS = 0.6
WORTH = 1.3  # times the throughput
_LAYERS = "layers"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the words are chosen by.

    Args:
        options: Canonical.
        caps: Of the device.
        stages: Of the whole calls.
        parts: With shares of the whole call.
        figures: By dotted name.
        batches: By batch size.
        bound: ``memory``, ``arithmetic`` or "" where the step is not told.
    """

    options: Options
    caps: DeviceCaps
    stages: Sequence[Stage]
    parts: Sequence[Part]
    figures: Mapping[str, Figure]
    batches: Sequence[BatchRow] = ()
    bound: str = ""

    def value(self, name: str) -> float | None:
        """Return a figure's number, or None where there is none."""
        figure = self.figures.get(name)
        return None if figure is None else figure.value

    @property
    def is_disturbed(self) -> bool:
        """Whether others computed on this process's core while it was timed."""
        cores = self.value("cpu.cores_busy")
        return self.caps.type == "cpu" and cores is not None and cores < OWN_CORE

    def median_s(self, stage: str) -> float:
        """Return a stage's seconds."""
        return next(s.seconds.p50 for s in self.stages if s.name == stage)


def name_bottlenecks(found: Findings) -> tuple[Bottleneck, ...]:
    """Return the largest pieces of the whole call, the largest first.

    Decoding counts as its parts where they are known: layers, output head and sampling.
    """
    ranked = sorted(_pieces(found).items(), key=lambda item: -item[1])
    named = [(name, share) for name, share in ranked if share >= LEAST_SHARE][:N_NAMED]
    return tuple(_WORDS.get(name, _unknown_stage)(found, name, share) for name, share in named)


def _pieces(found: Findings) -> dict[str, float]:
    """Cut the call into pieces that do not overlap, as names and shares."""
    pieces = {stage.name: stage.share for stage in found.stages}
    known = {p.name: p.share.value for p in found.parts if p.stage == "decode"}
    if "decode" in pieces and known and None not in known.values():
        whole = pieces.pop("decode")
        told = {name: float(share or 0.0) for name, share in known.items()}
        pieces |= told
        pieces[_LAYERS] = max(0.0, whole - sum(told.values()))
    return pieces


def _decode(found: Findings, name: str, share: float) -> Bottleneck:
    what = "The decoder's layers take" if name == _LAYERS else "Decoding takes"
    words = f"{what} {share:.0%} of the call{_steps(found)}. {_why(found)}"
    return _bottleneck(name, share, words, [*_decode_advice(found), *_batch_advice(found)])


def _steps(found: Findings) -> str:
    step, tokens = found.value("step.time"), found.value("tokens")
    if step is None or not tokens:
        return ""
    n = found.options.batch_size
    each = f"{seconds(step)} a step" if n == 1 else f"{seconds(step)} a step of all {n} sentences"
    return f" ({tokens:.0f} tokens, {each})"


def _why(found: Findings) -> str:
    """Say what a step is limited by, as far as it was measured."""
    busy, roofline = found.value("step.gpu_busy"), found.value("step.roofline")
    if roofline is None:
        return "What limits a step is not known."
    if found.is_disturbed:
        return (
            f"This process had only {found.value('cpu.cores_busy'):.0%} of a core, so what limits "
            "a step is not told: profile it again on a quiet machine."
        )
    if busy is not None and busy < BUSY:
        return (
            f"The GPU works {busy:.0%} of a step and waits for the host the rest of it: "
            f"{found.value('step.launches'):.0f} launches of "
            f"{found.value('step.kernels'):.0f} kernels."
        )
    what = f"what bounds it is the {found.bound}"
    if roofline > 1 and found.bound == "arithmetic":
        return f"It multiplies faster than the product that was measured ({what})."
    if roofline > 1:
        return f"It reads faster than the memory is copied ({what}): the weights stay in a cache."
    if roofline >= NEAR:
        return f"It runs at {roofline:.0%} of the roofline ({what}): near its floor."
    products, calls = found.value("step.products"), ""
    if products is not None:
        n_calls = found.value("step.operators")
        calls = f" {products:.0%} of it are matrix products, in {n_calls:.0f} operator calls."
    return f"It runs at {roofline:.0%} of the roofline ({what}), far from its floor.{calls}"


def _decode_advice(found: Findings) -> Iterator[str]:
    busy, roofline = found.value("step.gpu_busy"), found.value("step.roofline")
    if roofline is None or found.is_disturbed:
        return
    if busy is not None and busy < BUSY:
        if found.options.compile not in GRAPHED:
            yield from _graphs(found, "one graph instead of many launches")
        return
    if roofline < NEAR:
        yield from _fewer_calls(found)
    if roofline >= NEAR:
        yield from _fewer_bytes(found)


def _fewer_calls(found: Findings) -> Iterator[str]:
    """Far from the floor, on a device that is not kept waiting, it is how the work is cut."""
    products, options = found.value("step.products"), found.options
    if found.caps.type == "cuda":
        yield from _graphs(found, "fewer, wider kernels")
    if products is None:
        return
    if products < PRODUCTS and options.compile == "none":
        layout = {} if options.kv_cache in STATIC else {"kv_cache": "static"}
        yield from _if_valid(found, "fewer, longer operators", compile="default", **layout)
    multiplies_bf16 = {"avx512_bf16", "amx"} & set(found.caps.cpu_flags)
    if products >= PRODUCTS and options.precision == "fp32" and multiplies_bf16:
        yield from _if_valid(found, "this CPU multiplies it by itself", precision="bf16")


def _graphs(found: Findings, why: str) -> Iterator[str]:
    """Name the ways to run a step as few kernels in one graph that are not what ran."""
    layout = {} if found.options.kv_cache in STATIC else {"kv_cache": "static"}
    if found.options.compile not in GRAPHED:
        yield from _if_valid(found, why, compile="reduce-overhead", **layout)
    yield from _if_valid(found, why, compile="fused", **layout)


def _fewer_bytes(found: Findings) -> Iterator[str]:
    """Near the floor only less work helps."""
    if found.bound == "arithmetic":
        if found.value("step.lanes") != found.value("step.rows"):
            yield "cfg_weight=1 halves the rows: no guidance, so listen to what that costs"
        return
    if (found.value("step.roofline") or 0.0) > 1:
        return  # memory is not what it waits for
    weights, cache = found.value("step.weights") or 0.0, found.value("step.cache") or 0.0
    if weights >= cache:
        read = f"{size(weights)} of weights are read a step"
        if found.options.precision in ("fp32", "tf32"):
            yield from _if_valid(found, f"{read}: half of it", precision="bf16")
        elif found.options.quantization == "none":
            yield from _if_valid(found, f"{read}: half of it", quantization="int8_weight_only")
    elif "int8" not in found.options.kv_cache:
        yield from _if_valid(
            found, f"{size(cache)} of keys and values are read a step", kv_cache="static_int8"
        )


def _if_valid(found: Findings, why: str, **changes: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the advice if the device takes it and it is not what ran already."""
    before = canonical(found.options, found.caps)
    after = canonical(replace(before, **changes), found.caps)
    if after == before or refusal(after, found.caps) is not None:
        return
    new = [f"{k}={getattr(after, k)}" for k in changes if getattr(after, k) != getattr(before, k)]
    yield f"{' with '.join(new)} ({why})"


def _batch_advice(found: Findings) -> Iterator[str]:
    """Name the batch size whose measured throughput is best, if no spread explains the gain."""
    rows = {r.batch_size: r for r in found.batches if r.samples_per_s.value and r.latency.value}
    now = rows.get(found.options.batch_size)
    if now is None:
        return
    best = max(rows.values(), key=lambda r: r.samples_per_s.value or 0.0)
    gain = (best.samples_per_s.value or 0.0) / (now.samples_per_s.value or 1.0)
    # More at once in less time is no batch's doing: the machine was another one by then.
    later = (best.latency.value or 0.0) / (now.latency.value or 1.0)
    slowest, fastest = _end(best.latency, "high"), _end(now.latency, "low")
    least = best.batch_size / slowest / (now.batch_size / fastest)
    if best.batch_size > now.batch_size and least >= WORTH and later >= 1:
        yield (
            f"batch_size={best.batch_size} for throughput: {gain:.1f} times the sentences per "
            f"second, each after {later:.1f} times the latency (measured)"
        )


def _end(figure: Figure, name: str) -> float:
    """Return the smallest or the largest sample, or the only one."""
    end = getattr(figure, name)
    return float(figure.value or 0.0) if end is None else float(end)


def _head(found: Findings, name: str, share: float) -> Bottleneck:
    words = (
        f"The output head takes {share:.0%} of the call: every step scores the whole vocabulary."
    )
    roofline = found.value("step.roofline")
    is_near = roofline is not None and roofline >= NEAR and not found.is_disturbed
    advice = list(_fewer_bytes(found)) if is_near else []
    return _bottleneck(name, share, words, [*advice, *_batch_advice(found)])


def _sampling(found: Findings, name: str, share: float) -> Bottleneck:
    each = found.median_s("decode") / tokens if (tokens := found.value("tokens")) else None
    within = share / next(s.share for s in found.stages if s.name == "decode")
    spent = f" ({seconds(each * within)} a token)" if each is not None else ""
    words = f"Sampling takes {share:.0%} of the call{spent}: drawing a token from the scores."
    return _bottleneck(name, share, words, list(_batch_advice(found)))


def _vocoder(found: Findings, name: str, share: float) -> Bottleneck:
    spent, audio = found.median_s(name), found.value("audio")
    said = f" ({seconds(spent)} for {audio:.1f} s of audio)" if audio else ""
    words = f"The vocoder takes {share:.0%} of the call{said}."
    first, whole = found.value("ttfa"), found.value("latency.p50")
    advice = []
    is_alone = found.options.batch_size == 1  # a stream is of one sentence
    if is_alone and first is not None and whole is not None and first < whole / 2:
        advice.append(
            f"stream: the first sound is there after {seconds(first)} instead of {seconds(whole)} "
            "(measured)"
        )
    return _bottleneck(name, share, words, [*advice, *_batch_advice(found)])


def _prefill(found: Findings, name: str, share: float) -> Bottleneck:
    step = found.value("step.time")
    like = f", as long as {found.median_s(name) / step:.1f} decode steps" if step else ""
    words = f"Prefill takes {share:.0%} of the call{like}: one pass over the whole text."
    return _bottleneck(name, share, words, list(_batch_advice(found)))


def _text(found: Findings, name: str, share: float) -> Bottleneck:
    spent = seconds(found.median_s(name))
    words = f"Reading the text takes {share:.0%} of the call ({spent} on the host)."
    return _bottleneck(name, share, words, ["keep the normalised form of texts that come again"])


def _other(found: Findings, name: str, share: float) -> Bottleneck:
    del found
    words = f"{share:.0%} of the call lies outside the stages: Python between them, and joining."
    return _bottleneck(name, share, words, [])


def _unknown_stage(found: Findings, name: str, share: float) -> Bottleneck:
    spent = seconds(found.median_s(name))
    words = f"The stage {name!r} of this model takes {share:.0%} of the call ({spent})."
    return _bottleneck(name, share, words, list(_batch_advice(found)))


def _bottleneck(name: str, share: float, words: str, advice: Sequence[str]) -> Bottleneck:
    return Bottleneck(name=name, share=share, words=words, advice=tuple(advice))


_WORDS: Mapping[str, Callable[[Findings, str, float], Bottleneck]] = {
    "text": _text,
    "prefill": _prefill,
    "decode": _decode,
    _LAYERS: _decode,
    "head": _head,
    "sampling": _sampling,
    "vocoder": _vocoder,
    OTHER: _other,
}
