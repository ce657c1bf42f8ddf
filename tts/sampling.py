"""Draw the next speech token: guidance, penalty, temperature, top-k, min-p, top-p, one uniform.

A row's tokens depend on its own seed alone: its uniform numbers come from a counter-based
generator in integer tensor arithmetic, the same on every device and inside a CUDA graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from tts.options import Sampling

REPETITION_WINDOW = 50  # tokens; two seconds of speech
N_CANDIDATES = 1024  # a full sort of 15 k scores costs a CPU 20 x what these do
_MASK = 0xFFFFFFFF


def row_keys(seeds: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Return the random streams of (utterance seed, sentence index) pairs.

    Returns:
        Shape (n, 2), int64, each in [0, 2^32).
    """
    keys = []
    for seed, sentence in seeds:
        digest = hashlib.sha256(f"{seed}/{sentence}".encode()).digest()
        keys.append([int.from_bytes(digest[i : i + 4], "little") for i in (0, 4)])
    return torch.tensor(keys, dtype=torch.int64, device=device).view(-1, 2)


def uniform(keys: Tensor, step: Tensor) -> Tensor:
    """Return one float32 in [0, 1) per row, shape (n, 1), for a step counter of shape (1,)."""
    bits = _mix(_mix(step ^ keys[:, :1]) + keys[:, 1:] & _MASK)
    return (bits >> 8).float() * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """Scramble 32 bits held in int64; factors below 2^31, so that products never overflow.

    Source: Chris Wellons, hash-prospector, the best two-round 32-bit permutation found there.
    """
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK
    return x ^ (x >> 15)


class Sampler:
    """Draws tokens from scores.

    Filling rather than ``torch.where`` with a number: that would copy the number from the host,
    which no graph capture allows.

    Args:
        sampling: The parameters.
        device: Where the scores lie.
        is_graphable: Whether to keep to one fixed sequence of operations with the parameters in
            tensors, so that it can be compiled and captured and new values need no new kernel.
            Otherwise shortcuts that look at values are taken; the tokens are the same.
    """

    def __init__(self, sampling: Sampling, device: torch.device, *, is_graphable: bool) -> None:
        self.sampling = sampling
        self.is_graphable = is_graphable
        limits = {
            "temperature": sampling.temperature or 1.0,
            "top_k": sampling.top_k or 2**24,
            "min_p": sampling.min_p,
            "top_p": sampling.top_p if sampling.top_p < 1 else 2.0,
            "penalty": sampling.repetition_penalty,
        }
        self.limits = {
            name: torch.tensor(value, dtype=torch.float32, device=device)
            for name, value in limits.items()
        }

    def draw(self, scores: Tensor, keys: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        """Draw one token per row.

        Args:
            scores: Shape (batch, vocabulary), float32, guidance applied; minus infinity is never
                drawn. The last id must be such.
            keys: Random streams from ``row_keys``, shape (batch, 2).
            step: How many tokens were drawn before, shape (1,), int64.
            tokens: Earlier tokens, shape (batch, capacity), int64, in use up to ``step``.

        Returns:
            Shape (batch, 1), int64.
        """
        if self.sampling.repetition_penalty != 1:
            scores = self._penalise(scores, step, tokens)
        if self.sampling.temperature == 0:
            return scores.argmax(dim=-1, keepdim=True)
        scores = scores / self.limits["temperature"]
        u = uniform(keys, step)
        return self._draw_in_full(scores, u) if self.is_graphable else self._draw_short(scores, u)

    def _penalise(self, scores: Tensor, step: Tensor, tokens: Tensor) -> Tensor:
        """Source: Keskar et al. 2019, CTRL, over the last ``REPETITION_WINDOW`` tokens."""
        window = min(REPETITION_WINDOW, tokens.shape[1])
        index = step - 1 - torch.arange(window, device=scores.device)
        recent = tokens.gather(1, index.clamp(min=0).expand(len(tokens), -1))
        recent = recent.masked_fill(index < 0, scores.shape[1] - 1)
        old, penalty = scores.gather(1, recent), self.limits["penalty"]
        return scores.scatter(1, recent, torch.where(old > 0, old / penalty, old * penalty))

    def _draw_in_full(self, scores: Tensor, u: Tensor) -> Tensor:
        values, ids = scores.sort(dim=-1, descending=True)
        return self._choose(values.softmax(dim=-1), ids, u)

    def _draw_short(self, scores: Tensor, u: Tensor) -> Tensor:
        """Sort only as many candidates as the limits can keep."""
        s = self.sampling
        if s.top_k:
            values, ids = scores.topk(min(s.top_k, scores.shape[1]), dim=-1)
            return self._choose(values.softmax(dim=-1), ids, u)
        probabilities = scores.softmax(dim=-1)
        if s.top_p < 1 or s.min_p > 0:
            p, ids = probabilities.topk(min(N_CANDIDATES, scores.shape[1]), dim=-1)
            if s.min_p > 0:
                is_enough = bool((p[:, -1] < s.min_p * p[:, 0]).all())
            else:
                is_enough = bool((p[:, :-1].sum(dim=-1) >= s.top_p).all())
            if is_enough:
                return self._choose(p, ids, u, total=None if s.min_p > 0 else 1.0)
        p, ids = probabilities.sort(dim=-1, descending=True)
        return self._choose(p, ids, u)

    def _choose(self, p: Tensor, ids: Tensor, u: Tensor, total: float | None = None) -> Tensor:
        """Apply the limits to descending probabilities, then invert their cumulative sum.

        Args:
            p: Shape (batch, n).
            ids: The tokens they belong to, shape (batch, n).
            u: Shape (batch, 1), in [0, 1).
            total: What the probabilities that pass top-k and min-p sum to; None sums ``p``.
        """
        limits = self.limits
        ranks = torch.arange(p.shape[1], device=p.device)
        p = p.masked_fill((ranks >= limits["top_k"]) | (p < limits["min_p"] * p[:, :1]), 0.0)
        p = p / (p.sum(dim=-1, keepdim=True) if total is None else total)
        before = p.cumsum(dim=-1) - p
        p = p.masked_fill(before >= limits["top_p"], 0.0)
        cumulative = p.cumsum(dim=-1)
        target = u * cumulative[:, -1:]
        n_kept = (p > 0).sum(dim=-1, keepdim=True)
        rank = (cumulative <= target).sum(dim=-1, keepdim=True).minimum(n_kept - 1)
        return ids.gather(1, rank)
