"""Read a Llama-shaped language model, in Hugging Face's layout, into a ``Decoder``.

A checkpoint is a ``config.json`` and safetensors whose names end in ``layers.0.self_attn.q_proj``
and so on, behind any prefix: ``model.`` in most, ``tfmr.`` in Chatterbox's T3. What else a speech
model keeps in the same file (tables, heads, conditioning) is handed over as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tts.decoder import Decoder, DecoderConfig, Llama3Scaling
from tts.errors import WeightsError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_FIRST = "layers.0.self_attn.q_proj.weight"
_ONE_RELEASE = "take the weights and the configuration of one release"
_MOST_NAMED = 3
_NEEDED = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
# Others, such as Helium, give a Llama's names to the tensors of another computation.
_SAME = ("llama", "mistral", "qwen3")
# What would change the answer and is not in our decoder: key -> the value that is.
_PLAIN = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "use_sliding_window": False,
    "pretraining_tp": 1,
    # Granite's and MiniCPM's scales
    "embedding_multiplier": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": None,
    "logits_scaling": 1.0,
    "scale_emb": 1.0,
    "scale_depth": None,
    "dim_model_base": None,
    # SmolLM3, Gemma 2 and OLMo
    "no_rope_layers": None,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "clip_qkv": None,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Llama:
    """A checkpoint that was read.

    Args:
        decoder: All layers and the last norm, in evaluation mode, on the CPU.
        embedding: The token table, shape (vocabulary, width); None where there is none.
        head: The output head, the embedding's own matrix where they are tied; None where there is
            none.
        rest: Every other tensor by its name in the file.
    """

    decoder: Decoder
    embedding: Tensor | None
    head: nn.Linear | None
    rest: Mapping[str, Tensor]


def load(
    path: Path | str,
    *,
    config: DecoderConfig | None = None,
    dtype: torch.dtype = torch.float32,
    prefix: str | None = None,
) -> Llama:
    """Read a checkpoint.

    Args:
        path: A directory of ``config.json`` and safetensors, or one safetensors file.
        config: The shape; ``config.json`` beside the weights, if not given.
        dtype: What every floating-point tensor is cast to.
        prefix: What stands before ``layers.0.`` in the names; looked for, if not given.

    Raises:
        WeightsError: A file is missing or damaged, the architecture is another one, or a tensor is
            missing, unexpected or of another shape.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    is_tied = False
    if config is None:
        mapping = _json(folder / CONFIG)
        config, is_tied = parse(mapping, folder / CONFIG), bool(mapping.get("tie_word_embeddings"))
    tensors = {name: _cast(t, dtype) for name, t in _tensors(path)}
    if prefix is None:
        prefix = _prefix(tensors, path)
    config = replace(config, qk_norm=f"{prefix}layers.0.self_attn.q_norm.weight" in tensors)
    parts = _parts(config, prefix)
    _check(tensors, parts, prefix, path)
    embedding = tensors.get(f"{prefix}embed_tokens.weight")
    head = tensors.get("lm_head.weight", embedding if is_tied else None)
    known = {*parts, f"{prefix}embed_tokens.weight", "lm_head.weight"}
    return Llama(
        decoder=_decoder(config, tensors, prefix),
        embedding=embedding,
        head=None if head is None else _linear(head),
        rest={n: t for n, t in tensors.items() if n not in known and not _is_buffer(n)},
    )


def parse(mapping: Mapping[str, Any], source: Path | str = CONFIG) -> DecoderConfig:
    """Turn the keys of a ``config.json`` into a decoder's shape.

    Raises:
        WeightsError: A key is missing, or asks for what our decoder has not.
    """
    missing = [key for key in _NEEDED if not isinstance(mapping.get(key), int)]
    if missing:
        raise WeightsError(f"{source}: lacks {', '.join(missing)}: is it a Llama's configuration?")
    # Newer files keep everything about rotary positions in one place.
    rope = mapping.get("rope_parameters") or mapping.get("rope_scaling") or {}
    _check_plain({**mapping, **rope}, source)
    n_heads = mapping["num_attention_heads"]
    return DecoderConfig(
        n_layers=mapping["num_hidden_layers"],
        width=mapping["hidden_size"],
        n_heads=n_heads,
        n_kv_heads=mapping.get("num_key_value_heads") or n_heads,
        ffn_width=mapping["intermediate_size"],
        rope_theta=float(rope.get("rope_theta", mapping.get("rope_theta", 10_000.0))),
        norm_eps=float(mapping.get("rms_norm_eps", 1e-6)),
        rope_scaling=_scaling(rope, source),
        head_width=mapping.get("head_dim"),
    )


def _check_plain(mapping: Mapping[str, Any], source: Path | str) -> None:
    """Refuse what would load and then answer wrongly.

    Raises:
        WeightsError: The model computes something that our decoder does not.
    """
    kind = mapping.get("model_type")
    if kind not in (*_SAME, None):
        raise WeightsError(
            f"{source}: model_type is {kind!r}, and our decoder computes {', '.join(_SAME)}; "
            "where this one computes the same, pass config="
        )
    for key, plain in _PLAIN.items():
        if mapping.get(key, plain) not in (plain, None):
            only = "no such thing" if plain is None else f"{plain!r} only"
            raise WeightsError(f"{source}: {key} is {mapping[key]!r}, and our decoder has {only}")
    window = mapping.get("sliding_window")
    if window is not None and mapping.get("use_sliding_window") is None:  # as in Mistral v0.1
        raise WeightsError(f"{source}: sliding_window is {window!r}, and our decoder has none")
    kinds = {*(mapping.get("layer_types") or ())} - {"full_attention"}
    if kinds:
        raise WeightsError(f"{source}: layer_types hold {min(kinds)!r}, beside full_attention")


def _scaling(rope: Mapping[str, Any], source: Path | str) -> Llama3Scaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise WeightsError(f"{source}: rope scaling {kind!r}; our decoder has llama3 and none")
    try:
        return Llama3Scaling(
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_context=int(rope["original_max_position_embeddings"]),
        )
    except KeyError as error:
        raise WeightsError(f"{source}: llama3 rope scaling lacks {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); {_ONE_RELEASE}") from error
    except ValueError as error:
        raise WeightsError(f"{path}: is no JSON ({error}); {_ONE_RELEASE}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: holds no mapping; {_ONE_RELEASE}")
    return found


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a file, or of a directory's one file or shards."""
    for file in _files(path):
        try:
            yield from load_file(file).items()
        except (OSError, SafetensorError) as error:
            raise WeightsError(
                f"{file}: cannot be read as safetensors ({error}); fetch it again"
            ) from error


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / INDEX).exists():
        shards = _json(path / INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise WeightsError(f"{path / INDEX}: lacks weight_map; {_ONE_RELEASE}")
        return [path / name for name in sorted(set(shards.values()))]
    return [path / SINGLE]


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _prefix(tensors: Mapping[str, Tensor], path: Path) -> str:
    found = [name.removesuffix(_FIRST) for name in tensors if name.endswith(_FIRST)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(repr(name) for name in sorted(found))
        raise WeightsError(f"{path}: holds {len(found)} decoders; pass prefix= one of {names}")
    some = ", ".join(sorted(tensors)[:_MOST_NAMED]) or "nothing"
    raise WeightsError(
        f"{path}: no name ends in {_FIRST}, so this is no Llama in Hugging Face's layout; "
        f"it holds {some}"
    )


def _parts(config: DecoderConfig, prefix: str) -> dict[str, tuple[int, ...]]:
    """Return every name that the decoder needs, with its shape."""
    q, kv = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    width, ffn = config.width, config.ffn_width
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (q, width),
        "self_attn.k_proj": (kv, width),
        "self_attn.v_proj": (kv, width),
        "self_attn.o_proj": (width, q),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (ffn, width),
        "mlp.up_proj": (ffn, width),
        "mlp.down_proj": (width, ffn),
    }
    if config.qk_norm:
        layer |= {"self_attn.q_norm": (config.head_dim,), "self_attn.k_norm": (config.head_dim,)}
    parts = {
        f"{prefix}layers.{i}.{name}.weight": shape
        for i in range(config.n_layers)
        for name, shape in layer.items()
    }
    return {**parts, f"{prefix}norm.weight": (width,)}


def _is_buffer(name: str) -> bool:
    return name.endswith("rotary_emb.inv_freq")  # older files keep what follows from the shape


def _check(
    tensors: Mapping[str, Tensor], parts: Mapping[str, tuple[int, ...]], prefix: str, path: Path
) -> None:
    """Compare names and shapes.

    Raises:
        WeightsError: They differ; the first few are named.
    """
    wrong = [f"{n} {shape} is missing" for n, shape in parts.items() if n not in tensors]
    wrong += [
        f"{n} is {tuple(tensors[n].shape)}, expected {shape}"
        for n, shape in parts.items()
        if n in tensors and tuple(tensors[n].shape) != shape
    ]
    wrong += [
        f"{n} {tuple(t.shape)} is unexpected"
        for n, t in tensors.items()
        if n.startswith(f"{prefix}layers.") and n not in parts and not _is_buffer(n)
    ]
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise WeightsError(
            f"{path}: {'; '.join(wrong[:_MOST_NAMED])}{more}; the configuration is another "
            f"model's, or this is no plain Llama: {_ONE_RELEASE}"
        )


def _decoder(config: DecoderConfig, tensors: Mapping[str, Tensor], prefix: str) -> Decoder:
    """Put tensors in our places: queries, keys and values in one matrix, gate and up in one."""
    state = {"norm.weight": tensors[f"{prefix}norm.weight"]}
    for i in range(config.n_layers):

        def part(*names: str, layer: str = f"{prefix}layers.{i}.") -> Tensor:
            return torch.cat([tensors[f"{layer}{name}.weight"] for name in names])

        ours = f"blocks.{i}."
        state |= {
            f"{ours}attention_norm.weight": part("input_layernorm"),
            f"{ours}attention.qkv.weight": part(
                "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
            ),
            f"{ours}attention.out.weight": part("self_attn.o_proj"),
            f"{ours}ffn_norm.weight": part("post_attention_layernorm"),
            f"{ours}ffn.gate_up.weight": part("mlp.gate_proj", "mlp.up_proj"),
            f"{ours}ffn.down.weight": part("mlp.down_proj"),
        }
        if config.qk_norm:
            state |= {
                f"{ours}attention.{name}.weight": part(f"self_attn.{name}")
                for name in ("q_norm", "k_norm")
            }
    with torch.device("meta"):  # nothing is drawn at random only to be overwritten
        decoder = Decoder(config)
    decoder.load_state_dict(state, assign=True)
    return decoder.eval()


def _linear(weight: Tensor) -> nn.Linear:
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight)
    return linear
