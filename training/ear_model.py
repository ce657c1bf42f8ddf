"""The ear while it is trained: openai-whisper's own modules with a compact vocabulary."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from whisper.audio import HOP_LENGTH, N_FFT, mel_filters
from whisper.model import AudioEncoder, ModelDimensions, Whisper

from training.ear_text import N_CHARACTERS, N_VOCABULARY

CONSTANT_CHANNEL = 0


@dataclass(frozen=True, kw_only=True)
class EarShape:
    """The size of the ear; 6.9 M parameters by default, 14 MB in fp16."""

    width: int = 256
    n_heads: int = 4
    n_encoder_layers: int = 5
    n_decoder_layers: int = 2
    n_text_ctx: int = 384

    def dims(self, n_vocab: int = N_VOCABULARY) -> ModelDimensions:
        """Give Whisper's ten integers."""
        return ModelDimensions(
            n_mels=80,
            n_audio_ctx=1500,
            n_audio_state=self.width,
            n_audio_head=self.n_heads,
            n_audio_layer=self.n_encoder_layers,
            n_vocab=n_vocab,
            n_text_ctx=self.n_text_ctx,
            n_text_state=self.width,
            n_text_head=self.n_heads,
            n_text_layer=self.n_decoder_layers,
        )

    def as_dict(self) -> dict[str, int]:
        """Give the fields for a snapshot."""
        return asdict(self)


class EarNet(nn.Module):
    """Whisper with ``n_rows`` vocabulary rows and a character CTC head on its encoder.

    The final layer norm's channel 0 is held at the constant 1, so that a row's weight in that
    channel is its bias. Rows that are not in use are rebuilt with a large negative bias and can
    never win, whatever the audio; see ``evaluation.asr.embedded``.
    """

    def __init__(self, shape: EarShape, n_rows: int) -> None:
        super().__init__()
        self.shape = shape
        self.whisper = Whisper(shape.dims(n_rows))
        self.ctc = nn.Linear(shape.width, N_CHARACTERS)
        decoder = self.whisper.decoder
        nn.init.normal_(decoder.token_embedding.weight, std=0.03)
        nn.init.normal_(decoder.positional_embedding, std=0.01)
        with torch.no_grad():
            decoder.ln.weight[CONSTANT_CHANNEL] = 0.0
            decoder.ln.bias[CONSTANT_CHANNEL] = 1.0
        for parameter in (decoder.ln.weight, decoder.ln.bias):
            parameter.register_hook(_freeze_constant_channel)

    def encode(self, mel: Tensor) -> Tensor:
        """Map log-mel frames (batch, 80, n) to (batch, n / 2, width), n <= 3000."""
        encoder = self.whisper.encoder
        return encoder.ln_post(block_outputs(encoder, mel)[-1])

    def forward(self, mel: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Score what comes next, from the decoder and per frame.

        Args:
            mel: Shape (batch, 80, n_frames), as ``log_mel`` gives it.
            rows: Shape (batch, n), vocabulary rows that start with sot and no_timestamps.

        Returns:
            Logits (batch, n, n_rows) and CTC logits (batch, n_frames / 2, 28 + blank).
        """
        features = self.encode(mel)
        return self.whisper.decoder(rows, features), self.ctc(features)

    @torch.no_grad()
    def transcribe(self, mel: Tensor, start: tuple[int, int], eot: int, limit: int) -> Tensor:
        """Decode greedily; returns rows (batch, <= limit), everything after eot is eot."""
        features = self.encode(mel)
        rows = torch.tensor([start], device=mel.device).repeat(len(mel), 1)
        done = torch.zeros(len(mel), dtype=torch.bool, device=mel.device)
        for _ in range(limit):
            best = self.whisper.decoder(rows, features)[:, -1].argmax(-1)
            best = torch.where(done, eot, best)
            rows = torch.cat([rows, best[:, None]], dim=1)
            done |= best == eot
            if done.all():
                break
        return rows[:, len(start) :]


def _freeze_constant_channel(gradient: Tensor) -> Tensor:
    gradient = gradient.clone()
    gradient[CONSTANT_CHANNEL] = 0.0
    return gradient


def block_outputs(encoder: AudioEncoder, mel: Tensor) -> list[Tensor]:
    """Return what each block gives, (batch, n / 2, width); unlike Whisper's own, of any length."""
    x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).permute(0, 2, 1).float()
    x = x + encoder.positional_embedding[: x.shape[1]]
    outputs = []
    for block in encoder.blocks:
        x = block(x)
        outputs.append(x)
    return outputs


def scaled_log(mel: Tensor) -> Tensor:
    """Return Whisper's scaling of mel power (batch, 80, n), by the maximum of each row."""
    mel = mel.clamp(min=1e-10).log10()
    return (torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def log_mel(audio: Tensor, content: Tensor, transcribe_padding: Tensor) -> Tensor:
    """Whisper's log-mel of each row of a batch of zero-padded windows.

    ``whisper.audio.log_mel_spectrogram`` normalises by the maximum over its whole input, so a
    batch needs the maximum row by row. What follows the content is either the log-mel of silence
    (``whisper.decode`` on a padded array) or zeros (``whisper.transcribe`` pads the spectrogram).

    Args:
        audio: Shape (batch, n_samples), float32, 16 kHz, zero after the content.
        content: Samples of content per row, shape (batch,).
        transcribe_padding: Shape (batch,), bool: pad as ``transcribe`` does.

    Returns:
        Shape (batch, 80, n_samples / 160), float32.
    """
    window = torch.hann_window(N_FFT, device=audio.device)
    spectrum = torch.stft(audio, N_FFT, HOP_LENGTH, window=window, return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    mel = scaled_log(mel_filters(audio.device, 80) @ power)
    frame = torch.arange(mel.shape[-1], device=audio.device)
    blank = (frame >= (content // HOP_LENGTH)[:, None]) & transcribe_padding[:, None]
    return mel.masked_fill(blank[:, None], 0.0)
