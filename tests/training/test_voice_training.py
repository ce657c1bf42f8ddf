"""The voice's training: what the ear's loss hears, and going on from an earlier run."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluation.asr.embedded import load_ear
from training.codec import CodecTrainer, adversarial_share
from training.codec_model import EarLoss
from training.run import SPEAKING, jobs, main, wait
from tts.embedded.codec import CodecDecoderConfig, fsq_steps

SMALL = CodecDecoderConfig(width=32, n_token_blocks=1, n_frame_blocks=1)


@pytest.fixture(scope="module")
def ear_loss() -> EarLoss:
    return EarLoss(load_ear())


@pytest.fixture
def sound() -> Tensor:
    """A second of a gliding buzz, and of the same without its lowest tone, shape (2, 16000)."""
    t = torch.arange(16_000) / 16_000
    tones = [torch.sin(2 * torch.pi * n * (120 * t + 20 * t.square())) / n for n in range(1, 20)]
    return torch.stack((sum(tones), sum(tones[1:]))) * 0.1  # type: ignore[arg-type]


def test_the_ear_hears_no_difference_between_a_sound_and_itself(
    ear_loss: EarLoss, sound: Tensor
) -> None:
    assert ear_loss(sound, sound).item() == 0.0


def test_the_ear_hears_more_noise_as_a_greater_difference(ear_loss: EarLoss, sound: Tensor) -> None:
    noise = torch.randn(sound.shape, generator=torch.Generator().manual_seed(0))
    gaps = [ear_loss(sound, sound + level * noise).item() for level in (0.001, 0.01, 0.1)]
    assert gaps == sorted(gaps)
    assert gaps[0] > 0


def test_the_ear_teaches_even_from_silence(ear_loss: EarLoss, sound: Tensor) -> None:
    made = torch.zeros_like(sound).requires_grad_()
    ear_loss(sound, made).backward()
    assert made.grad is not None
    assert bool(made.grad.isfinite().all())


def test_a_codec_goes_on_from_what_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = CodecTrainer(torch.device("cpu"), SMALL, 1)
    torch.save(first.snapshot(), tmp_path / "codec.pt")
    second = CodecTrainer(torch.device("cpu"), SMALL, 1, start=tmp_path / "codec.pt")
    for part in ("tokenizer", "decoder"):
        wanted = first.snapshot()[part]
        for name, value in second.snapshot()[part].items():  # type: ignore[attr-defined]
            assert torch.equal(value, wanted[name]), (part, name)  # type: ignore[index]


def test_a_few_steps_lower_what_the_spectrum_and_the_ear_find(
    tmp_path: Path, sound: Tensor
) -> None:
    torch.manual_seed(0)
    torch.save(CodecTrainer(torch.device("cpu"), SMALL, 1).snapshot(), tmp_path / "codec.pt")
    trainer = CodecTrainer(torch.device("cpu"), SMALL, 2, start=tmp_path / "codec.pt")
    trainer.crops.copy_(sound.repeat(1, 2)[:, : trainer.crops.shape[1]])
    trainer.lr.fill_(1e-3)
    found = []
    for _ in range(12):
        trainer.step()
        found.append({name: value.item() for name, value in trainer.losses.items()})
    assert set(found[0]) == {"mel", "ear"}
    assert found[-1]["mel"] < found[0]["mel"]
    assert found[-1]["ear"] < found[0]["ear"]


def test_the_first_codec_needs_no_ear(sound: Tensor) -> None:
    trainer = CodecTrainer(torch.device("cpu"), SMALL, 2)
    trainer.crops.copy_(sound.repeat(1, 2)[:, : trainer.crops.shape[1]])
    trainer.step()
    assert set(trainer.losses) == {"mel"}


def test_new_discriminators_learn_before_they_are_believed() -> None:
    shares = [adversarial_share(step) for step in range(0, 1000, 50)]
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_process_that_has_spoken_can_still_train() -> None:
    fsq_steps.cache_clear()
    with torch.inference_mode():
        fsq_steps(torch.device("cpu"))
    made = torch.zeros(1, 4, 5, requires_grad=True)
    (made * fsq_steps(torch.device("cpu"))).sum().backward()
    assert made.grad is not None


def test_a_run_that_goes_on_names_the_earlier_weights_and_learns_slower(tmp_path: Path) -> None:
    args = argparse.Namespace(
        seconds=1000, only=["codec", "lm"], out=tmp_path, start=None, codec_seconds=None,
        tokenizer_seconds=None, hours=None,
    )  # fmt: skip
    fresh = {job.name: job.arguments for job in jobs(args, 2)}
    args.start, args.codec_seconds, args.tokenizer_seconds = tmp_path / "run", 300, 100
    again = {job.name: job.arguments for job in jobs(args, 2)}
    assert "--start" not in fresh["codec"] + fresh["lm"]
    assert str(tmp_path / "run" / "codec.pt") in again["codec"]
    assert str(tmp_path / "run" / "lm.pt") in again["lm"]
    assert _after(again["lm"], "--lr") < _after(fresh["lm"], "--lr")
    assert _after(again["codec"], "--seconds") == 300
    assert _after(again["lm"], "--seconds") > _after(fresh["lm"], "--seconds")


def _process(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program])


def test_speaking_ends_with_the_training(tmp_path: Path) -> None:
    speaking = _process("import time; time.sleep(20)")
    try:
        wait({SPEAKING: speaking, "lm": _process("")}, tmp_path)
        assert speaking.poll() == -signal.SIGTERM
    finally:
        speaking.kill()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--start", "."], "another folder"),
        (["--start", "elsewhere"], "codec.pt is missing"),
        (["--start", "elsewhere", "--only", "ear"], "afresh"),
        (["--tokenizer-seconds", "780"], "less than the codec's"),
        (["--codec-seconds", "0"], "must be positive"),
        (["--hours", "-1"], "must be positive"),
    ],
)
def test_arguments_that_contradict_one_another_are_refused(
    given: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", "--out", ".", *given])
    with pytest.raises(SystemExit) as found:
        main()
    assert found.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [SPEAKING, "lm"])
def test_what_fails_is_named(tmp_path: Path, name: str) -> None:
    running = {
        name: _process("raise SystemExit(3)"),
        "codec": _process("import time; time.sleep(3)"),
    }
    with pytest.raises(SystemExit, match=name):
        wait(running, tmp_path)


def _after(arguments: tuple[str, ...], name: str) -> float:
    return float(arguments[arguments.index(name) + 1])
