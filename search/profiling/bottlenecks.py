"""The three things that take most of the time, why, and what the measurements suggest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from search.labels import seconds
from search.profiling.advice import BUSY, NEAR, Findings, fewer_bytes, on_batch, on_step
from search.profiling.record import OTHER, Bottleneck

N_NAMED = 3
LEAST_SHARE = 0.005
_LAYERS = "layers"


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
    return _bottleneck(name, share, words, [*on_step(found), *on_batch(found)])


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


def _head(found: Findings, name: str, share: float) -> Bottleneck:
    words = (
        f"The output head takes {share:.0%} of the call: every step scores the whole vocabulary."
    )
    roofline = found.value("step.roofline")
    is_near = roofline is not None and roofline >= NEAR and not found.is_disturbed
    advice = list(fewer_bytes(found)) if is_near else []
    return _bottleneck(name, share, words, [*advice, *on_batch(found)])


def _sampling(found: Findings, name: str, share: float) -> Bottleneck:
    each = found.median_s("decode") / tokens if (tokens := found.value("tokens")) else None
    within = share / next(s.share for s in found.stages if s.name == "decode")
    spent = f" ({seconds(each * within)} a token)" if each is not None else ""
    words = f"Sampling takes {share:.0%} of the call{spent}: drawing a token from the scores."
    return _bottleneck(name, share, words, list(on_batch(found)))


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
    return _bottleneck(name, share, words, [*advice, *on_batch(found)])


def _prefill(found: Findings, name: str, share: float) -> Bottleneck:
    step = found.value("step.time")
    like = f", as long as {found.median_s(name) / step:.1f} decode steps" if step else ""
    words = f"Prefill takes {share:.0%} of the call{like}: one pass over the whole text."
    return _bottleneck(name, share, words, list(on_batch(found)))


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
    return _bottleneck(name, share, words, list(on_batch(found)))


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
