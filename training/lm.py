"""Train the embedded voice's language model on speech tokens made afresh every pass.

    python -m training.lm --audio DIR --out DIR --tokenizer DIR/tokenizer.pt --seconds 800

Fixed tokens overfit: each pass shifts the audio by up to 20 ms before it is tokenized. Several
processes share the work when torch.distributed's variables are set (training.run does so): each
draws batches of its own, and gradients are averaged. ``--start lm.pt`` goes on from weights of an
earlier run.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.audio_store import AudioStore
from training.codec import load_tokenizer
from training.codec_model import Tokenizer
from training.flite import TEACHER
from training.schedule import Average, Clock, Log, Ranks, cosine, save
from tts.embedded.codec import N_CODES, SAMPLES_PER_TOKEN
from tts.embedded.lm import BOS, EOS, LM_CONFIG, NULL, SpeechLM

# Speech tokens at the most, and characters at the most, of the sequences in each bucket.
BUCKETS = ((24, 40), (48, 64), (80, 88), (112, 112), (144, 144), (184, 176), (240, 200), (330, 208))
POSITIONS_PER_STEP = 24_576
SHIFT = SAMPLES_PER_TOKEN // 2
CONDITION_DROPOUT, TOKEN_NOISE = 0.1, 0.02
PEAK_LR, START_LR, FLOOR_LR = 2e-3, 1e-3, 2e-5


class LMLoss(nn.Module):
    """Cross-entropy of speech tokens and EOS, given characters."""

    def __init__(self, lm: SpeechLM) -> None:
        super().__init__()
        self.lm = lm

    def forward(
        self, text: Tensor, n_characters: Tensor, inputs: Tensor, targets: Tensor
    ) -> Tensor:
        """Return the mean loss in nats.

        Args:
            text: Character ids, shape (batch, C), right-padded.
            n_characters: Shape (batch,).
            inputs: BOS and speech tokens, shape (batch, T + 1).
            targets: Speech tokens and EOS, shape (batch, T + 1), -100 beyond.
        """
        (batch, n_text), n_speech = text.shape, inputs.shape[1]
        steps = torch.arange(n_text + n_speech, device=text.device).expand(batch, -1)
        spoken = steps - n_characters[:, None]
        width = self.lm.head.in_features
        characters = self.lm.embed_text(text.gather(1, steps.clamp(max=n_text - 1)))
        speech = self.lm.embed_speech(inputs)
        index = spoken.clamp(0, n_speech - 1)[..., None].expand(-1, -1, width)
        x = torch.where((spoken < 0)[..., None], characters, speech.gather(1, index))
        hidden = self.lm.decoder(x, steps)
        places = n_characters[:, None] + torch.arange(n_speech, device=text.device)
        hidden = hidden.gather(1, places[..., None].expand(-1, -1, width))
        scores = self.lm.head(hidden).float()[..., : EOS + 1]
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-100)


class Batches:
    """Draws batches of one bucket: text, freshly tokenized speech, targets.

    Args:
        store: The teacher's audio.
        tokenizer: Frozen; None gives random codes (for warming up before it is trained).
        generator: On the store's device.
        positions: Sequence positions a batch, padding included.
    """

    def __init__(
        self,
        store: AudioStore,
        tokenizer: Tokenizer | None,
        generator: torch.Generator,
        positions: int,
    ) -> None:
        self.store, self.tokenizer, self.generator = store, tokenizer, generator
        self.positions = positions
        self.device = store.device
        self.refresh()

    def refresh(self) -> None:
        """Sort what the store now holds into buckets."""
        texts = self.store.texts
        longest = max(n for _, n in BUCKETS)
        padded = b"".join(text.encode("ascii")[:longest].ljust(longest, b"\0") for text in texts)
        table = torch.frombuffer(bytearray(padded), dtype=torch.uint8)
        self.text = table.view(-1, longest).to(self.device)
        self.n_characters = torch.tensor([len(t) for t in texts], device=self.device)
        n_tokens = (self.store.lengths + SHIFT + SAMPLES_PER_TOKEN - 1) // SAMPLES_PER_TOKEN
        left = torch.ones_like(n_tokens, dtype=torch.bool)
        self.rows = []
        for most_tokens, most_characters in BUCKETS:
            fits = left & (n_tokens <= most_tokens) & (self.n_characters <= most_characters)
            self.rows.append(fits.nonzero()[:, 0])
            left &= ~fits
        sizes = torch.tensor([float(len(rows)) for rows in self.rows])
        counts = torch.tensor([float(self.size(i)) for i in range(len(BUCKETS))])
        self.weights = (sizes / counts).tolist()

    def size(self, bucket: int) -> int:
        """Return how many rows a batch of this bucket has."""
        return max(1, self.positions // (sum(BUCKETS[bucket]) + 1))

    def draw(self, bucket: int, *, augment: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the arguments of ``LMLoss``."""
        most_tokens, most_characters = BUCKETS[bucket]
        n, device, generator = self.size(bucket), self.device, self.generator
        candidates = self.rows[bucket]
        pick = torch.randint(max(len(candidates), 1), (n,), generator=generator, device=device)
        rows = candidates[pick] if len(candidates) else torch.zeros_like(pick)
        offsets = torch.randint(-SHIFT, SHIFT + 1, (n,), generator=generator, device=device)
        audio = self.store.gather(rows, offsets, most_tokens * SAMPLES_PER_TOKEN)
        codes = self._encode(audio)
        length = self.store.lengths[rows] - offsets
        n_tokens = ((length + SAMPLES_PER_TOKEN - 1) // SAMPLES_PER_TOKEN).clamp(max=most_tokens)
        steps = torch.arange(most_tokens + 1, device=device)
        padded = F.pad(codes, (0, 1), value=EOS)
        targets = torch.where(steps < n_tokens[:, None], padded, EOS)
        targets = torch.where(steps > n_tokens[:, None], -100, targets)
        inputs = F.pad(codes, (1, 0), value=BOS)
        text = self.text[rows, :most_characters].long()
        if augment:
            noise = torch.rand(inputs.shape, generator=generator, device=device) < TOKEN_NOISE
            noise[:, 0] = False
            inputs = torch.where(noise, inputs.roll(1, 0), inputs)
            drop = torch.rand(n, 1, generator=generator, device=device) < CONDITION_DROPOUT
            text = torch.where(drop, NULL, text)
        return text, self.n_characters[rows].clamp(max=most_characters), inputs, targets

    def _encode(self, audio: Tensor) -> Tensor:
        if self.tokenizer is None:
            shape = (len(audio), audio.shape[1] // SAMPLES_PER_TOKEN)
            return torch.randint(N_CODES, shape, generator=self.generator, device=self.device)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            return self.tokenizer.encode(audio)


def initialise(lm: SpeechLM) -> None:
    """Small normal weights, smaller still where a layer writes to the residual stream."""
    residual = 0.02 / math.sqrt(2 * lm.decoder.config.n_layers)
    for name, parameter in lm.named_parameters():
        if parameter.dim() == 2:
            std = residual if name.endswith(("out.weight", "down.weight")) else 0.02
            nn.init.normal_(parameter, std=std)


@torch.no_grad()
def validate(loss: nn.Module, batches: Batches) -> float:
    """Return the mean loss over one batch of each bucket, weighted as in training."""
    loss.eval()
    total = weight = 0.0
    for bucket, share in enumerate(batches.weights):
        if share:
            with torch.autocast(batches.device.type, torch.bfloat16):
                total += share * loss(*batches.draw(bucket, augment=False)).item()
            weight += share
    loss.train()
    return total / weight


class LMTrainer:
    """The model, its optimizer and one step of training.

    Args:
        args: The command line's values.
        device: Where to train.
        ranks: The processes that train together.
    """

    def __init__(self, args: argparse.Namespace, device: torch.device, ranks: Ranks) -> None:
        self.ranks = ranks
        self.lm = SpeechLM(replace(LM_CONFIG, dropout=args.dropout)).to(device)
        if args.start:
            saved = torch.load(args.start, map_location=device)
            self.lm.load_state_dict({k: v.float() for k, v in saved.items()})
        else:
            initialise(self.lm)
        self.plain = LMLoss(self.lm)
        self.loss = torch.compile(self.plain, dynamic=False) if args.compile else self.plain
        decayed = [p for p in self.lm.parameters() if p.dim() == 2]
        others = [p for p in self.lm.parameters() if p.dim() != 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=0.0, betas=(0.9, 0.95), fused=device.type == "cuda",
        )  # fmt: skip
        self.average = Average(self.lm, 0.999)
        self.device = device

    def step(self, arguments: tuple[Tensor, Tensor, Tensor, Tensor], lr: float) -> Tensor:
        """Learn from one batch; return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.device.type, torch.bfloat16):
            value: Tensor = self.loss(*arguments)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        self.ranks.average([p.grad for p in self.lm.parameters() if p.grad is not None])
        nn.utils.clip_grad_norm_(self.lm.parameters(), 1.0)
        self.optimizer.step()
        self.average.update()
        return value.detach()

    def save(self, path: Path) -> None:
        """Write the averaged weights."""
        save(path, {k: v.cpu() for k, v in self.average.state().items()})

    def adopt_average(self) -> None:
        """Replace the weights by their average."""
        for parameter, value in zip(self.lm.parameters(), self.average.values, strict=True):
            parameter.data.copy_(value)


def train(args: argparse.Namespace) -> None:
    """Warm up, wait for the tokenizer, train by the clock."""
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_float32_matmul_precision("high")
    ranks = Ranks(device)
    log = Log(args.out / ("lm.jsonl" if ranks.rank == 0 else f"lm-{ranks.rank}.jsonl"), "lm")
    # The same weights everywhere, other batches.
    generator = torch.Generator(device).manual_seed(args.seed + ranks.rank)
    store = AudioStore(args.audio, device, hours=args.hours, voices=(TEACHER,))
    kept = AudioStore(args.audio, device, hours=3, voices=(TEACHER,), held_out=True)
    store.wait(args.hours_first)
    trainer = LMTrainer(args, device, ranks)
    batches = Batches(store, None, generator, args.positions)
    if args.compile:
        warm_up(trainer.loss, trainer.lm, batches, log)
    batches.tokenizer = load_tokenizer(args.tokenizer, device)
    store.poll(most=10_000)
    kept.poll(most=10_000)
    batches.refresh()
    checks = Batches(kept, batches.tokenizer, generator, args.positions)
    ranks.agree(0.0)
    clock = Clock(args.seconds, args.steps)
    log(event="start", hours=store.used / 57.6e6, sentences=len(store.texts))
    run(args, trainer, clock, batches, checks, log)
    if ranks.rank:
        return
    trainer.save(args.out / "lm.pt")
    trainer.adopt_average()
    log(event="done", step=clock.step, validation=validate(trainer.plain, checks))


def run(
    args: argparse.Namespace,
    trainer: LMTrainer,
    clock: Clock,
    batches: Batches,
    checks: Batches,
    log: Log,
) -> None:
    """Train until the clock is over, taking in new shards and saving on the way."""
    polled = saved = time.monotonic()
    picker = torch.Generator().manual_seed(args.seed)
    progress = 0.0
    while progress < 1:
        lr = cosine(progress, peak=args.lr, floor=FLOOR_LR, warm_up=0.02)
        bucket = int(torch.multinomial(torch.tensor(batches.weights), 1, generator=picker))
        value = trainer.step(batches.draw(bucket), lr)
        clock.step += 1
        if clock.step % 20 == 0:  # the processes' clocks differ a little; they must end together
            progress = trainer.ranks.agree(clock.progress)
        if clock.step % 500 == 0:
            hours = batches.store.used / 57.6e6
            log(
                step=clock.step, elapsed_s=clock.elapsed_s, bucket=bucket, loss=value, lr=lr,
                hours=hours,
            )  # fmt: skip
        if clock.step % 4000 == 0 and trainer.ranks.rank == 0:
            log(step=clock.step, validation=validate(trainer.plain, checks))
        if time.monotonic() - polled > 45:
            if batches.store.poll(most=200):
                batches.refresh()
            polled = time.monotonic()
        if time.monotonic() - saved > 60 and trainer.ranks.rank == 0:
            trainer.save(args.out / "lm.pt")
            saved = time.monotonic()


def warm_up(loss: nn.Module, lm: SpeechLM, batches: Batches, log: Log) -> None:
    """Compile every bucket's shape before the clock starts."""
    for bucket in range(len(BUCKETS)):
        with torch.autocast(batches.device.type, torch.bfloat16):
            loss(*batches.draw(bucket)).backward()
        log(event="compiled", bucket=bucket)
    lm.zero_grad(set_to_none=True)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--audio", type=Path, required=True, help="folder that training.flite fills"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="waited for")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=800, help="counted from the tokenizer on")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--positions", type=int, default=POSITIONS_PER_STEP)
    parser.add_argument("--hours", type=float, default=340, help="audio kept on the device")
    parser.add_argument("--hours-first", type=float, default=2, help="audio to start with")
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--lr", type=float, default=PEAK_LR, help="at its peak")
    parser.add_argument("--start", type=Path, help="lm.pt of an earlier run to go on from")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
