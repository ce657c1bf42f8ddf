"""The training half of the codec: encoder, quantizer, losses' features and discriminators."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from whisper.audio import HOP_LENGTH, N_FFT, mel_filters
from whisper.model import Whisper

from training.ear_model import block_outputs, scaled_log
from tts.embedded.codec import (
    FSQ_LEVELS,
    SAMPLE_RATE_HZ,
    ConvNeXtBlock,
    digit_values,
    digits_code,
    fsq_steps,
)

MEL_HOP = 160


class LogMel(nn.Module):
    """Log-mel spectrogram with "same" framing: (batch, n) to (batch, mels, n // hop)."""

    window: Tensor
    filters: Tensor

    def __init__(self, n_fft: int, hop: int, n_mels: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        filters = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, 0.0, SAMPLE_RATE_HZ / 2, n_mels, SAMPLE_RATE_HZ, norm="slaney"
        )
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Return natural logarithms, floored at 1e-5."""
        pad = (self.n_fft - self.hop) // 2
        padded = F.pad(audio.float(), (pad, self.n_fft - self.hop - pad))
        spectrum = torch.stft(
            padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True
        )
        # sqrt needs a floor: its gradient at silence is infinite.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
        with torch.autocast(audio.device.type, enabled=False):
            return (self.filters @ magnitude).clamp(min=1e-5).log()


class Tokenizer(nn.Module):
    """Audio to speech tokens: log-mel, ConvNeXt at 100 Hz then 25 Hz, FSQ."""

    def __init__(self, width: int = 256, expansion: int = 3) -> None:
        super().__init__()
        self.mel = LogMel(1024, MEL_HOP, 80)
        self.embed = nn.Conv1d(80, width, 7, padding=3)
        self.frame_blocks = nn.ModuleList(ConvNeXtBlock(width, expansion, 7) for _ in range(4))
        self.downsample = nn.Conv1d(width, width, 4, stride=4)
        self.token_blocks = nn.ModuleList(ConvNeXtBlock(width, expansion, 5) for _ in range(4))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, len(FSQ_LEVELS))

    def latents(self, audio: Tensor) -> Tensor:
        """Map (batch, n_tokens * 640) to unquantized values (batch, n_tokens, 5) in (-1, 1)."""
        x = self.embed((self.mel(audio) + 5.0) / 2.5)
        for block in self.frame_blocks:
            x = block(x)
        x = self.downsample(x)
        for block in self.token_blocks:
            x = block(x)
        return torch.tanh(self.out(self.norm(x.transpose(1, 2))).float())

    def forward(self, audio: Tensor) -> Tensor:
        """Return quantized values (batch, n_tokens, 5), gradients straight through."""
        latents = self.latents(audio)
        return latents + (digit_values(quantize(latents)) - latents).detach()

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Return codes (batch, n_tokens), int64."""
        return digits_code(quantize(self.latents(audio)))


def quantize(latents: Tensor) -> Tensor:
    """Round latents (..., 5) in (-1, 1) to FSQ digits, int64."""
    return ((latents + 1) / 2 * fsq_steps(latents.device)).round().long()


class MelLoss(nn.Module):
    """Mean absolute log-mel difference over several resolutions (Kumar et al. 2023, DAC)."""

    SCALES = ((128, 10), (256, 20), (512, 40), (1024, 80), (2048, 120))

    def __init__(self) -> None:
        super().__init__()
        self.mels = nn.ModuleList(LogMel(n_fft, n_fft // 4, n) for n_fft, n in self.SCALES)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return a scalar."""
        return torch.stack([F.l1_loss(mel(fake), mel(real)) for mel in self.mels]).mean()


class EarLoss(nn.Module):
    """How differently a recogniser hears two sounds: relative gap of its encoder's features.

    Mel losses weigh a vowel's level like a consonant's burst; what a recogniser tells apart is
    what words are made of.

    Args:
        ear: A trained Whisper; kept frozen.
    """

    filters: Tensor
    window: Tensor

    def __init__(self, ear: Whisper) -> None:
        super().__init__()
        self.encoder = ear.encoder.float().requires_grad_(False)
        self.register_buffer("filters", mel_filters("cpu", 80), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return a scalar: the mean over the encoder's blocks."""
        with torch.no_grad():
            wanted = self._features(real)
        gaps = [
            (made - heard).abs().mean() / heard.abs().mean()
            for made, heard in zip(self._features(fake), wanted, strict=True)
        ]
        return torch.stack(gaps).mean()

    def _features(self, audio: Tensor) -> list[Tensor]:
        return [x.float() for x in block_outputs(self.encoder, self._log_mel(audio))]

    def _log_mel(self, audio: Tensor) -> Tensor:
        """Whisper's spectrogram, but for ``abs``, which has no gradient at silence."""
        spectrum = torch.stft(
            audio.float(), N_FFT, HOP_LENGTH, window=self.window, return_complex=True
        )[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        with torch.autocast(audio.device.type, enabled=False):
            return scaled_log(self.filters @ power)


class PeriodDiscriminator(nn.Module):
    """Looks at every p-th sample (Kong et al. 2020, HiFi-GAN), with fewer channels."""

    def __init__(self, period: int, channels: tuple[int, ...] = (32, 64, 128, 256, 256)) -> None:
        super().__init__()
        self.period = period
        sizes = (1, *channels)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3 if i < 4 else 1, 1), (2, 0)))
            for i, (a, b) in enumerate(pairwise(sizes))
        )
        self.last = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the score map and the features of every layer."""
        audio = F.pad(audio, (0, -audio.shape[-1] % self.period), "reflect")
        x = audio.view(audio.shape[0], 1, -1, self.period)
        return _run(self.layers, self.last, x)


class SpectrumDiscriminator(nn.Module):
    """Looks at a complex spectrogram (Défossez et al. 2022, EnCodec), as two channels."""

    window: Tensor

    def __init__(self, n_fft: int, channels: int = 32) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        shapes = [
            (2, (3, 9), (1, 2)),
            *[(channels, (3, 9), (1, 2))] * 3,
            (channels, (3, 3), (1, 1)),
        ]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(n, channels, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for n, kernel, stride in shapes
        )
        self.last = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the score map and the features of every layer."""
        spectrum = torch.stft(
            audio.float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True
        )
        # Compressed magnitudes: otherwise the loudest harmonics hide all else.
        magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
        x = torch.view_as_real(spectrum * magnitude.pow(-0.7))
        return _run(self.layers, self.last, x.permute(0, 3, 2, 1))


def _run(layers: nn.ModuleList, last: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), 0.1)
        features.append(x)
    return last(x), features


class Discriminators(nn.Module):
    """Five periods and three spectral resolutions."""

    def __init__(self) -> None:
        super().__init__()
        periods = [PeriodDiscriminator(p) for p in (2, 3, 5, 7, 11)]
        spectra = [SpectrumDiscriminator(n) for n in (1024, 512, 256)]
        self.members = nn.ModuleList([*periods, *spectra])

    def forward(self, audio: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """Score (batch, n) with every member."""
        return [member(audio) for member in self.members]
