"""Damage for the ear's training windows, on the device and a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
N_NOISES = 3


@dataclass(frozen=True, kw_only=True)
class Damage:
    """How hard the windows are treated.

    Args:
        share: Rows that are damaged at all, 0 to 1.
        min_snr_db: The worst signal-to-noise ratio; the best is 40 dB.
    """

    share: float
    min_snr_db: float


def damage(audio: Tensor, content: Tensor, amount: Damage, generator: torch.Generator) -> Tensor:
    """Damage a share of the rows: reverberation, low-pass, noise, clipping, gain.

    Args:
        audio: Shape (batch, n_samples), float32 in [-1, 1], zero after the content.
        content: Samples of content per row, shape (batch,); nothing is added after it.
        amount: How hard.
        generator: On the audio's device.

    Returns:
        The same shape, zero after the content.
    """
    draw = _Draw(len(audio), audio.device, generator)
    inside = torch.arange(audio.shape[1], device=audio.device) < content[:, None]
    chosen = draw.chance(amount.share)
    out = _filtered(audio, draw)
    out = out + _noise(out, inside, amount.min_snr_db, draw) * draw.chance(0.8)[:, None]
    out = _clipped(out, draw)
    out = out * 10 ** (draw.between(-20.0, 6.0) / 20)[:, None]
    return torch.where(chosen[:, None] & inside, out.clamp(-1, 1), audio)


class _Draw:
    """Random numbers per row."""

    def __init__(self, batch: int, device: torch.device, generator: torch.Generator) -> None:
        self.batch, self.device, self.generator = batch, device, generator

    def between(self, low: float, high: float) -> Tensor:
        """Draw uniformly, shape (batch,)."""
        u = torch.rand(self.batch, device=self.device, generator=self.generator)
        return low + (high - low) * u

    def chance(self, probability: float) -> Tensor:
        """Draw booleans, shape (batch,)."""
        return self.between(0.0, 1.0) < probability

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        return torch.randn(*shape, device=self.device, generator=self.generator)

    def rows(self) -> Tensor:
        """Draw other rows of the batch, shape (batch,)."""
        return torch.randint(
            self.batch, (self.batch,), device=self.device, generator=self.generator
        )


def _filtered(audio: Tensor, draw: _Draw) -> Tensor:
    """Low-pass a quarter of the rows at 2.5-7.5 kHz and reverberate a sixth."""
    n = audio.shape[1] + SAMPLE_RATE_HZ // 4
    spectrum = torch.fft.rfft(audio, n=n)
    frequency = torch.linspace(0, SAMPLE_RATE_HZ / 2, spectrum.shape[1], device=audio.device)
    cutoff = torch.where(draw.chance(0.25), draw.between(2500.0, 7500.0), 1e6)
    spectrum = spectrum * torch.rsqrt(1 + (frequency / cutoff[:, None]) ** 16)
    response = torch.fft.rfft(_room(draw, audio.device), n=n)
    spectrum = torch.where(draw.chance(1 / 6)[:, None], spectrum * response, spectrum)
    return torch.fft.irfft(spectrum, n=n)[:, : audio.shape[1]]


def _room(draw: _Draw, device: torch.device) -> Tensor:
    """Make mild room responses: a direct path and a decaying tail of RT60 0.1-0.4 s."""
    n = SAMPLE_RATE_HZ // 4
    time_s = torch.arange(n, device=device) / SAMPLE_RATE_HZ
    decay = torch.exp(-6.9 * time_s / draw.between(0.1, 0.4)[:, None])
    tail = draw.normal(draw.batch, n) * decay
    tail = tail / tail.square().sum(1, keepdim=True).sqrt()
    response = tail * draw.between(0.1, 0.6)[:, None]
    response[:, 0] += 1.0
    return response


def _noise(audio: Tensor, inside: Tensor, min_snr_db: float, draw: _Draw) -> Tensor:
    """Make white noise, pink noise or babble of the other rows, at a random SNR."""
    white = draw.normal(*audio.shape)
    spectrum = torch.fft.rfft(white)
    bins = torch.arange(spectrum.shape[1], device=audio.device).clamp(min=8)
    pink = torch.fft.irfft(spectrum * bins.rsqrt(), n=audio.shape[1])
    shift = audio.shape[1] // 7
    babble = sum(audio[draw.rows()].roll(shift * k, dims=1) for k in range(1, 5))
    kind = (draw.between(0, N_NOISES)).long().clamp(max=N_NOISES - 1)[:, None]
    noise = torch.where(kind == 0, white, torch.where(kind == 1, pink, babble)) * inside
    count = inside.sum(1).clamp(min=1)
    speech_power = audio.square().sum(1) / count
    noise_power = noise.square().sum(1) / count
    snr_db = draw.between(min_snr_db, 40.0)
    # Windows without speech get noise of an ordinary level.
    wanted = torch.where(speech_power > 1e-9, speech_power, 1e-3) * 10 ** (-snr_db / 10)
    return noise * (wanted / noise_power.clamp(min=1e-9)).sqrt()[:, None]


def _clipped(audio: Tensor, draw: _Draw) -> Tensor:
    """Clip a sixth of the rows at 30-100 % of their peak."""
    peak = audio.abs().amax(1)
    limit = torch.where(draw.chance(1 / 6), peak * draw.between(0.3, 1.0), peak)[:, None]
    return audio.clamp(-limit, limit)
