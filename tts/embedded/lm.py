"""The embedded voice's language model: characters in, one speech token every 40 ms out.

A sequence is ``text characters | BOS | speech tokens | EOS``. Dropping the condition replaces the
characters by as many NULLs, so guidance is a plain second row of the same length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts.decoder import Decoder, DecoderConfig
from tts.embedded.codec import FSQ_LEVELS, N_CODES, code_digits

N_CHARACTERS = 128
NULL = 0
EOS, BOS = N_CODES, N_CODES + 1
# Padded to a multiple of 64: quantized and tensor-core kernels want aligned output rows.
N_SPEECH = -(-(N_CODES + 2) // 64) * 64

LM_CONFIG = DecoderConfig(
    n_layers=8, width=256, n_heads=4, n_kv_heads=4, ffn_width=704, qk_norm=True
)


class SpeechLM(nn.Module):
    """Llama-style decoder over characters and speech tokens.

    The output head is the speech table (tied). A speech token's embedding is its row plus one
    learned vector per FSQ digit, so rare codes share what their digits mean.
    """

    digits: Tensor
    has_digits: Tensor
    is_padding: Tensor

    def __init__(self, config: DecoderConfig = LM_CONFIG) -> None:
        super().__init__()
        self.text_embedding = nn.Embedding(N_CHARACTERS, config.width)
        self.digit_embedding = nn.Embedding(sum(FSQ_LEVELS), config.width)
        self.decoder = Decoder(config)
        self.head = nn.Linear(config.width, N_SPEECH, bias=False)
        digits = torch.zeros(N_SPEECH, len(FSQ_LEVELS), dtype=torch.long)
        offsets = torch.tensor([0, *FSQ_LEVELS[:-1]]).cumsum(0)
        digits[:N_CODES] = code_digits(torch.arange(N_CODES)) + offsets
        self.register_buffer("digits", digits, persistent=False)
        has_digits = torch.arange(N_SPEECH) < N_CODES
        self.register_buffer("has_digits", has_digits[:, None].float(), persistent=False)
        self.register_buffer("is_padding", torch.arange(N_SPEECH) > EOS, persistent=False)

    def embed_text(self, characters: Tensor) -> Tensor:
        """Embed character ids (batch, n) as (batch, n, width)."""
        return self.text_embedding(characters)  # type: ignore[no-any-return]

    def embed_speech(self, tokens: Tensor) -> Tensor:
        """Embed speech tokens (batch, n), BOS and EOS included, as (batch, n, width)."""
        row = F.embedding(tokens, self.head.weight)
        digit_sum: Tensor = self.digit_embedding(self.digits[tokens]).sum(-2)
        return row + digit_sum * self.has_digits[tokens].to(row.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the next speech token: (..., width) to (..., N_SPEECH), float32.

        Ids above EOS (BOS and padding) are never valid outputs and score minus infinity.
        """
        scores: Tensor = self.head(hidden).float()
        return scores.masked_fill_(self.is_padding, float("-inf"))
