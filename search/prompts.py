"""What a study speaks: prompts with a seed each, and what should be heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.prompts import Prompt, PromptError, Split, load_prompts
from evaluation.provenance import references_digest
from search.config import SweepConfig
from tts.types import Utterance

# The confirmation's seeds start here: none of the search's is among them.
CONFIRM_SEED = 500_000
# More seeds of one prompt tell of that prompt rather than of the voice.
MOST_SEEDS = 8


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Utterances to speak and, by id, what should be heard."""

    utterances: tuple[Utterance, ...]
    references: Mapping[str, str]


def search_prompts(config: SweepConfig) -> PromptSet:
    """Return the prompts that the search is judged on."""
    p = config.prompts
    return _prompt_set(_load(config, "search", p.n), p.seeds, p.seed)


def confirm_prompts(config: SweepConfig, planned: int = 0) -> PromptSet:
    """Return prompts and seeds that the search never saw; empty when switched off.

    Where the confirmation's part holds fewer prompts than are asked for, the first ones are
    spoken again with seeds of their own: pairs are by prompt and seed.

    Args:
        config: The sweep's.
        planned: Utterances that the arming planned, where ``confirm.n`` is ``auto``; at most 8
            seeds of every prompt are spoken.
    """
    n = config.confirm.n
    if n == 0:
        return PromptSet(utterances=(), references={})
    n_there = max(1, len(_load(config, "confirmation", None)))
    if config.confirm.auto:
        n = max(n, min(planned, MOST_SEEDS * n_there))
    n_prompts = min(n, n_there)
    prompts = _load(config, "confirmation", n_prompts)
    whole = _prompt_set(prompts, -(-n // n_prompts), CONFIRM_SEED + config.prompts.seed)
    kept = whole.utterances[:n]
    return PromptSet(utterances=kept, references={u.id: whole.references[u.id] for u in kept})


def spoken_again(prompts: PromptSet) -> str:
    """Say that some prompts are spoken with several seeds, since there are too few; or ""."""
    texts = Counter(u.text for u in prompts.utterances)
    if len(texts) == len(prompts.utterances):
        return ""
    n_seeds = max(texts.values())
    return (
        f"the confirmation's part of the prompts holds {len(texts)} that may be spoken, so its "
        f"{len(prompts.utterances)} utterances take up to {n_seeds} seeds of a prompt"
    )


def references_of(config: SweepConfig) -> str:
    """Return the digest of all that may have to be heard, the confirmation's part included."""
    prompts = _load(config, "all", None)
    return references_digest({prompt.id: prompt.reference for prompt in prompts})


def _load(config: SweepConfig, split: Split, n: int | None) -> tuple[Prompt, ...]:
    try:
        p = config.prompts
        return load_prompts(
            config.prompts_path, split=split, n=n, seed=p.seed, max_characters=p.max_characters
        )
    except PromptError as error:
        raise config.error("prompts", str(error)) from error


def _prompt_set(prompts: Sequence[Prompt], n_seeds: int, first_seed: int) -> PromptSet:
    utterances: list[Utterance] = []
    references: dict[str, str] = {}
    for turn in range(n_seeds):
        for prompt in prompts:
            name = prompt.id if n_seeds == 1 else f"{prompt.id}.{turn}"
            seed = first_seed + len(utterances)
            utterances.append(Utterance(id=name, text=prompt.text, seed=seed))
            references[name] = prompt.reference
    return PromptSet(utterances=tuple(utterances), references=references)
