"""A checkpoint in Hugging Face's layout, against the textbook in float64."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.tts import reference
from tts import llama
from tts.decoder import Decoder, DecoderConfig, Llama3Scaling, inverse_frequencies
from tts.errors import WeightsError

CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "hidden_act": "silu",
    "vocab_size": 40,
}
SHAPES = {
    "self_attn.q_proj": (32, 32),
    "self_attn.k_proj": (16, 32),
    "self_attn.v_proj": (16, 32),
    "self_attn.o_proj": (32, 32),
    "mlp.gate_proj": (48, 32),
    "mlp.up_proj": (48, 32),
    "mlp.down_proj": (32, 48),
    "input_layernorm": (32,),
    "post_attention_layernorm": (32,),
}
T3: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 30,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {
        "rope_theta": 500_000.0,
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def drawn(prefix: str = "model.", n_layers: int = 3, **more: tuple[int, ...]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}layers.{i}.{name}.weight": shape
        for i in range(n_layers)
        for name, shape in SHAPES.items()
    }
    shapes |= {f"{prefix}norm.weight": (32,), f"{prefix}embed_tokens.weight": (40, 32), **more}
    return {n: torch.randn(s) / math.sqrt(s[-1]) + (len(s) == 1) for n, s in shapes.items()}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def make(tensors: dict[str, Tensor], **config: object) -> Path:
        text = json.dumps({**CONFIG, **config})
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path

    return make


def straight(tensors: dict[str, Tensor], x: Tensor, prefix: str = "model.") -> Tensor:
    """Run the file's own matrices, one sequence (n, 32) in float64, with nothing put together."""
    tensors = {name: t.double() for name, t in tensors.items()}
    config = llama.parse(CONFIG)
    future = torch.full((len(x), len(x)), -math.inf, dtype=torch.float64).triu(1)
    for i in range(3):

        def by(name: str, y: Tensor, layer: str = f"{prefix}layers.{i}.") -> Tensor:
            return y @ tensors[f"{layer}{name}.weight"].T

        layer = f"{prefix}layers.{i}."
        y = reference.normed(x, tensors[f"{layer}input_layernorm.weight"], 1e-5)
        answers = []
        for head, q in enumerate(by("self_attn.q_proj", y).split(8, dim=1)):
            k = by("self_attn.k_proj", y).split(8, dim=1)[head // 2]
            v = by("self_attn.v_proj", y).split(8, dim=1)[head // 2]
            scores = reference.turned(q, config) @ reference.turned(k, config).T / math.sqrt(8)
            answers.append((scores + future).softmax(dim=1) @ v)
        x = x + by("self_attn.o_proj", torch.cat(answers, dim=1))
        y = reference.normed(x, tensors[f"{layer}post_attention_layernorm.weight"], 1e-5)
        gate = by("mlp.gate_proj", y)
        x = x + by("mlp.down_proj", gate * gate.sigmoid() * by("mlp.up_proj", y))
    return reference.normed(x, tensors[f"{prefix}norm.weight"], 1e-5)


@pytest.mark.parametrize("prefix", ["model.", "tfmr.", ""])
def test_it_answers_as_its_own_matrices_do(write: Callable[..., Path], prefix: str) -> None:
    tensors = drawn(prefix)
    found = llama.load(write(tensors))
    x = torch.randn(50, 32)
    with torch.inference_mode():
        y = found.decoder(x[None], torch.arange(50)[None])[0]
    assert (y - straight(tensors, x.double(), prefix)).abs().max() < 1e-5
    assert found.embedding is not None
    assert found.embedding.equal(tensors[f"{prefix}embed_tokens.weight"])
    assert found.head is None
    assert found.rest == {}


def test_it_answers_as_transformers_does(write: Callable[..., Path]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tensors = drawn()
    theirs = transformers.LlamaModel(transformers.LlamaConfig(**CONFIG)).eval()
    theirs.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items()})
    x = torch.randn(1, 50, 32)
    with torch.inference_mode():
        ours = llama.load(write(tensors)).decoder(x, torch.arange(50)[None])
        assert (ours - theirs(inputs_embeds=x).last_hidden_state).abs().max() < 1e-4


@pytest.mark.parametrize("is_tied", [True, False])
def test_heads_are_their_own_or_the_tables(write: Callable[..., Path], is_tied: bool) -> None:
    own = {} if is_tied else {"lm_head.weight": (40, 32)}
    tensors = drawn(**own, **{"speech_emb.weight": (7, 32)})
    found = llama.load(write(tensors, tie_word_embeddings=is_tied))
    expected = tensors["model.embed_tokens.weight" if is_tied else "lm_head.weight"]
    assert found.head is not None
    assert found.head.weight.equal(expected)
    assert set(found.rest) == {"speech_emb.weight"}


def test_shards_are_one_model(tmp_path: Path, write: Callable[..., Path]) -> None:
    tensors = drawn()
    write(tensors)
    whole = llama.load(tmp_path).decoder.state_dict()
    names = sorted(tensors)
    shards = {"a.safetensors": names[:11], "b.safetensors": names[11:]}
    for file, mine in shards.items():
        save_file({name: tensors[name] for name in mine}, tmp_path / file)
    (tmp_path / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, mine in shards.items() for name in mine}}
    (tmp_path / llama.INDEX).write_text(json.dumps(index), encoding="utf-8")
    sharded = llama.load(tmp_path).decoder.state_dict()
    assert all(sharded[name].equal(t) for name, t in whole.items())


def test_norms_of_queries_and_keys_are_found_and_heads_may_be_wide(
    write: Callable[..., Path],
) -> None:
    tensors = drawn(n_layers=1)
    layer = "model.layers.0.self_attn."
    for name, shape in (("q", (64, 32)), ("k", (32, 32)), ("v", (32, 32)), ("o", (32, 64))):
        tensors[f"{layer}{name}_proj.weight"] = torch.randn(shape) / 8
    for name in ("q_norm", "k_norm"):
        tensors[f"{layer}{name}.weight"] = torch.rand(16) + 0.5
    found = llama.load(write(tensors, num_hidden_layers=1, head_dim=16), dtype=torch.float32)
    assert (found.decoder.config.qk_norm, found.decoder.config.head_dim) == (True, 16)
    x = torch.randn(20, 32)
    with torch.inference_mode():
        y = found.decoder(x[None], torch.arange(20)[None])[0]
        assert (y - reference.hidden(found.decoder, x.double())).abs().max() < 1e-5


def test_it_is_cast_and_needs_no_configuration_file(write: Callable[..., Path]) -> None:
    tensors = {**drawn("tfmr."), "steps": torch.arange(3)}
    folder = write(tensors)
    (folder / "config.json").unlink()
    file = folder / "model.safetensors"
    found = llama.load(file, config=llama.parse(CONFIG), dtype=torch.bfloat16)
    assert {p.dtype for p in found.decoder.parameters()} == {torch.bfloat16}
    assert found.rest["steps"].dtype == torch.int64


def test_the_shape_of_t3_can_be_said() -> None:
    config = llama.parse(T3)
    assert config == DecoderConfig(
        n_layers=30,
        width=1024,
        n_heads=16,
        n_kv_heads=16,
        ffn_width=4096,
        rope_theta=500_000.0,
        rope_scaling=Llama3Scaling(),
    )
    with torch.device("meta"):
        n_parameters = sum(p.numel() for p in Decoder(config).parameters())
    assert n_parameters == 30 * (4 * 1024**2 + 3 * 1024 * 4096 + 2 * 1024) + 1024
    found = inverse_frequencies(config, torch.device("cpu"))
    assert found.tolist() == pytest.approx(reference.frequencies(config), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": None}, "config.json: lacks hidden_size"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', and our decoder has 'silu' only"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"model_type": "granite"}, "model_type is 'granite', .* llama, mistral, qwen3; .*config="),
        ({"residual_multiplier": 0.22}, "residual_multiplier is 0.22, .*1.0 only"),
        ({"logits_scaling": 8.0}, "logits_scaling is 8.0"),
        ({"attention_multiplier": 0.0156}, "attention_multiplier is 0.0156, .* no such thing"),
        ({"scale_emb": 12, "scale_depth": 1.4}, "scale_emb is 12"),
        ({"scale_depth": 1.4}, "scale_depth is 1.4"),
        ({"no_rope_layers": [1, 1, 1, 0]}, "no_rope_layers is"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding_window is 4096"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "hold 'sliding_attention'"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope scaling 'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "lacks 'low_freq_factor'"),
    ],
)
def test_another_architecture_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        llama.parse({**CONFIG, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "llama", "pretraining_tp": 1, "mlp_bias": False},
        {"model_type": "mistral", "sliding_window": None},
        {
            "model_type": "qwen3",
            "use_sliding_window": False,
            "sliding_window": 4096,
            "layer_types": ["full_attention"] * 3,
        },
        {"residual_multiplier": 1.0, "embedding_multiplier": 1, "partial_rotary_factor": 1.0},
    ],
    ids=str,
)
def test_what_changes_nothing_is_no_other_architecture(change: dict[str, Any]) -> None:
    assert llama.parse({**CONFIG, **change}) == llama.parse(CONFIG)


def without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


def given(name: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


def nothing_known(tensors: dict[str, Tensor]) -> None:
    tensors.clear()
    tensors["transformer.h.0.attn.weight"] = torch.zeros(2)


def twice(tensors: dict[str, Tensor]) -> None:
    tensors.update({f"draft.{name}": t.clone() for name, t in tensors.items()})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            without("model.layers.2.mlp.up_proj.weight"),
            r"model.layers.2.mlp.up_proj.weight \(48, 32\) is missing; .*of one release",
        ),
        (
            given("model.layers.1.self_attn.k_proj.weight", 32, 32),
            r"model.layers.1.self_attn.k_proj.weight is \(32, 32\), expected \(16, 32\)",
        ),
        (
            given("model.layers.0.self_attn.q_proj.bias", 32),
            r"model.layers.0.self_attn.q_proj.bias \(32,\) is unexpected",
        ),
        (given("model.layers.3.mlp.up_proj.weight", 48, 32), r"layers.3.* is unexpected"),
        (nothing_known, "no name ends in .*it holds transformer.h.0.attn.weight"),
        (twice, "holds 2 decoders; pass prefix= one of 'draft.model.', 'model.'"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    write: Callable[..., Path], damage: Callable[[dict[str, Tensor]], None], words: str
) -> None:
    tensors = drawn()
    damage(tensors)
    with pytest.raises(WeightsError, match=words):
        llama.load(write(tensors))


def test_many_faults_are_counted(write: Callable[..., Path]) -> None:
    with pytest.raises(WeightsError, match="and 6 more"):
        llama.load(write(drawn(n_layers=2)))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "config.json: cannot be read"),
        ("config.json", b"{", "config.json: is no JSON"),
        ("config.json", b"[]", "config.json: holds no mapping"),
        ("model.safetensors", None, "model.safetensors: cannot be read"),
        ("model.safetensors", b"no", "model.safetensors: cannot be read as safetensors"),
        (llama.INDEX, b"{}", "lacks weight_map"),
    ],
)
def test_files_that_are_missing_or_damaged(
    write: Callable[..., Path], file: str, content: bytes | None, words: str
) -> None:
    folder = write(drawn())
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        llama.load(folder)
