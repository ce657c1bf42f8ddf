"""``mosgate profile``: where the time of one configuration goes."""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.commands.assignments import assignments
from search.commands.chosen import options_from, read_measure, read_winner, text_of
from search.exits import Exit, InputError
from search.labels import flat_options
from search.sections import MeasureConfig
from search.whole_folder import fresh_folder, refuse_occupied

if TYPE_CHECKING:
    from search.profiling.record import Profile
    from search.profiling.subject import Plan

MARKER, PAGE = "profile.json", "profile.html"


@dataclass(frozen=True, kw_only=True)
class _Base:
    """What is profiled before anything typed is laid on top."""

    model: str
    device: str
    options: dict[str, Any]
    measure: MeasureConfig


def run(args: argparse.Namespace) -> int:
    """Profile one configuration and write what was found."""
    target = Path(args.output)
    refuse_occupied(target, marker=MARKER, what="profile", force=args.force)
    plan = _plan(args)
    with fresh_folder(target) as fresh:
        profile = _take(plan, fresh)
        _write(fresh, profile)
    problem = _tell(profile, target, Path(args.root))
    if args.json:
        print(profile.to_json(), end="")
    else:
        from rich.console import Console

        from search.profiling.terminal import show

        show(profile, Console())
        print(f"\n{target}: {', '.join(sorted(path.name for path in target.iterdir()))}")
    if problem:
        print(f"mosgate: warning: MLflow was not told: {problem}", file=sys.stderr)
    return Exit.WINNER


def _plan(args: argparse.Namespace) -> Plan:
    """Resolve what was typed over what was named over the defaults."""
    base = _base(args)
    options = options_from({**base.options, **assignments(args.set)})
    texts = tuple(text_of(text) for text in args.text) or base.measure.texts
    if args.repeats < 2:
        raise InputError(f"--repeats {args.repeats}: give at least 2, or there is no spread")
    if not 0 <= args.seconds < math.inf:
        raise InputError(f"--seconds {args.seconds:g}: give a time of 0 or more")
    sizes = _sizes(args.batches)

    # Without a GPU the profiler's library reports one that is missing as an error.
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    from search.profiling.subject import Plan

    plan = Plan(
        model=args.model or base.model,
        options=options,
        device=args.device or base.device,
        texts=texts,
        threads=base.measure.threads,
        repeats=args.repeats,
        seconds=args.seconds,
    )
    return replace(plan, batch_sizes=sizes) if sizes else plan


def _base(args: argparse.Namespace) -> _Base:
    if args.config is not None and args.winner is not None:
        raise InputError("CONFIG and --winner are two configurations: name one of them")
    if args.winner is not None:
        exported = read_winner(Path(args.winner))
        judged_with = read_measure(Path(args.winner))
        return _Base(
            model=str(exported.get("model", "embedded")),
            device="auto",
            options=flat_options(exported["options"]),
            measure=judged_with or MeasureConfig(),
        )
    if args.config is None:
        return _Base(model="embedded", device="auto", options={}, measure=MeasureConfig())
    from search.config import load_config

    config = load_config(Path(args.config))
    return _Base(
        model=config.model,
        device=config.device,
        options=config.baseline.flat(),
        measure=config.measure,
    )


def _sizes(given: str | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    words = given.split(",")
    sizes = sorted({int(word) for word in words if word.strip().isdecimal() and word.isascii()})
    if len(sizes) != len(words) or sizes[0] < 1:
        raise InputError(f"--batches {given}: write different whole numbers from 1, such as 1,4,16")
    return tuple(sizes)


def _take(plan: Plan, folder: Path) -> Profile:
    from search.profiling.measure import take

    def say(what: str) -> None:
        print(f"profile: {what}", file=sys.stderr, flush=True)

    return take(plan, folder, say)


def _write(folder: Path, profile: Profile) -> None:
    from search.profiling.page import render

    (folder / MARKER).write_text(profile.to_json(), encoding="utf-8")
    (folder / PAGE).write_text(render(profile), encoding="utf-8")


def _tell(profile: Profile, folder: Path, root: Path) -> str:
    """Tell MLflow; return why it could not be told, or ""."""
    from search.profiling import facts
    from search.tracking import Tracking

    return Tracking(root).tell_profile(
        profile.title, facts.params(profile), facts.metrics(profile), facts.tags(profile), folder
    )
