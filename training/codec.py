"""Train the codec: first tokenizer and decoder together, then the decoder on frozen tokens.

    python -m training.codec --audio DIR --out DIR --seconds 1080 --tokenizer-seconds 270

The tokenizer is frozen early so that the language model can train beside the decoder's long
adversarial phase. ``--frozen tokenizer.pt`` trains only a decoder, such as one of another shape;
``--start codec.pt`` goes on from an earlier run's tokenizer and decoder, with new discriminators.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.asr.embedded import load_ear
from training.audio_store import AudioStore
from training.codec_model import Discriminators, EarLoss, MelLoss, Tokenizer
from training.flite import TEACHER
from training.schedule import Average, Clock, Log, cosine, save
from tts.embedded.codec import SAMPLES_PER_TOKEN, CodecDecoder, CodecDecoderConfig

CROP_TOKENS = 28
MEL_WEIGHT, FEATURE_WEIGHT, EAR_WEIGHT = 45.0, 2.0, 50.0
PEAK_LR, START_LR, FLOOR_LR = 5e-4, 2e-4, 1e-5
ADVERSARIAL_FROM_STEP = 4000
# The ear is taught after the first codec, so only a run that goes on has one to listen with.
# New discriminators learn for so many steps before a trained decoder listens to them, then
# are believed more and more over as many.
DISCRIMINATORS_ALONE = 300


class CodecTrainer:
    """The networks, their optimizers and one training step, captured as a CUDA graph.

    Args:
        device: Where to train.
        config: The decoder's shape.
        batch: Crops a step.
        tokenizer: A trained tokenizer to keep frozen, or None to train one.
        start: A saved codec to go on from, see ``snapshot``, listening with the ear that ships.
    """

    def __init__(
        self,
        device: torch.device,
        config: CodecDecoderConfig,
        batch: int,
        tokenizer: Tokenizer | None = None,
        start: Path | None = None,
    ) -> None:
        self.device, self.batch = device, batch
        self.tokenizer = (tokenizer or Tokenizer()).to(device)
        self.decoder = CodecDecoder(config).to(device)
        if start is not None:
            self._go_on(torch.load(start, map_location=device))
        self.discriminators = Discriminators().to(device)
        self.mel_loss = MelLoss().to(device)
        self.ear_loss = EarLoss(load_ear()).to(device) if start is not None else None
        self.crops = torch.zeros(batch, CROP_TOKENS * SAMPLES_PER_TOKEN, device=device)
        self.lr = torch.tensor(0.0, device=device)
        self.losses: dict[str, Tensor] = {}
        self.adversarial = False
        self.adversarial_share = torch.tensor(1.0, device=device)
        self.average = Average(nn.ModuleList([self.tokenizer, self.decoder]), 0.999)
        self.d_optimizer = self._optimizer(self.discriminators)
        self.set_frozen(tokenizer is not None)

    def _go_on(self, saved: dict[str, dict[str, Tensor]]) -> None:
        for module, name in ((self.tokenizer, "tokenizer"), (self.decoder, "decoder")):
            module.load_state_dict({k: v.float() for k, v in saved[name].items()})

    def set_frozen(self, frozen: bool) -> None:
        """Choose whether the tokenizer still learns; needs a new graph."""
        self.frozen = frozen
        if frozen:
            averaged = self.average.state()
            for name, parameter in self.tokenizer.named_parameters():
                parameter.data.copy_(averaged[f"0.{name}"])
                parameter.requires_grad_(False)
        learning = [self.decoder] if frozen else [self.tokenizer, self.decoder]
        self.parameters = [p for module in learning for p in module.parameters()]
        self.g_optimizer = self._optimizer(nn.ModuleList(learning))

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        cuda = self.device.type == "cuda"
        return torch.optim.AdamW(
            module.parameters(), lr=self.lr, betas=(0.8, 0.99), weight_decay=0.01,
            fused=cuda, capturable=cuda,
        )  # fmt: skip

    def step(self) -> None:
        """One step on ``self.crops``: discriminators, then tokenizer and decoder."""
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            values = self._values()
            fake = self.decoder(values)
            if self.adversarial:
                self._discriminate(fake.detach())
            mel = self.mel_loss(self.crops, fake)
            loss = MEL_WEIGHT * mel
            self.losses["mel"] = mel.detach()
            if self.ear_loss is not None:
                heard = self.ear_loss(self.crops, fake)
                loss = loss + EAR_WEIGHT * heard
                self.losses["ear"] = heard.detach()
            if self.adversarial:
                loss = loss + self.adversarial_share * self._fool(fake)
        self.g_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 10.0)
        self.g_optimizer.step()
        self.average.update()

    def _values(self) -> Tensor:
        if not self.frozen:
            return self.tokenizer(self.crops)  # type: ignore[no-any-return]
        with torch.no_grad():
            return self.tokenizer(self.crops)  # type: ignore[no-any-return]

    def _discriminate(self, fake: Tensor) -> None:
        scores = self.discriminators(torch.cat((self.crops, fake)))
        terms = []
        for score, _ in scores:
            real_score, fake_score = score.float().chunk(2)
            terms.append((real_score - 1).square().mean() + fake_score.square().mean())
        loss = torch.stack(terms).sum()
        self.d_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.d_optimizer.step()
        self.losses["discriminator"] = loss.detach()

    def _fool(self, fake: Tensor) -> Tensor:
        adversarial, matching = [], []
        self.discriminators.requires_grad_(False)
        for score, features in self.discriminators(torch.cat((self.crops, fake))):
            adversarial.append((score.float().chunk(2)[1] - 1).square().mean())
            for feature in features:
                real, made = feature.chunk(2)
                gap = (made - real.detach()).abs().mean(dtype=torch.float32)
                scale = real.detach().abs().mean(dtype=torch.float32)
                matching.append(gap / scale / len(features))
        self.discriminators.requires_grad_(True)
        fool, match = torch.stack(adversarial).sum(), torch.stack(matching).sum()
        self.losses |= {"fool": fool.detach(), "match": match.detach()}
        return fool + FEATURE_WEIGHT * match

    def capture(self) -> Callable[[], None]:
        """Return a callable that runs one step, from a CUDA graph where there is a GPU."""
        if self.device.type != "cuda":
            return self.step
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        self.g_optimizer.zero_grad(set_to_none=True)
        self.d_optimizer.zero_grad(set_to_none=True)
        try:
            with torch.cuda.graph(graph):
                self.step()
        except RuntimeError as error:
            # A slow run is worth more than none: the same step, launch by launch.
            print(f"no CUDA graph, going on without: {error}", flush=True)
            return self.step
        return graph.replay

    def snapshot(self) -> dict[str, object]:
        """Return averaged weights and the decoder's shape."""
        state = self.average.state()
        parts: dict[str, dict[str, Tensor]] = {"0": {}, "1": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value.detach().clone().cpu()
        if self.frozen:
            parts["0"] = {k: v.detach().cpu() for k, v in self.tokenizer.state_dict().items()}
        return {
            "tokenizer": parts["0"],
            "decoder": parts["1"],
            "config": asdict(self.decoder.config),
        }


def train(args: argparse.Namespace) -> None:
    """Run both phases."""
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    clock = Clock(args.seconds, args.steps)
    log = Log(args.out / f"{args.name}.jsonl", args.name)
    store = AudioStore(args.audio, device, hours=args.hours, voices=(TEACHER,))
    store.wait(args.hours_first)
    tokenizer = load_tokenizer(args.frozen, device) if args.frozen else None
    config = CodecDecoderConfig(hop=args.hop, n_fft=args.n_fft)
    trainer = CodecTrainer(device, config, args.batch, tokenizer, args.start)
    trainer.adversarial = args.start is not None
    peak = START_LR if args.start else PEAK_LR
    generator = torch.Generator(device).manual_seed(args.seed)
    run, polled, saved = trainer.capture(), time.monotonic(), time.monotonic()
    log(event="start", elapsed_s=clock.elapsed_s, hours=store.used / 57.6e6)
    while clock.progress < 1:
        if clock.step == ADVERSARIAL_FROM_STEP and not trainer.adversarial:
            trainer.adversarial = True
            run = trainer.capture()
        if args.start:
            trainer.adversarial_share.fill_(adversarial_share(clock.step))
        if not trainer.frozen and clock.elapsed_s > args.tokenizer_seconds:
            trainer.set_frozen(True)
            save(args.out / "tokenizer.pt", trainer.snapshot())
            log(event="tokenizer frozen", step=clock.step, elapsed_s=clock.elapsed_s)
            run = trainer.capture()
        trainer.lr.fill_(cosine(clock.progress, peak=peak, floor=FLOOR_LR, warm_up=0.01))
        trainer.crops.copy_(store.crops(args.batch, trainer.crops.shape[1], generator))
        run()
        clock.step += 1
        if clock.step % 200 == 0:
            log(step=clock.step, elapsed_s=clock.elapsed_s, hours=store.used / 57.6e6,
                **trainer.losses)  # fmt: skip
        if time.monotonic() - polled > 5:
            store.poll(most=20)
            polled = time.monotonic()
        if time.monotonic() - saved > 60:
            save(args.out / f"{args.name}.pt", trainer.snapshot())
            saved = time.monotonic()
    save(args.out / f"{args.name}.pt", trainer.snapshot())
    log(event="done", step=clock.step, elapsed_s=clock.elapsed_s)


def adversarial_share(step: int) -> float:
    """Return how much a trained decoder believes new discriminators, in [0, 1]."""
    return min(1.0, max(0.0, step / DISCRIMINATORS_ALONE - 1))


def load_tokenizer(path: Path, device: torch.device) -> Tokenizer:
    """Load a frozen tokenizer, waiting up to 15 minutes for the file to appear.

    Raises:
        TimeoutError: It did not appear.
    """
    for _ in range(900):
        if path.exists():
            tokenizer = Tokenizer().to(device).eval().requires_grad_(False)
            tokenizer.load_state_dict(torch.load(path, map_location=device)["tokenizer"])
            return tokenizer
        time.sleep(1)
    raise TimeoutError(f"{path} did not appear")


def load_resynthesiser(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function that sends audio (batch, n) through a saved codec and back."""
    saved = torch.load(path, map_location=device)
    tokenizer = Tokenizer().to(device).eval()
    tokenizer.load_state_dict(saved["tokenizer"])
    decoder = CodecDecoder(CodecDecoderConfig(**saved["config"])).to(device).eval()
    decoder.load_state_dict(saved["decoder"])

    @torch.no_grad()
    def resynthesise(audio: Tensor) -> Tensor:
        padded = F.pad(audio, (0, -audio.shape[-1] % SAMPLES_PER_TOKEN))
        made: Tensor = decoder(tokenizer(padded))
        return made[..., : audio.shape[-1]]

    return resynthesise


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--audio", type=Path, required=True, help="folder that training.flite fills"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="codec", help="stem of the files written")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=1080)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--tokenizer-seconds", type=float, default=270)
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--frozen", type=Path, help="train only a decoder on this tokenizer")
    origin.add_argument("--start", type=Path, help="codec.pt of an earlier run to go on from")
    parser.add_argument("--hours", type=float, default=40, help="audio kept on the device")
    parser.add_argument("--hours-first", type=float, default=2, help="audio to start with")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hop", type=int, default=160)
    parser.add_argument("--n-fft", type=int, default=640)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
