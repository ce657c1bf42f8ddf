"""Arming the gate before a sweep: the baseline heard again, and canaries of its own audio.

The second hearing is a trial like any other: a fresh process, the same prompts, other seeds, and
a record that a resumed sweep finds again. What came of it all is kept in ``arming.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evaluation.arming import Arming, arm
from evaluation.canaries import select
from evaluation.provenance import GATE_CODE, code_digest
from evaluation.scores import Clip, UtteranceScores
from search.armed import ARMING, read_arming
from search.config import digest_of
from search.errors import BaselineUnfitError, InfrastructureError
from search.events import GateArmed, PhaseStarted
from search.folder import CLIPS
from search.prompts import PromptSet
from search.record import TrialRecord, write_atomically
from search.reference import load_reference
from search.runner import Runner
from search.space import Candidate
from search.trial import BudgetOverError
from tts.options import Options

# Between the search's seeds and the confirmation's: none of theirs is among these.
AGAIN_SEED = 250_000
# A harmless change that passes on so many utterances need not be judged on all of them.
HARMLESS_N = 16


class Armer:
    """Arms the gate of one study, or reads how that went in an earlier sitting.

    Args:
        runner: Runs the baseline's second hearing.
        baseline: The baseline's record.
        prompts: What the search is judged on.
    """

    def __init__(self, runner: Runner, baseline: TrialRecord, prompts: PromptSet) -> None:
        self.runner, self.baseline, self.prompts = runner, baseline, prompts
        self.config = runner.config
        spoken = tuple(replace(u, seed=u.seed + AGAIN_SEED) for u in prompts.utterances)
        self.prompts_again = replace(prompts, utterances=spoken)

    def arm(self) -> Arming | None:
        """Arm the gate, or find out why not; None where the sweep leaves it out.

        From here on a gate that is not armed lets nothing pass.

        Raises:
            BaselineUnfitError: The baseline failed when it was heard again, or the time was over.
                The canaries of an arming that is cut short are tried again in the next sitting.
        """
        if not self.config.arming.enabled:
            return None
        folder, key = self.runner.folder.path, self.key
        known = read_arming(folder)
        if known is None or known["key"] != key:
            again, found = self.heard_and_tried()
            parts = (sum(again.phases.values()), found.seconds)
            seconds = max(parts) if self.runner.overlap else sum(parts)
            known = {"key": key, "seconds": seconds, "arming": found.to_mapping()}
            write_atomically(folder / ARMING, json.dumps(known, indent=1))
            self.runner.folder.save_clock()
        # The confirmation may change between sittings, and what is said of it with it.
        confirm, told = self.config.confirm, known["arming"]
        n_final = None if confirm.auto else confirm.n or None
        if told.get("n_final") != n_final:
            known["arming"] = {**told, "n_final": n_final}
            write_atomically(folder / ARMING, json.dumps(known, indent=1))
        arming = _restored(known["arming"], folder / ARMING)
        self.runner.unarmed = arming.missed
        self.runner.on_event(GateArmed(arming=arming, seconds=known["seconds"]))
        return arming

    @property
    def key(self) -> str:
        """Name all that an arming depends on: conditions, both hearings, canaries, gate code."""
        again = self.runner.digest(self.options, self.prompts_again)
        conditions = dict(self.runner.conditions)
        code = code_digest(names=GATE_CODE)
        tried = asdict(self.config.arming)
        return digest_of([conditions, self.baseline.digest, again, tried, code])

    @property
    def options(self) -> Options:
        """The baseline's options."""
        return Options.from_mapping(self.baseline.options)

    def heard_and_tried(self) -> tuple[TrialRecord, Arming]:
        """Return the record of the second hearing, and what came of it and of the canaries.

        Raises:
            BaselineUnfitError: The baseline failed, or the time was over.
        """
        trying = _InTime(self.runner)
        try:
            if not self.runner.overlap:
                again = self.heard_again()
                self.runner.on_event(_canaries(again))
                return again, self.tried(trying, _scores(again))
            return self.side_by_side(trying)
        except BudgetOverError as error:
            self.runner.folder.save_clock()
            raise BaselineUnfitError(
                "the study's time was over before the gate was armed: give it more"
            ) from error

    def side_by_side(self, trying: _InTime) -> tuple[TrialRecord, Arming]:
        """Judge the canaries while the baseline is still being heard again: nothing is timed.

        Raises:
            BaselineUnfitError: The baseline failed.
            BudgetOverError: The time was over.
        """
        heard: Future[list[UtteranceScores]] = Future()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="canaries") as thread:
            tried = thread.submit(self.tried, trying, heard.result)
            try:
                again = self.heard_again()
                heard.set_result(_scores(again))
                self.runner.on_event(_canaries(again))
                return again, tried.result()
            except BaseException:
                trying.is_stopped = True
                heard.cancel()
                raise

    def heard_again(self) -> TrialRecord:
        """Return the record of the second hearing; run it if need be.

        Raises:
            BaselineUnfitError: It failed, which leaves no record.
            BudgetOverError: The time was over.
        """
        known = self.runner.known(self.runner.digest(self.options, self.prompts_again))
        if known is not None:
            return known
        candidate = Candidate(requested=self.options, options=self.options)
        record = self.runner.attempt(candidate, "arming", self.prompts_again, None)
        if record.failure is None:
            return self.runner.keep(record)
        # One that failed must not be in the way of the next sitting's.
        self.runner.folder.remove_trial(record.folder_name)
        failure = record.failure
        raise BaselineUnfitError(
            f"the baseline failed when it was heard again with other seeds ({failure.kind} in "
            f"{failure.phase}: {failure.message}); mend that and run the same command again"
        )

    def tried(
        self, trying: _InTime, again: list[UtteranceScores] | Callable[[], list[UtteranceScores]]
    ) -> Arming:
        """Try the gate on the canaries and on both hearings.

        Raises:
            BudgetOverError: The time was over.
        """
        folder = self.runner.folder.trials / self.baseline.folder_name
        scores = load_reference(folder, self.baseline.utterances).scores
        return arm(
            baseline_clips(folder, scores, self.prompts.references),
            scores,
            again,
            trying,
            self.config.gate,
            canaries=select(self.config.arming.canaries),
            harmless_n=HARMLESS_N,
        )


class _InTime:
    """The study's scorer, in turn with what else it scores, while there is time for the search."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.is_stopped = False

    def score(
        self, clips: Sequence[Clip], *, metrics: Sequence[str] | None = None
    ) -> list[UtteranceScores]:
        """Score clips, in their order, by some of the metrics or (None) by all."""
        scoring = self.runner.scoring
        return scoring.in_turn(
            lambda: scoring.scorer.score(clips, metrics=metrics, on_progress=self.go_on)
        )

    def go_on(self, _done: int, _total: int) -> None:
        """Give up in the middle of a batch once the time is over, or nobody waits for it."""
        if self.is_stopped or self.runner.left_s <= 0:
            raise BudgetOverError("the search's time is over")


def _scores(record: TrialRecord) -> list[UtteranceScores]:
    return [UtteranceScores.from_mapping(u) for u in record.utterances]


def _canaries(again: TrialRecord) -> PhaseStarted:
    return PhaseStarted(number=again.number, phase="canaries", deadline_s=0.0)


def baseline_clips(
    folder: Path, scores: tuple[UtteranceScores, ...], references: Mapping[str, str]
) -> list[Clip]:
    """Return the audio of a trial as it was judged, in the order of its scores."""
    told = json.loads((folder / CLIPS).read_text(encoding="utf-8"))["clips"]
    clips = [(item.utterance_id, told[item.utterance_id]) for item in scores]
    return [
        Clip(
            utterance_id=name,
            wav_path=folder / clip["wav"],
            reference=references[name],
            n_truncated=clip["n_truncated"],
            n_tokens=clip["n_tokens"],
        )
        for name, clip in clips
    ]


def _restored(kept: Mapping[str, Any], path: Path) -> Arming:
    try:
        return Arming.from_mapping(kept)
    except (KeyError, TypeError) as error:
        raise InfrastructureError(
            f"cannot read {path}: {error!r}; remove it and run the same command again, which arms "
            "the gate anew"
        ) from error
