"""The peer of the decoder's figures: what one token of it is, and that it is the same network."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.decoder import peers
from benchmarks.decoder.generate import PEERS, Peer, Speaker, llama
from benchmarks.decoder.ways import TINY
from tts.kv_cache import causal_mask
from tts.llama import load

ARGUMENTS = argparse.Namespace(
    device="cpu", tiny=True, out=None, seconds=100.0, rounds=2, only="eager"
)


class Model:
    """Generates what it is asked for, or a token less; keeps how it was called."""

    def __init__(self, *, n_slots: int, n_missing: int = 0) -> None:
        self.n_slots, self.n_missing = n_slots, n_missing
        self.asked: list[dict[str, Any]] = []

    def generate(
        self,
        rows: torch.Tensor,
        **options: Any,  # noqa: ANN401 - as transformers takes them
    ) -> SimpleNamespace:
        self.asked.append({"n_rows": len(rows), **options})
        n = rows.shape[1] + options["max_new_tokens"] - self.n_missing
        layer = SimpleNamespace(keys=torch.zeros(len(rows), 1, self.n_slots, 4))
        return SimpleNamespace(
            sequences=torch.zeros(len(rows), n), past_key_values=SimpleNamespace(layers=[layer])
        )


def speaker(peer: Peer, **found: int) -> Speaker:
    prompt = torch.tensor([[3, 4, 5], [6, 7, 8]])
    return Speaker(peer=peer, model=Model(**found), prompt=prompt, n_slots=32)


def test_a_token_takes_the_difference_of_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Speaker, "seconds", lambda self, n: 0.5 + 0.003 * n)
    found = speaker(PEERS[0], n_slots=32).sample(0)
    assert found["ms"] == pytest.approx(3.0)
    assert found["long_s"] == pytest.approx(0.5 + 0.003 * 320)


def test_a_peer_that_speaks_another_number_is_refused() -> None:
    speaker(PEERS[0], n_slots=32).speak(5)
    with pytest.raises(RuntimeError, match="4 tokens and 32 slots, not 5, 32"):
        speaker(PEERS[0], n_slots=32, n_missing=1).speak(5)
    with pytest.raises(RuntimeError, match="5 tokens and 8 slots, not 5, 32"):
        speaker(PEERS[0], n_slots=8).speak(5)
    speaker(PEERS[1], n_slots=8).speak(5)  # a dynamic cache has as many as it needs


def test_guidance_is_of_the_second_row() -> None:
    guided = next(peer for peer in PEERS if peer.is_guided)
    made = speaker(guided, n_slots=32)
    made.speak(5)
    asked = made.model.asked[-1]
    assert asked["n_rows"] == 1
    assert asked["guidance_scale"] == 1.5
    assert asked["negative_prompt_ids"].tolist() == [[6, 7, 8]]
    assert asked["negative_prompt_attention_mask"].shape == (1, 3)
    assert (asked["cache_implementation"], asked["max_cache_len"]) == ("static", 32)


def test_without_transformers_the_rest_is_measured_and_the_hole_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    args = argparse.Namespace(**{**vars(ARGUMENTS), "out": tmp_path / "peers.json"})
    assert peers.Bench(args).run() is False
    found = json.loads(args.out.read_text())["ways"]
    assert found["eager"]["ms"]["n"] == 2
    share = found["eager"]["roofline_ms"] / found["eager"]["ms"]["p50"]
    assert found["eager"]["roofline_share"] == pytest.approx(share)
    for peer in PEERS:
        assert "ms" not in found[peer.name]
        assert found[peer.name]["error"].startswith("ModuleNotFoundError")


def test_what_was_measured_before_the_peers_is_kept_if_they_end_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    args = argparse.Namespace(**{**vars(ARGUMENTS), "out": tmp_path / "peers.json"})
    bench = peers.Bench(args)

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "peers", killed)
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert json.loads(args.out.read_text())["ways"]["eager"]["ms"]["n"] == 2


def test_nothing_is_built_when_the_time_is_up(tmp_path: Path) -> None:
    args = argparse.Namespace(**{**vars(ARGUMENTS), "seconds": 0.0, "out": tmp_path / "peers.json"})
    assert peers.Bench(args).run() is False
    found = json.loads(args.out.read_text())["ways"]
    assert found["eager"] == {"n_context": 10, "error": "no time was left"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_peer_is_the_same_network_as_ours(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = llama(TINY, 256, 32, torch.float32, torch.device("cpu"))
    made.save_pretrained(tmp_path)
    ours = load(tmp_path)
    assert ours.embedding is not None
    assert ours.head is not None
    tokens = torch.randint(256, (2, 9))
    positions = torch.arange(9).expand(2, 9)
    with torch.inference_mode():
        hidden = ours.decoder(ours.embedding[tokens], positions, causal_mask(positions, 9), None)
        torch.testing.assert_close(ours.head(hidden), made(tokens).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_peer_speaks(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    args = argparse.Namespace(**{**vars(ARGUMENTS), "out": tmp_path / "peers.json"})
    assert peers.Bench(args).run() is True
    found = json.loads(args.out.read_text())["ways"]
    assert found["generate, static cache"]["cache"] == "StaticCache"
    assert found["generate, static cache"]["n_slots"] == 32
    assert found["generate, dynamic cache"]["cache"] == "DynamicCache"
    for name in (peer.name for peer in PEERS):
        assert found[name]["ms"]["n"] == 2, found[name]
