"""The curriculum, the optimisation step and the validation of the ear."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.ear_augment import Damage
from training.ear_data import BUCKETS, LONG, MEDIUM, Bucket, Composer, Windows, on_device
from training.ear_model import EarNet, log_mel
from training.ear_text import Vocabulary

ALIGNED_CTC_NATS = 0.9
LATEST_START = 0.22


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is trained at one moment.

    Args:
        shares: Probability of each bucket, in the order of ``BUCKETS``.
        loose: Share of windows with changed speed, pauses and several utterances.
        damage: How the audio is damaged, or None.
        ctc_weight: Weight of the character CTC loss beside the decoder's.
    """

    shares: tuple[float, float, float]
    loose: float
    damage: Damage | None
    ctc_weight: float


class Curriculum:
    """Short and clean until the encoder aligns, then longer, then damaged, then 30 s windows.

    CTC does not start on 10 s concatenations with noise, so the first lesson lasts until the
    character loss shows an alignment, though never beyond a fifth of the run.
    """

    def __init__(self) -> None:
        self.aligned_at: float | None = None
        self.ctc_nats = math.inf

    def saw(self, ctc_nats: float, progress: float) -> None:
        """Take note of the running CTC loss per character."""
        self.ctc_nats = ctc_nats if math.isinf(self.ctc_nats) else (self.ctc_nats + ctc_nats) / 2
        if self.aligned_at is None and self.ctc_nats < ALIGNED_CTC_NATS:
            self.aligned_at = progress

    def lesson(self, progress: float) -> Lesson:
        """Choose for a run that is ``progress`` (0 to 1) along."""
        if self.aligned_at is None and progress > LATEST_START:
            self.aligned_at = progress
        if self.aligned_at is None:
            return Lesson(shares=(1.0, 0.0, 0.0), loose=0.0, damage=None, ctc_weight=0.7)
        along = (progress - self.aligned_at) / max(1e-6, 1.0 - self.aligned_at)
        shares = (
            (0.75, 0.25, 0.0) if along < 0.05
            else (0.5, 0.35, 0.15) if along < 0.3
            else (0.4, 0.3, 0.3) if along < 0.7
            else (0.25, 0.25, 0.5)
        )  # fmt: skip
        share = min(0.6, 0.2 + along * 2)
        damage = None
        if along >= 0.05:
            damage = Damage(share=share, min_snr_db=max(4.0, 25.0 - 70.0 * along))
        weight = 0.3 if along < 0.5 else 0.15
        return Lesson(shares=shares, loose=min(0.4, along * 4), damage=damage, ctc_weight=weight)


@dataclass(kw_only=True)
class Progress:
    """How far the run is, 0 to 1; written by the training thread, read by the composing one."""

    value: float = 0.0


class Batches:
    """Composes batches in a thread, a few ahead, and takes new shards in between."""

    def __init__(
        self, composer: Composer, curriculum: Curriculum, progress: Progress, batch_seconds: int
    ) -> None:
        self.composer, self.curriculum = composer, curriculum
        self.progress, self.batch_seconds = progress, batch_seconds
        self._random = np.random.default_rng(composer.random.integers(1 << 30))
        self._queue: queue.Queue[tuple[Bucket, Lesson, Windows] | Exception] = queue.Queue(3)
        threading.Thread(target=self._work, daemon=True).start()

    def __iter__(self) -> Iterator[tuple[Bucket, Lesson, Windows]]:
        while True:
            item = self._queue.get()
            if isinstance(item, Exception):
                raise item
            yield item

    def _work(self) -> None:
        try:
            while True:
                self.composer.corpus.poll()
                lesson = self.curriculum.lesson(self.progress.value)
                bucket = BUCKETS[int(self._random.choice(len(BUCKETS), p=lesson.shares))]
                rows = rows_of(bucket, self.batch_seconds)
                windows = self.composer.draw(bucket, rows, loose=lesson.loose)
                self._queue.put((bucket, lesson, windows))
        except Exception as error:  # noqa: BLE001 - raised again where batches are taken
            self._queue.put(error)


def rows_of(bucket: Bucket, batch_seconds: int) -> int:
    """How many windows make ``batch_seconds`` of audio."""
    return max(2, batch_seconds // bucket.seconds)


class Stepper:
    """One optimisation step on the device, without waiting for it.

    A step whose gradient is not finite changes nothing: the fused optimizer skips it on the device.
    """

    def __init__(self, net: EarNet, vocabulary: Vocabulary, lr: float, seed: int) -> None:
        self.net, self.vocabulary = net, vocabulary
        self.device = next(net.parameters()).device
        self.parameters = list(net.parameters())
        decayed = [p for p in self.parameters if p.ndim > 1]
        other = [p for p in self.parameters if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": other, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def step(self, audio: Tensor, content: Tensor, windows: Windows, ctc_weight: float) -> Tensor:
        """Learn from a batch; return (decoder loss, CTC loss, gradient norm), shape (3,)."""
        rows = on_device(windows.rows, self.device)
        with torch.no_grad():
            padded = self._uniform(len(rows)) < 0.7
            mel = log_mel(audio, content, padded)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits, ctc = self.net(mel, self._heard(rows))
        logits = logits.flatten(0, 1).float()
        decoder_loss = F.cross_entropy(logits, self._target(rows), ignore_index=-1)
        ctc_loss = self._ctc_loss(ctc, windows)
        (decoder_loss + ctc_weight * ctc_loss).backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # AdamW divides gradients by grad_scale and skips the step where found_inf is 1.
        self.optimizer.grad_scale = norm.clamp(min=1.0).float()  # type: ignore[attr-defined]
        self.optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return torch.stack([decoder_loss.detach(), ctc_loss.detach(), norm.detach()])

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, device=self.device, generator=self.generator)

    def _heard(self, rows: Tensor) -> Tensor:
        """Make decoder inputs; one in twelve is wrong, so that the ear trusts the audio."""
        given = torch.where(rows < 0, self.vocabulary.eot, rows)[:, :-1]
        random = (self._uniform(*given.shape) * len(self.vocabulary)).long()
        wrong = self._uniform(*given.shape) < 1 / 12
        wrong[:, :2] = False
        return torch.where(wrong, random, given)

    def _target(self, rows: Tensor) -> Tensor:
        """Make targets; where nothing is said, what follows sot is the no-speech row."""
        target = rows[:, 1:].clone()
        empty = target[:, 1] == self.vocabulary.eot
        target[:, 0] = torch.where(empty, self.vocabulary.no_speech, target[:, 0])
        return target.flatten()

    def _ctc_loss(self, logits: Tensor, windows: Windows) -> Tensor:
        """CTC per character; 30 s windows are left out because it walks frame by frame."""
        if logits.shape[1] > MEDIUM.n_samples // 320:
            return logits.sum() * 0.0
        frames = torch.from_numpy(windows.content // 320).clamp(min=1, max=logits.shape[1])
        return F.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),
            on_device(windows.characters, self.device),
            frames,
            torch.from_numpy(windows.n_characters),
            zero_infinity=True,
        )


def word_errors(reference: str, hypothesis: str) -> int:
    """Count word substitutions, insertions and deletions (Levenshtein)."""
    ref, hyp = reference.split(), hypothesis.split()
    row = list(range(len(hyp) + 1))
    for i, word in enumerate(ref, start=1):
        previous, row[0] = row[0], i
        for j, other in enumerate(hyp, start=1):
            change = previous + (word != other)
            previous, row[j] = row[j], min(change, row[j] + 1, row[j - 1] + 1)
    return row[-1]


@torch.no_grad()
def validate(
    net: EarNet, composer: Composer, utterances: Sequence[int], *, snr_db: float | None = None
) -> tuple[float, list[tuple[str, str]]]:
    """Decode held-out utterances in 30 s windows as ``whisper.transcribe`` would see them.

    Args:
        net: In evaluation.
        composer: Lays out the windows.
        utterances: Indices into the corpus.
        snr_db: Adds white noise, the same for every call.

    Returns:
        Word error rate and (reference, hypothesis) pairs.
    """
    corpus, pairs = composer.corpus, []
    vocabulary = corpus.vocabulary
    start = (vocabulary.sot, vocabulary.no_timestamps)
    generator = torch.Generator(corpus.device).manual_seed(0)
    for first in range(0, len(utterances), 64):
        part = utterances[first : first + 64]
        windows = composer.windows(LONG, [([int(u)], 1.0) for u in part])
        audio = corpus.audio(windows, LONG)
        content = torch.from_numpy(windows.content).to(corpus.device)
        if snr_db is not None:
            power = audio.square().sum(1, keepdim=True) / content[:, None]
            noise = torch.randn(audio.shape, device=audio.device, generator=generator)
            inside = torch.arange(audio.shape[1], device=audio.device) < content[:, None]
            audio = audio + noise * inside * (power * 10 ** (-snr_db / 10)).sqrt()
        mel = log_mel(audio, content, torch.ones_like(content, dtype=torch.bool))
        with torch.autocast(corpus.device.type, torch.bfloat16):
            rows = net.transcribe(mel, start, vocabulary.eot, limit=96)
        for u, line in zip(part, rows.tolist(), strict=True):
            pairs.append((corpus.words[int(u)], vocabulary.decode(line)))
    errors = sum(word_errors(*pair) for pair in pairs)
    return errors / max(1, sum(len(reference.split()) for reference, _ in pairs)), pairs
