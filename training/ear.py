"""Train the embedded ear, a small Whisper-architecture recogniser, on one GPU.

    python -m training.ear --audio DIR --out DIR --device cuda:0 --seconds 1080 --seed 0

DIR holds the shards of ``training.flite`` and may still be filling. Every two minutes ``ear.pt``
(fp16, averaged weights) and ``ear.json`` (the validation history) are replaced whole, beside
``ear_resume.pt``: a process that dies is started again and goes on until the same deadline.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.ear_augment import damage
from training.ear_data import BUCKETS, Bucket, Composer, Corpus, Windows, on_device
from training.ear_loop import Batches, Curriculum, Lesson, Progress, Stepper, rows_of, validate
from training.ear_model import EarNet, EarShape
from training.ear_text import Vocabulary
from training.schedule import Average, Log, cosine, save

SNAPSHOT_S = 120.0
LAST_SNAPSHOT_S = 8.0  # the validation and the files at the end belong to the budget
LOG_EVERY = 50
CODEC_FROM = 0.4
RESTARTS = 5
SHAPES = {
    "full": EarShape(),
    "tiny": EarShape(width=64, n_heads=2, n_encoder_layers=2, n_decoder_layers=1, n_text_ctx=192),
}


class Run:
    """One training run, from the first shard to the last snapshot.

    Args:
        args: The command line's values.
        started: Unix time at which the budget began, so that a restart keeps the deadline.
    """

    def __init__(self, args: argparse.Namespace, started: float) -> None:
        self.args, self.started = args, started
        self.device = torch.device(args.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        torch.manual_seed(args.seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        self.vocabulary = Vocabulary()
        self.net = EarNet(SHAPES[args.shape], len(self.vocabulary)).to(self.device)
        self.average = Average(self.net, decay=0.999)
        self.judge = EarNet(SHAPES[args.shape], len(self.vocabulary)).to(self.device).eval()
        self.stepper = Stepper(self.net, self.vocabulary, args.lr, args.seed)
        self.log = Log(args.out / "ear.jsonl", "ear")
        self.history: list[dict[str, float]] = []
        self.curriculum, self.progress, self.step = Curriculum(), Progress(), 0
        self.batch_seconds = args.batch_seconds
        self.resynthesise: Callable[[Tensor], Tensor] | None = None
        self._codec_failed = False

    def run(self) -> None:
        """Train until the deadline; the last snapshot is the result."""
        self._resume()
        if self.args.compile and self.device.type == "cuda":
            self._compile()
        corpus = Corpus(self.args.audio, self.device, self.args.hours, self.vocabulary)
        corpus.wait(self.args.start_hours, patience_s=self.args.patience)
        found = {"utterances": len(corpus.words), "skipped": corpus.n_skipped}
        self.log(event="data", hours=corpus.hours, **found)
        self.composer = Composer(corpus, self.args.seed + self.step)
        self._train(corpus)
        self._snapshot()
        self.log(event="end", step=self.step, elapsed_s=self._elapsed())

    def _elapsed(self) -> float:
        return time.time() - self.started

    def _along(self) -> float:
        by_steps = self.step / self.args.steps if self.args.steps else 0.0
        seconds = max(1.0, self.args.seconds - LAST_SNAPSHOT_S)
        return min(1.0, max(self._elapsed() / seconds, by_steps))

    def _train(self, corpus: Corpus) -> None:
        batches = iter(Batches(self.composer, self.curriculum, self.progress, self.batch_seconds))
        saved, logged, losses = time.time(), time.time(), []
        while (along := self._along()) < 1.0:
            self.progress.value = along
            bucket, lesson, windows = next(batches)
            warm_up = min(1.0, (self.step + 1) / 400)
            lr = warm_up * cosine(along, peak=self.args.lr, floor=self.args.lr / 200)
            self.stepper.set_lr(lr)
            try:
                losses.append((bucket.name, self._learn(corpus, bucket, lesson, windows)))
            except torch.OutOfMemoryError:
                self._shrink()
                continue
            self.step += 1
            if self.step % LOG_EVERY == 0:
                self._report(corpus, losses, LOG_EVERY / (time.time() - logged))
                losses, logged = [], time.time()
            if time.time() - saved > self.args.snapshot_seconds:
                self._snapshot()
                saved = logged = time.time()

    def _learn(self, corpus: Corpus, bucket: Bucket, lesson: Lesson, windows: Windows) -> Tensor:
        with torch.no_grad():
            audio = corpus.audio(windows, bucket)
            content = on_device(windows.content, self.device)
            audio = self._through_codec(audio, windows, bucket)
            inside = torch.arange(bucket.n_samples, device=self.device) < content[:, None]
            audio = audio * inside  # a codec may leave a little sound after the content
            if lesson.damage is not None:
                audio = damage(audio, content, lesson.damage, self.stepper.generator)
        values = self.stepper.step(audio, content, windows, lesson.ctc_weight)
        # A young average follows quickly, so that early snapshots are not the initial weights.
        self.average.decay = min(0.9995, (1 + self.step) / (10 + self.step))
        self.average.update()
        return values

    def _through_codec(self, audio: Tensor, windows: Windows, bucket: Bucket) -> Tensor:
        """Pass a sixth of the teacher's shorter windows through the embedded voice's codec.

        The codec learns meanwhile: it is left alone while it is young, and read anew after each
        snapshot.
        """
        path = self.args.codec
        too_young = self._along() < CODEC_FROM
        if path is None or self._codec_failed or bucket is BUCKETS[-1] or too_young:
            return audio
        try:
            if self.resynthesise is None:
                if not path.exists():
                    return audio
                module = importlib.import_module("training.codec")
                self.resynthesise = module.load_resynthesiser(path, self.device)
                self.log(event="codec", path=str(path), step=self.step)
            teacher = np.flatnonzero(windows.is_teacher)
            rows = torch.from_numpy(teacher[: len(teacher) // 6]).to(self.device)
            if len(rows):
                audio[rows] = self.resynthesise(audio[rows])[:, : audio.shape[1]].float()
        except Exception as error:  # noqa: BLE001 - an extra; the run goes on without it
            self._codec_failed = True
            self.log(event="codec left out", reason=repr(error))
        return audio

    def _report(self, corpus: Corpus, losses: list[tuple[str, Tensor]], rate: float) -> None:
        values = torch.stack([v for _, v in losses]).cpu().numpy()
        buckets = np.array([name for name, _ in losses])
        has_ctc = buckets != BUCKETS[-1].name
        ctc = float(np.nanmean(values[has_ctc, 1])) if has_ctc.any() else float("nan")
        along = self._along()
        if np.isfinite(ctc):
            self.curriculum.saw(ctc, along)
        memory = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else 0.0
        self.log(
            step=self.step, along=along, loss=float(np.nanmean(values[:, 0])), ctc=ctc,
            norm=float(np.nanmedian(values[:, 2])), steps_per_s=rate, hours=corpus.hours,
            long_share=float((~has_ctc).mean()), gib=memory,
        )  # fmt: skip

    def _shrink(self) -> None:
        self.stepper.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        raise SystemExit(_SMALLER)

    def _snapshot(self) -> None:
        """Validate the averaged weights and replace the snapshot files."""
        self.resynthesise = None
        self.judge.load_state_dict(self.average.state(), strict=False)
        entry: dict[str, Any] = {"step": self.step, "elapsed_s": self._elapsed()}
        entry |= {"hours": self.composer.corpus.hours, "aligned_at": self.curriculum.aligned_at}
        try:
            entry |= self._validation()
        except torch.OutOfMemoryError as error:
            self.log(event="validation left out", reason=repr(error))
        self.history.append(entry)
        self.log(event="snapshot", **{k: v for k, v in entry.items() if v is not None})
        state = self.average.state()
        meta = {"row_ids": torch.from_numpy(self.vocabulary.row_ids), "history": self.history}
        shape = self.judge.shape.as_dict()
        half = {k: v.half().cpu() for k, v in state.items()}
        save(self.args.out / "ear.pt", {"shape": shape, "state": half, **meta})
        partial = self.args.out / "ear.json.tmp"
        partial.write_text(json.dumps(self.history, indent=1))
        partial.replace(self.args.out / "ear.json")
        resume = {"net": self.net.state_dict(), "optimizer": self.stepper.optimizer.state_dict()}
        resume |= {"average": self.average.values, "step": self.step, "history": self.history}
        resume["aligned_at"] = self.curriculum.aligned_at
        save(self.args.out / "ear_resume.pt", resume)

    def _validation(self) -> dict[str, float]:
        corpus, composer, found = self.composer.corpus, self.composer, {}
        n = self.args.validation
        teacher = np.flatnonzero(corpus.is_validation & corpus.is_teacher)[:n]
        others = np.flatnonzero(corpus.is_validation & ~corpus.is_teacher)[: n // 2]
        for name, chosen, snr_db in (
            ("wer_teacher", teacher, None),
            ("wer_others", others, None),
            ("wer_20_db", teacher, 20.0),
            ("wer_10_db", teacher, 10.0),
        ):
            if len(chosen):
                found[name], pairs = validate(self.judge, composer, chosen.tolist(), snr_db=snr_db)
                if name == "wer_teacher":
                    lines = [f"{reference} -> {heard}" for reference, heard in pairs[:3]]
                    print("ear heard:", *lines, sep="\n  ", flush=True)
        return found

    def _resume(self) -> None:
        path = self.args.out / "ear_resume.pt"
        if not path.exists():
            return
        resume = torch.load(path, map_location=self.device, weights_only=True)
        self.net.load_state_dict(resume["net"])
        self.stepper.optimizer.load_state_dict(resume["optimizer"])
        for mine, saved in zip(self.average.values, resume["average"], strict=True):
            mine.copy_(saved)
        self.step, self.history = resume["step"], resume["history"]
        self.curriculum.aligned_at = resume["aligned_at"]
        self.log(event="resumed", step=self.step, elapsed_s=self._elapsed())

    def _compile(self) -> None:
        """Compile the blocks if that works here and is faster than eager; say which."""
        eager = self._trial_rate()
        blocks = [*self.net.whisper.encoder.blocks, *self.net.whisper.decoder.blocks]
        try:
            torch._dynamo.config.recompile_limit = 64
            for block in blocks:
                block.compile(dynamic=False)
            compiled = self._trial_rate()
            reason = ""
        except Exception as error:  # noqa: BLE001 - eager works wherever the compiler does not
            compiled, reason = 0.0, repr(error)[:300]
        if compiled < eager:
            for block in blocks:
                block._compiled_call_impl = None
        self.log(event="compile", eager=eager, compiled=compiled, reason=reason)

    def _trial_rate(self) -> float:
        """Steps per second on random input, weights untouched; every bucket is met once before."""
        for timed in (False, True):
            began = time.time()
            for bucket in BUCKETS:
                rows = rows_of(bucket, self.batch_seconds)
                for _ in range(5 if timed else 2):
                    mel = torch.randn(rows, 80, bucket.n_samples // 160, device=self.device)
                    ids = torch.zeros(rows, bucket.n_rows, dtype=torch.long, device=self.device)
                    with torch.autocast(self.device.type, torch.bfloat16):
                        logits, ctc = self.net(mel, ids)
                    (logits.float().mean() + ctc.float().mean()).backward()
                    self.net.zero_grad(set_to_none=True)
            torch.cuda.synchronize()
        return 5 * len(BUCKETS) / (time.time() - began)


_SMALLER = 75


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder of shards")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=1080.0, help="the whole budget")
    parser.add_argument("--steps", type=int, help="end after so many steps, if that is sooner")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--batch-seconds", type=int, default=800, help="audio in a batch")
    parser.add_argument("--hours", type=float, default=200.0, help="room for audio on the device")
    parser.add_argument("--start-hours", type=float, default=1.0, help="begin with so much audio")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds to wait for it")
    parser.add_argument("--validation", type=int, default=128, help="held-out teacher utterances")
    parser.add_argument("--snapshot-seconds", type=float, default=SNAPSHOT_S)
    parser.add_argument("--codec", type=Path, help="codec snapshot that may appear meanwhile")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="full")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main() -> None:
    """Train; a child process does it and is started again when it dies before the deadline."""
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.started is not None:
        Run(args, args.started).run()
        return
    started, batch_seconds = time.time(), args.batch_seconds
    for attempt in range(RESTARTS + 1):
        command = [sys.executable, "-u", "-m", "training.ear", *sys.argv[1:]]
        command += ["--started", repr(started), "--batch-seconds", str(batch_seconds)]
        if attempt >= 2:
            command.append("--no-compile")
        code = subprocess.call(command)
        if code == 0 or time.time() - started > args.seconds - 20:
            raise SystemExit(code)
        batch_seconds = batch_seconds * 2 // 3 if code == _SMALLER else batch_seconds
        print(f"ear: attempt {attempt + 1} ended with {code}; going on", flush=True)
    raise SystemExit("the ear's training died too often; its last snapshot is kept")


if __name__ == "__main__":
    main()
