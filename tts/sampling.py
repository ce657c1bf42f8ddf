"""Draw the next speech token: penalty, temperature, top-k, min-p, top-p, one uniform number.

Every row has parameters and a random stream of its own. Its uniform numbers come from a
counter-based generator in integer arithmetic, and probabilities are added up as integers, which
is exact in any order: a row's token is the same whoever shares its batch, and however it is found
(by a sort, among a few candidates, or by ``tts.sampling_kernel`` on a GPU).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from tts.device import upload
from tts.options import LEAST_TEMPERATURE, Sampling

REPETITION_WINDOW = 50  # tokens; two seconds of speech
N_CANDIDATES = 1024  # a full sort of 15 k scores costs a CPU 20 x what these do
# The weight of a row's likeliest token. Weights are rounded down: a token loses less than 1e-9 of
# that one's probability, all 15 k together less than 2e-5 of it.
UNIT = 2**30
FRACTION_BITS = 24  # of the uniform numbers and of top-p
ALL = 2.0**24  # a top-k that keeps everything
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
    return upload(keys, device).view(-1, 2)


def uniform_bits(keys: Tensor, step: Tensor) -> Tensor:
    """Return 24 random bits per row, shape (rows, 1), int64.

    Args:
        keys: Shape (rows, 2), from ``row_keys``.
        step: A counter, shape (rows, 1) or (1,), int64.
    """
    return (_mix(_mix(step ^ keys[:, :1]) + keys[:, 1:] & _MASK)) >> 8


def _mix(x: Tensor) -> Tensor:
    """Scramble 32 bits held in int64; factors below 2^31, so that products never overflow.

    Source: Chris Wellons, hash-prospector, the best two-round 32-bit permutation found there.
    """
    x = (x ^ (x >> 16)) * 0x21F0AAAD & _MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & _MASK
    return x ^ (x >> 15)


class RowSampling:
    """The parameters of every row: in a tensor of fixed address, and known to the host.

    Args:
        n_rows: How many rows; neutral until they are set.
        device: Where the scores will lie.
    """

    NAMES = ("cfg_weight", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")

    def __init__(self, n_rows: int, device: torch.device) -> None:
        self.known = [Sampling()] * n_rows
        self.values = torch.empty((n_rows, len(self.NAMES)), device=device)
        self.set(range(n_rows), self.known)

    def set(self, rows: Sequence[int], samplings: Sequence[Sampling]) -> None:
        """Give some rows their parameters."""
        for row, sampling in zip(rows, samplings, strict=True):
            self.known[row] = sampling.canonical()
        values = [_plain(self.known[row]) for row in rows]
        device = self.values.device
        new = upload(values, device, torch.float32).view(len(values), -1)
        self.values[upload(list(rows), device)] = new

    def column(self, name: str) -> Tensor:
        """Return a view of one parameter, shape (rows, 1), float32; top-p in units of 2^-24."""
        i = self.NAMES.index(name)
        return self.values[:, i : i + 1]


def _plain(sampling: Sampling) -> list[float]:
    """Return the columns of a row.

    Greedy is the one likeliest token: then nothing has to ask which rows are greedy.
    """
    is_greedy = sampling.temperature < LEAST_TEMPERATURE
    return [
        sampling.cfg_weight,
        1.0 if is_greedy else sampling.temperature,
        1.0 if is_greedy else float(sampling.top_k) or ALL,
        float(round(sampling.top_p * 2**FRACTION_BITS)),
        sampling.min_p,
        sampling.repetition_penalty,
    ]


def guide(conditional: Tensor, unconditional: Tensor, rows: RowSampling) -> Tensor:
    """Return ``u + w (c - u)``, shape (rows, ...), float32; exactly ``c`` where w is 1."""
    return torch.lerp(unconditional.float(), conditional.float(), rows.column("cfg_weight"))


class Sampler:
    """Draws tokens from scores.

    The plain definition: order the tokens by probability, ties by id; keep the first ``top_k``, of
    these those of at least ``min_p`` times the first one's probability, of these the fewest that
    sum to ``top_p`` of their sum; take the first at which the running sum exceeds u times the sum
    of what was kept.

    Args:
        method: ``"sort"`` follows the definition, one fixed sequence of operations; ``"short"``
            looks at values to sort less (on a CPU, where a look costs nothing); ``"kernel"`` is one
            Triton kernel that never sorts.
    """

    def __init__(self, method: str) -> None:
        self.method = method

    @classmethod
    def on(cls, device: torch.device) -> Sampler:
        """Return the quickest for a device."""
        return cls("kernel" if device.type == "cuda" else "short")

    def draw(
        self, scores: Tensor, rows: RowSampling, keys: Tensor, step: Tensor, tokens: Tensor
    ) -> Tensor:
        """Draw one token per row.

        Args:
            scores: Shape (rows, vocabulary), float32, guidance applied; minus infinity is never
                drawn. The last id must be such. The kernel may overwrite them.
            rows: The parameters.
            keys: Random streams from ``row_keys``, shape (rows, 2).
            step: How many tokens each row drew before, shape (rows, 1), int64.
            tokens: Earlier tokens, shape (rows, capacity), int64, in use up to ``step``.

        Returns:
            Shape (rows, 1), int64.
        """
        if self.method == "kernel":
            from tts.sampling_kernel import draw

            return draw(scores, rows, keys, step, tokens)
        if self.method == "sort" or any(s.repetition_penalty != 1 for s in rows.known):
            scores = _penalised(scores, rows, step, tokens)
        if self.method == "sort":
            return _by_sort(likelihoods(scores, rows), rows, uniform_bits(keys, step))
        if all(s.temperature == 0 for s in rows.known):
            return scores.argmax(dim=-1, keepdim=True)
        return _by_candidates(likelihoods(scores, rows), rows, uniform_bits(keys, step))


def _penalised(scores: Tensor, rows: RowSampling, step: Tensor, tokens: Tensor) -> Tensor:
    """Source: Keskar et al. 2019, CTRL, over the last ``REPETITION_WINDOW`` tokens."""
    window = min(REPETITION_WINDOW, tokens.shape[1])
    index = step - 1 - torch.arange(window, device=scores.device)
    recent = tokens.gather(1, index.clamp(min=0).expand(len(tokens), -1))
    recent = recent.masked_fill(index < 0, scores.shape[1] - 1)
    old, penalty = scores.gather(1, recent), rows.column("repetition_penalty")
    return scores.scatter(1, recent, torch.where(old > 0, old / penalty, old * penalty))


def likelihoods(scores: Tensor, rows: RowSampling) -> Tensor:
    """Return probabilities relative to each row's likeliest token, which has exactly 1."""
    scores = scores / rows.column("temperature")
    return (scores - scores.amax(dim=-1, keepdim=True)).exp()


def weights(relative: Tensor) -> Tensor:
    """Return relative probabilities as integers that add up exactly: 1 is ``UNIT``."""
    return (relative * UNIT).to(torch.int64)


def fraction(mass: Tensor, bits: Tensor, *, is_rounded_up: bool = False) -> Tensor:
    """Return ``mass * bits / 2^24``, rounded down or up, in products that do not overflow."""
    low_mask = (1 << FRACTION_BITS) - 1
    low = (mass & low_mask) * bits + (low_mask if is_rounded_up else 0)
    return (mass >> FRACTION_BITS) * bits + (low >> FRACTION_BITS)


def _by_sort(relative: Tensor, rows: RowSampling, bits: Tensor) -> Tensor:
    ordered = relative.sort(dim=-1, descending=True).values
    return _draw(relative, ordered, rows, bits)[0]


def _by_candidates(relative: Tensor, rows: RowSampling, bits: Tensor) -> Tensor:
    """Sort a few candidates, and everything only where they are too few for some row."""
    n = min(N_CANDIDATES, relative.shape[1])
    ordered = relative.topk(n, dim=-1).values
    found, is_enough = _draw(relative, ordered, rows, bits)
    if n == relative.shape[1] or bool(is_enough.all()):
        return found
    return _by_sort(relative, rows, bits)


def _draw(
    relative: Tensor, ordered: Tensor, rows: RowSampling, bits: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw from relative probabilities, given the largest of them in order.

    Args:
        relative: Shape (rows, vocabulary).
        ordered: Their largest, descending, shape (rows, n).
        rows: The parameters.
        bits: Shape (rows, 1), from ``uniform_bits``.

    Returns:
        Tokens, shape (rows, 1), and whether n was enough to tell, shape (rows, 1).
    """
    top_k, min_p = rows.column("top_k"), rows.column("min_p")
    ranks = torch.arange(ordered.shape[1], device=ordered.device)
    running = weights(ordered).cumsum(dim=-1)
    is_kept = (ranks < top_k) & (ordered >= min_p)
    kept = running.gather(1, (is_kept.sum(dim=-1, keepdim=True) - 1).clamp(min=0))
    # Where no limit binds, what is kept is everything, however few are in order.
    is_unlimited = (top_k >= relative.shape[1]) & (min_p <= 0)
    kept = torch.where(is_unlimited, weights(relative).sum(dim=-1, keepdim=True), kept)
    needed = fraction(kept, rows.column("top_p").to(torch.int64), is_rounded_up=True)
    last = ordered.shape[1] - 1
    end = (running < needed).sum(dim=-1, keepdim=True).clamp(max=last)
    target = fraction(running.gather(1, end), bits)
    rank = (running <= target).sum(dim=-1, keepdim=True).clamp(max=last)
    is_enough = (is_unlimited | ~is_kept[:, -1:]) & (needed <= running[:, -1:])
    return _at_rank(relative, ordered, rank), is_enough


def _at_rank(relative: Tensor, ordered: Tensor, rank: Tensor) -> Tensor:
    """Return the token of a rank, shape (rows, 1): equal ones stand in order of their ids."""
    value = ordered.gather(1, rank)
    n_before = rank - (ordered > value).sum(dim=-1, keepdim=True)
    is_equal = relative == value
    is_found = is_equal & (is_equal.cumsum(dim=-1) == n_before + 1)
    return is_found.int().argmax(dim=-1, keepdim=True)
