"""What a decoder should say, from the textbook: float64, one sequence, one head at a time."""

import cmath
import math

import torch
from torch import Tensor

from tts.decoder import Decoder, DecoderConfig
from tts.embedded.lm import EOS, SpeechLM


def frequencies(config: DecoderConfig) -> list[float]:
    """Angle per position of each pair, as the Llama 3.1 code has it: three cases."""
    found = []
    for i in range(config.head_dim // 2):
        frequency = config.rope_theta ** (-2 * i / config.head_dim)
        scaling = config.rope_scaling
        if scaling is not None:
            wave = 2 * math.pi / frequency
            longest = scaling.original_context / scaling.low_freq_factor
            shortest = scaling.original_context / scaling.high_freq_factor
            if wave > longest:
                frequency /= scaling.factor
            elif wave > shortest:
                smooth = (scaling.original_context / wave - scaling.low_freq_factor) / (
                    scaling.high_freq_factor - scaling.low_freq_factor
                )
                frequency = (1 - smooth) * frequency / scaling.factor + smooth * frequency
        found.append(frequency)
    return found


def turned(x: Tensor, config: DecoderConfig) -> Tensor:
    """Turn (n, head_dim) by position: pair i is (i, i + head_dim / 2), one complex number."""
    half = config.head_dim // 2
    angles = [[cmath.exp(1j * p * f) for f in frequencies(config)] for p in range(len(x))]
    y = torch.complex(x[:, :half], x[:, half:]) * torch.tensor(angles, dtype=torch.complex128)
    return torch.cat((y.real, y.imag), dim=1)


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight.double()


def hidden(decoder: Decoder, x: Tensor) -> Tensor:
    """Run one sequence (n, width), float64, through all layers and the last norm."""
    c = decoder.config
    future = torch.full((len(x), len(x)), -math.inf, dtype=torch.float64).triu(1)
    for block in decoder.blocks:
        state = {name: p.detach().double() for name, p in block.named_parameters()}
        y = normed(x, state["attention_norm.weight"], c.norm_eps) @ state["attention.qkv.weight"].T
        heads = list(y.split(c.head_dim, dim=1))
        queries, keys = heads[: c.n_heads], heads[c.n_heads : -c.n_kv_heads]
        if c.qk_norm:
            queries = [normed(q, state["attention.q_norm.weight"], c.norm_eps) for q in queries]
            keys = [normed(k, state["attention.k_norm.weight"], c.norm_eps) for k in keys]
        answers = []
        for i, query in enumerate(queries):
            mine = i * c.n_kv_heads // c.n_heads
            scores = turned(query, c) @ turned(keys[mine], c).T / math.sqrt(c.head_dim) + future
            answers.append(scores.softmax(dim=1) @ heads[c.n_heads + c.n_kv_heads + mine])
        x = x + torch.cat(answers, dim=1) @ state["attention.out.weight"].T
        y = normed(x, state["ffn_norm.weight"], c.norm_eps) @ state["ffn.gate_up.weight"].T
        gate, up = y.chunk(2, dim=1)
        x = x + (gate * gate.sigmoid() * up) @ state["ffn.down.weight"].T
    return normed(x, decoder.norm.weight, c.norm_eps)


@torch.no_grad()
def log_probabilities(lm: SpeechLM, characters: tuple[int, ...], speech: list[int]) -> Tensor:
    """Say how likely each id up to EOS is after the characters and each of the speech tokens."""
    text = lm.embed_text(torch.tensor([characters]))[0].double()
    spoken = lm.embed_speech(torch.tensor([speech]))[0].double()
    scores = hidden(lm.decoder, torch.cat((text, spoken)))[len(characters) :]
    return (scores @ lm.head.weight.double().T)[:, : EOS + 1].log_softmax(dim=-1)
