"""transformers' `generate` as a peer: the model, how it is called, and what one token takes."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.decoder.timing import Sample, synchronise
from tts.decoder import DecoderConfig

GUIDANCE = 1.5  # as our step's own: of the difference between its rows


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way of calling ``generate``.

    Args:
        name: As reported.
        lengths: New tokens of the short and of the long call.
        n_rows: In the batch.
        has_static_cache: Of all slots; then ``generate`` compiles its forward on a GPU.
        is_guided: By its own processor, which runs the second row apart, eager.
    """

    name: str
    lengths: tuple[int, int] = (16, 48)
    n_rows: int = 2
    has_static_cache: bool = True
    is_guided: bool = False


PEERS = (
    Peer(name="generate, static cache", lengths=(64, 320)),
    Peer(name="generate, dynamic cache", has_static_cache=False),
    Peer(name="generate, static cache, guidance_scale", n_rows=1, is_guided=True),
)


def llama(
    config: DecoderConfig, n_speech: int, n_positions: int, dtype: torch.dtype, device: torch.device
) -> Any:  # noqa: ANN401 - transformers' own class, where it is installed
    """Make transformers' model of a shape, with random weights and nothing that ends a text.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """
    transformers = importlib.import_module("transformers")
    shape = transformers.LlamaConfig(
        vocab_size=n_speech, hidden_size=config.width, intermediate_size=config.ffn_width,
        num_hidden_layers=config.n_layers, num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads, head_dim=config.head_dim,
        max_position_embeddings=n_positions, rms_norm_eps=config.norm_eps,
        rope_theta=config.rope_theta,  # before 5.0; since then the next
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with device:
        made = transformers.AutoModelForCausalLM.from_config(
            shape, dtype=dtype, attn_implementation="sdpa"
        )
    return made.eval()


@dataclass(kw_only=True)
class Speaker:
    """One peer over one model and one prompt.

    Args:
        peer: How ``generate`` is called.
        model: Of transformers.
        prompt: Shape (2, n_context), int64.
        n_slots: Of the static cache.
        seen: What ran, as observed in the last call.
    """

    peer: Peer
    model: Any
    prompt: torch.Tensor
    n_slots: int
    seen: dict[str, Any] = field(default_factory=dict)

    def speak(self, n_new: int) -> None:
        """Generate so many tokens.

        Raises:
            RuntimeError: Another number came, or not all slots were there.
        """
        rows = self.prompt[: self.peer.n_rows]
        mask = torch.ones_like(rows)
        options: dict[str, Any] = {}
        if self.peer.has_static_cache:
            options |= {"cache_implementation": "static", "max_cache_len": self.n_slots}
        if self.peer.is_guided:
            options |= {
                "guidance_scale": GUIDANCE, "negative_prompt_ids": self.prompt[1:],
                "negative_prompt_attention_mask": mask,
            }  # fmt: skip
        found = self.model.generate(
            rows, attention_mask=mask, do_sample=False, min_new_tokens=n_new,
            max_new_tokens=n_new, return_dict_in_generate=True, **options,
        )  # fmt: skip
        n_found = found.sequences.shape[1] - rows.shape[1]
        n_slots = found.past_key_values.layers[0].keys.shape[-2]
        if n_found != n_new or (self.peer.has_static_cache and n_slots != self.n_slots):
            raise RuntimeError(f"{n_found} tokens and {n_slots} slots, not {n_new}, {self.n_slots}")
        self.seen = {"cache": type(found.past_key_values).__name__, "n_slots": n_slots}

    def seconds(self, n_new: int) -> float:
        """Return what one call takes on the host."""
        synchronise(self.prompt.device)
        began = time.perf_counter()
        self.speak(n_new)
        synchronise(self.prompt.device)
        return time.perf_counter() - began

    def sample(self, turn: int) -> Sample:
        """Return milliseconds a token between the two lengths, and both calls."""
        del turn
        short, long = self.peer.lengths
        short_s, long_s = self.seconds(short), self.seconds(long)
        ms = (long_s - short_s) / (long - short) * 1e3
        return {"ms": ms, "short_s": short_s, "long_s": long_s}
