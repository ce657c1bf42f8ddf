"""What the streaming figures compare, how often, and what a run that is cut leaves behind."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.decoder import streaming
from tts.options import Options
from tts.types import Utterance

WHOLE = np.sin(np.arange(40, dtype=np.float32))


class Voice:
    """Speaks 40 samples in three pieces; keeps how often, and tells whom it may interrupt."""

    sample_rate_hz = 20

    def __init__(self, at_stream: Callable[[Utterance], None] = lambda _: None) -> None:
        self.n_streams, self.at_stream = 0, at_stream

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Any]:
        return [SimpleNamespace(samples=WHOLE) for _ in utterances]

    def stream(self, utterance: Utterance) -> Iterator[Any]:
        self.at_stream(utterance)
        self.n_streams += 1
        for piece in np.split(WHOLE, [10, 30]):
            yield SimpleNamespace(samples=piece)


def arguments(out: Path, seconds: float = 100.0) -> argparse.Namespace:
    return argparse.Namespace(
        out=out, device="cpu", seconds=seconds, text_seconds=10.0, repeats=4, warm_ups=1,
        texts="one word,50 characters",
    )  # fmt: skip


def ways(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.read_text())["ways"]
    return found


def test_a_border_is_held_against_the_one_shot() -> None:
    joined = [WHOLE[:10].copy(), WHOLE[10:].copy()]
    joined[1][0] += 0.5
    found = streaming.borders(joined, WHOLE)
    assert found["n_borders"] == 1
    assert found["max_difference"] == pytest.approx(0.5)
    assert found["max_border_step_difference"] == pytest.approx(0.5)
    with pytest.raises(RuntimeError, match="the stream has 39 samples, the whole 40"):
        streaming.borders([WHOLE[:39]], WHOLE)


def test_a_text_is_spoken_as_often_as_there_is_time() -> None:
    voice: Any = Voice()
    found = streaming.row(voice, "a", 9, 2, lambda spent_s: voice.n_streams < 5)
    assert found["ttfa_s"]["n"] == 3  # two warmed up
    assert found["n_pieces"] == 3
    assert found["max_difference"] == 0.0
    assert streaming.row(voice, "a", 9, 0, lambda spent_s: False)["ttfa_s"]["n"] == 1
    assert streaming.row(voice, "a", 4, 0, lambda spent_s: True)["ttfa_s"]["n"] == 4


def test_a_broken_way_is_told_and_the_rest_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(_: str, options: Options, device: str) -> SimpleNamespace:
        if options.kv_cache == "paged":
            raise RuntimeError("no pages")
        return SimpleNamespace(synthesizer=Voice())

    monkeypatch.setattr(streaming, "build", build)
    out = tmp_path / "streaming.json"
    assert streaming.Bench(arguments(out)).run() is False
    found = ways(out)
    assert found["paged cache"]["error"] == "RuntimeError: no pages"
    for way in ("fp32 eager", "static cache"):
        assert [row["ttfa_s"]["n"] for row in found[way]["texts"].values()] == [4, 4]


def test_the_file_is_whole_after_each_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(utterance: Utterance) -> None:
        if utterance.text == streaming.TEXTS["50 characters"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(
        streaming, "build", lambda *_: SimpleNamespace(synthesizer=Voice(interrupt))
    )
    out = tmp_path / "streaming.json"
    with pytest.raises(KeyboardInterrupt):
        streaming.Bench(arguments(out)).run()
    texts = ways(out)["fp32 eager"]["texts"]
    assert list(texts) == ["one word"]
    assert texts["one word"]["ttfa_s"]["n"] == 4


def test_no_way_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    out = tmp_path / "streaming.json"
    assert streaming.Bench(arguments(out, seconds=0.0)).run() is False
    assert {way["error"] for way in ways(out).values()} == {"no time was left"}
