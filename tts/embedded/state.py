"""What is spoken, what came of it, and the tensors that change from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tts.device import upload
from tts.embedded.lm import EOS
from tts.options import Sampling
from tts.sampling import RowSampling, row_keys


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sentence to speak.

    Args:
        characters: Ids in [1, 128).
        seed: The utterance's seed.
        sentence: Which sentence of the utterance; with the seed it names the random stream.
        cap: The most tokens to draw; 0 makes an idle row.
        sampling: How to draw them; None draws as the voice's options say.
    """

    characters: tuple[int, ...]
    seed: int
    sentence: int
    cap: int
    sampling: Sampling | None = None


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """The tokens of one row, without the end; truncated if the end never came."""

    tokens: tuple[int, ...]
    is_truncated: bool


def cut(tokens: list[int]) -> Spoken:
    """End a row's drawn tokens where it ended."""
    if EOS in tokens:
        return Spoken(tokens=tuple(tokens[: tokens.index(EOS)]), is_truncated=False)
    return Spoken(tokens=tuple(tokens), is_truncated=True)


@dataclass(kw_only=True, eq=False)
class State:
    """All that changes from step to step, in tensors of fixed address.

    ``rows`` counts the sentences, ``lanes`` the decoder's rows: two for a sentence with guidance.
    """

    last: Tensor  # (rows, 1) int64, the token drawn last
    positions: Tensor  # (lanes, 1) int64, where it sits
    step: Tensor  # (rows, 1) int64, how many tokens were drawn
    is_done: Tensor  # (rows, 1) bool
    caps: Tensor  # (rows, 1) int64
    keys: Tensor  # (rows, 2) int64, the random streams
    tokens: Tensor  # (rows, capacity) int64
    sampling: RowSampling

    @classmethod
    def idle(cls, n_rows: int, n_lanes: int, capacity: int, device: torch.device) -> State:
        """Return rows that have ended and nothing to speak."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        return cls(
            last=zeros(n_rows, 1),
            positions=zeros(n_lanes, 1),
            step=zeros(n_rows, 1),
            is_done=torch.ones((n_rows, 1), dtype=torch.bool, device=device),
            caps=zeros(n_rows, 1),
            keys=zeros(n_rows, 2),
            tokens=zeros(n_rows, capacity),
            sampling=RowSampling(n_rows, device),
        )

    def begin(self, slots: Sequence[int], rows: Sequence[Row], default: Sampling) -> None:
        """Put sentences into some of the rows; their positions are not set here.

        Args:
            slots: Which of the tensors' rows; none twice.
            rows: What to speak there.
            default: For rows that bring no parameters of their own.
        """
        device = self.last.device
        index = upload(list(slots), device)
        caps = upload([[row.cap] for row in rows], device)
        self.caps[index] = caps
        self.is_done[index] = caps <= 0
        self.keys[index] = row_keys([(row.seed, row.sentence) for row in rows], device)
        self.step[index] = 0
        self.tokens[index] = EOS
        self.sampling.set(slots, [row.sampling or default for row in rows])

    def note(self, token: Tensor) -> None:
        """Append a drawn token, shape (rows, 1), to every row; a row that has ended gets EOS."""
        if token.is_cuda:
            from tts.sampling_kernel import note

            note(token, self.last, self.tokens, self.step, self.is_done, self.caps, EOS)
            return
        token = token.masked_fill(self.is_done, EOS)
        self.last.copy_(token)
        self.tokens.scatter_(1, self.step, token)
        self.step.add_(1)
        self.is_done.logical_or_((token == EOS) | (self.step >= self.caps))
