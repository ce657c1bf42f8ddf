"""The decoder half of the embedded voice's codec: speech tokens in, 16 kHz audio out.

Tokens are finite scalar quantization codes (Mentzer et al. 2023) at 25 Hz; the decoder is a
ConvNeXt stack with an inverse-STFT head in the manner of Vocos (Siuzdak 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor, nn

SAMPLE_RATE_HZ = 16_000
TOKEN_RATE_HZ = 25
SAMPLES_PER_TOKEN = SAMPLE_RATE_HZ // TOKEN_RATE_HZ
FSQ_LEVELS = (8, 8, 8, 6, 5)
N_CODES = prod(FSQ_LEVELS)


@dataclass(frozen=True, kw_only=True)
class CodecDecoderConfig:
    """The shape of the codec decoder; ``hop`` and ``n_fft`` in samples."""

    width: int = 320
    expansion: int = 3
    n_token_blocks: int = 3
    n_frame_blocks: int = 7
    token_kernel: int = 3
    frame_kernel: int = 7
    hop: int = 160
    n_fft: int = 640

    @property
    def upsampling(self) -> int:
        """Frames per token."""
        return SAMPLES_PER_TOKEN // self.hop

    @property
    def context_tokens(self) -> int:
        """Tokens on each side that a token's audio depends on."""
        frames = self.n_frame_blocks * (self.frame_kernel // 2) + self.n_fft // (2 * self.hop)
        tokens = self.n_token_blocks * (self.token_kernel // 2) + self.token_kernel // 2
        return tokens + -(-frames // self.upsampling)


def code_digits(codes: Tensor) -> Tensor:
    """Split codes (...) into FSQ digits (..., 5), digit d in [0, FSQ_LEVELS[d])."""
    digits = []
    for level in FSQ_LEVELS:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(digits, dim=-1)


def digits_code(digits: Tensor) -> Tensor:
    """Join FSQ digits (..., 5) into codes (...); the inverse of ``code_digits``."""
    place, code = 1, torch.zeros_like(digits[..., 0])
    for i, level in enumerate(FSQ_LEVELS):
        code = code + digits[..., i] * place
        place *= level
    return code


def digit_values(digits: Tensor) -> Tensor:
    """Place digits evenly in [-1, 1]."""
    return digits.float() / fsq_steps(digits.device) * 2 - 1


@cache
def fsq_steps(device: torch.device) -> Tensor:
    """Return levels less one, (5,), float32; kept, as a graph capture cannot copy from the host."""
    with torch.inference_mode(False):  # what speech leaves behind must serve training, too
        return torch.tensor(FSQ_LEVELS, dtype=torch.float32, device=device) - 1


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer norm, two pointwise layers, residual (Liu et al. 2022)."""

    def __init__(self, width: int, expansion: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up = nn.Linear(width, width * expansion)
        self.down = nn.Linear(width * expansion, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (batch, width, n) to the same shape; ``mask`` (batch, 1, n) zeroes padding."""
        h: Tensor = self.depthwise(x if mask is None else x * mask).transpose(1, 2)
        h = self.down(nn.functional.gelu(self.up(self.norm(h)), approximate="tanh"))
        return x + (h * self.scale).transpose(1, 2)


class CodecDecoder(nn.Module):
    """Speech tokens to a waveform."""

    def __init__(self, config: CodecDecoderConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or CodecDecoderConfig()
        self.embed = nn.Conv1d(
            len(FSQ_LEVELS), c.width, c.token_kernel, padding=c.token_kernel // 2
        )
        self.token_blocks = nn.ModuleList(
            ConvNeXtBlock(c.width, c.expansion, c.token_kernel) for _ in range(c.n_token_blocks)
        )
        self.upsample = nn.Linear(c.width, c.width * c.upsampling)
        self.frame_blocks = nn.ModuleList(
            ConvNeXtBlock(c.width, c.expansion, c.frame_kernel) for _ in range(c.n_frame_blocks)
        )
        self.norm = nn.LayerNorm(c.width, eps=1e-6)
        self.head = nn.Linear(c.width, c.n_fft + 2)
        self.register_buffer("window", torch.hann_window(c.n_fft), persistent=False)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Render FSQ values.

        Args:
            values: Shape (batch, n_tokens, 5), float in [-1, 1].
            lengths: Tokens in use per row, shape (batch,), or None for all; padding does not
                reach the audio of a row.

        Returns:
            Waveform, shape (batch, n_tokens * 640), float32.
        """
        c = self.config
        token_mask, frame_mask = self._masks(values, lengths)
        x = values.to(self.embed.weight.dtype).transpose(1, 2)
        x = self.embed(x if token_mask is None else x * token_mask)
        for block in self.token_blocks:
            x = block(x, token_mask)
        batch, _, n = x.shape
        x = self.upsample(x.transpose(1, 2)).reshape(batch, n * c.upsampling, c.width)
        x = x.transpose(1, 2)
        for block in self.frame_blocks:
            x = block(x, frame_mask)
        x = x.transpose(1, 2).to(self.head.weight.dtype)  # the head may be kept in float32
        x = self.head(self.norm(x)).float().transpose(1, 2)
        if frame_mask is not None:
            x = torch.where(frame_mask.bool(), x, x.new_tensor(-20.0))
        log_magnitude, phase = x.chunk(2, dim=1)
        magnitude = log_magnitude.clamp(max=6.0).exp()
        spectrum = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        return overlap_add(spectrum, self.window, c.hop)  # type: ignore[arg-type]

    def _masks(self, values: Tensor, lengths: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if lengths is None:
            return None, None
        steps = torch.arange(values.shape[1], device=values.device)
        token = (steps < lengths[:, None])[:, None].to(self.embed.weight.dtype)
        return token, token.repeat_interleave(self.config.upsampling, dim=-1)


def overlap_add(spectrum: Tensor, window: Tensor, hop: int) -> Tensor:
    """Inverse STFT with "same" padding: (batch, n_fft / 2 + 1, n) to (batch, n * hop), float32.

    Unlike ``torch.istft`` it gives exactly ``hop`` samples a frame. The window is applied twice in
    effect (analysis in training, synthesis here), so it divides by the squared envelope.
    """
    n_fft = window.shape[0]
    frames = torch.fft.irfft(spectrum, n=n_fft, dim=1) * window[:, None]
    n, pad = frames.shape[-1], (n_fft - hop) // 2
    size = (1, (n - 1) * hop + n_fft)
    fold = nn.functional.fold
    audio = fold(frames, size, (1, n_fft), stride=(1, hop))[:, 0, 0]
    squared = window.square()[None, :, None].expand(1, n_fft, n)
    envelope = fold(squared, size, (1, n_fft), stride=(1, hop))[:, 0, 0]
    return (audio / envelope.clamp(min=1e-8))[:, pad : pad + n * hop]
