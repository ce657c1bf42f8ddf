"""Take a profile: one model, warm, in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from search.environment import describe
from search.labels import short_options
from search.profiling import steps
from search.profiling.advice import OWN_CORE, Findings
from search.profiling.batches import Batches, give_back_memory, try_sizes
from search.profiling.bottlenecks import name_bottlenecks
from search.profiling.record import Figure, Part, Profile, Stage, stages_of, unknown
from search.profiling.subject import Calls, Plan, Subject
from tts.device import probe

UNTOLD_STAGES = "this model does not tell its stages (stats)"
_MOST_FIRST_AUDIO = 3


def take(plan: Plan, folder: Path, say: Callable[[str], None]) -> Profile:
    """Profile a model.

    Args:
        plan: What to profile.
        folder: Takes ``trace.json``.
        say: Told what is done next, in a few words.

    Raises:
        InapplicableError: The device cannot take an option.
        TextError: A text has nothing to speak.
    """
    if plan.threads:
        torch.set_num_threads(plan.threads)
    caps = probe(plan.device)
    environment, began = describe(caps, plan.threads), time.perf_counter()
    say("building the model")
    subject = Subject(plan, caps)
    options = subject.options
    say("warming up")
    subject.warm_up()
    prepared_s = time.perf_counter() - began
    say(f"timing {max(plan.repeats, subject.n_turns)} calls or so")
    calls = subject.time_calls(plan.repeats)
    first = subject.time_first_audio(min(plan.repeats, _MOST_FIRST_AUDIO))
    gpu = subject.observe_gpu()
    say("taking the decode step apart")
    # Of the texts that the step and the copies are told of, which are the first turn's.
    first_s = statistics.median(calls.latency.samples[:: subject.n_turns])
    found = steps.examine(subject, plan.repeats, first_s, folder)
    figures = {**calls.figures, "ttfa": first, **found.figures, **gpu}
    figures["load"] = Figure(value=subject.built.load_s, unit="s")
    stages = stages_of(calls.latency, calls.told)
    parts = tuple(_of_the_call(part, stages) for part in found.parts)
    applied, observed = subject.applied(), subject.observed()
    del subject  # its memory is the next one's
    give_back_memory(caps)
    tried = Batches(rows=(), end="not asked for")
    if plan.seconds > 0:
        tried = try_sizes(plan, caps, {options.batch_size: calls}, say, known_s=prepared_s)
    findings = Findings(
        options=options, caps=caps, stages=stages, parts=parts, figures=figures,
        batches=tried.rows, bound=found.bound,
    )  # fmt: skip
    return Profile(
        title=short_options(options.to_mapping()),
        model=plan.model,
        device=caps.torch_name,
        options=options.to_mapping(),
        environment=environment,
        texts=plan.texts,
        latency=calls.latency,
        stages=stages,
        parts=parts,
        figures=figures,
        batches=tried.rows,
        batches_end=tried.end,
        bottlenecks=name_bottlenecks(findings),
        applied=applied,
        observed=observed,
        notes=(*found.notes, *_notes(stages, calls, is_cpu=caps.type == "cpu")),
    )


def _of_the_call(part: Part, stages: Sequence[Stage]) -> Part:
    """Turn a share of a stage into one of the whole call."""
    if not part.stage or part.share.value is None:
        return part
    whole = {stage.name: stage.share for stage in stages}.get(part.stage)
    if whole is None:
        return replace(part, share=unknown("its stage is not told", "share"))
    return replace(part, share=Figure(value=part.share.value * whole, unit="share"))


def _notes(stages: Sequence[Stage], calls: Calls, *, is_cpu: bool) -> list[str]:
    notes = [] if stages else [UNTOLD_STAGES]
    cores = calls.figures["cpu.cores_busy"].value or 0.0
    if is_cpu and cores < OWN_CORE:
        notes.append(
            f"this process had {cores:.0%} of a core: others took the rest, or it waited, and its "
            "times are too long by that"
        )
    cut = sum(audio.n_truncated for audio in calls.audios)
    if cut:
        notes.append(
            f"{cut} sentence(s) of {len(calls.audios)} were cut off: the voice did not stop by "
            "itself"
        )
    return notes
