"""Teacher forcing through generation's own steps: what the model says of tokens that are given.

A forward pass over the whole sequence would be quicker and would answer another question: it goes
past the KV cache, the decode kernels, the compiled step and the captured graph, which are what
may be broken. So every step draws as always, and then the given token takes the drawn one's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice

import torch

from tts.embedded.generation import Batch, Generator
from tts.embedded.lm import EOS
from tts.embedded.state import Row
from tts.types import LogProbs


def forced(
    generator: Generator, rows: Sequence[Row], tokens: Sequence[Sequence[int]], batch_size: int
) -> list[LogProbs]:
    """Return log-probabilities at every position of given tokens, the end included.

    Args:
        generator: The model as its options say.
        rows: At most ``batch_size`` sentences.
        tokens: Their speech tokens, without the end.
        batch_size: The batch is filled up to it with copies, because what runs (and what breaks)
            depends on the number of rows.

    Returns:
        One array per row: natural logarithms, shape (n_tokens + 1, EOS + 1), float32; of the
        conditional half, at temperature 1 and before any filter.
    """
    n_steps = max(len(sentence) for sentence in tokens) + 1
    filled = list(islice(cycle(range(len(rows))), batch_size))
    padded = [[*tokens[i], *[EOS] * (n_steps - len(tokens[i]))] for i in filled]
    given = torch.tensor(padded, device=generator.device)
    # The cap stays what it is in generation, as far as possible: the cache's size follows from it.
    batch = Batch(generator, [replace(rows[i], cap=max(rows[i].cap, n_steps)) for i in filled])
    found = []
    for step in range(n_steps):
        if step:
            batch.advance(1)
        scores = generator.conditional(batch.hidden)
        found.append(scores[: len(rows), : EOS + 1].log_softmax(dim=-1))
        batch.force(given[:, step : step + 1])
    # Nothing before this looks at a value: on a GPU the steps follow one another unhindered.
    whole = torch.stack(found, dim=1).cpu().numpy()
    return [whole[i, : len(sentence) + 1] for i, sentence in enumerate(tokens)]
