"""What a step is held against, by ceilings that need no measuring."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluation.roofline import Ceiling, TooLittleMemoryError
from evaluation.timing import Measurement
from search.profiling import ceilings, steps
from tests.search.profile_fixtures import CPU
from tts.options import Options
from tts.profiled import StepCost


def ceiling(rate: float, unit: str) -> Ceiling:
    return Ceiling(rates=Measurement(name="x", unit=unit, samples=(rate,)), how="by hand")


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "measure_copy", lambda *_, **__: ceiling(1e9, "B/s"))
    monkeypatch.setattr(ceilings, "measure_product", lambda *_, **__: ceiling(1e12, "FLOP/s"))


def held(product: str = "", flops: int = 1000, **options: Any) -> ceilings.Found:  # noqa: ANN401
    """A step of 10 ms that reads 5 MB: half of what the copy allows."""
    cost = StepCost(
        n_rows=1, n_lanes=2, n_live=10, weight_bytes=4_000_000, cache_bytes=1_000_000,
        flops=flops, dtype="float32", product=product,
    )  # fmt: skip
    subject: Any = SimpleNamespace(caps=CPU, synchronise=None, options=Options(**options))
    found = ceilings.Found(figures={})
    ceilings.hold_against(subject, cost, 0.01, found)
    return found


def test_a_step_is_held_against_both_ceilings() -> None:
    found = held()
    assert found.figures["step.roofline"].value == pytest.approx(0.5)
    assert found.figures["step.bandwidth"].value == pytest.approx(5e8)
    assert found.bound == "memory"
    assert not any("TF32" in note for note in found.notes)


def test_8_bit_products_are_not_held_against_wider_ones() -> None:
    found = held("int8")
    for name in ("ceiling.arithmetic", "step.floor", "step.roofline"):
        assert found.figures[name].unknown == "products in int8 are not measured"
    assert found.figures["step.bandwidth"].value == pytest.approx(5e8)
    assert found.bound == ""


def test_a_copy_that_cannot_be_made_leaves_no_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Ceiling:
        raise TooLittleMemoryError("1 MiB may be copied")

    monkeypatch.setattr(ceilings, "measure_copy", fail)
    found = held()
    for name in ("ceiling.bandwidth", "step.floor", "step.roofline"):
        assert found.figures[name].unknown == "1 MiB may be copied"
    assert found.figures["ceiling.arithmetic"].value == 1e12


def test_a_ceiling_in_tf32_is_called_that() -> None:
    notes = held(precision="tf32").notes
    assert notes[-1] == "ceiling of arithmetic: the best of 1, by hand, multiplied in TF32"


@pytest.mark.parametrize(("flops", "said"), [(1000, "in a cache"), (10**12, "the product")])
def test_faster_than_a_ceiling_is_said_of_the_one_that_bounds(
    monkeypatch: pytest.MonkeyPatch, flops: int, said: str
) -> None:
    monkeypatch.setattr(ceilings, "measure_copy", lambda *_, **__: ceiling(1e8, "B/s"))
    monkeypatch.setattr(ceilings, "measure_product", lambda *_, **__: ceiling(1e12, "FLOP/s"))
    assert said in held(flops=flops).notes[-1]


@pytest.mark.parametrize("batching", ["static", "continuous"])
def test_a_static_step_of_a_continuous_batch_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, batching: str
) -> None:
    class Voice:
        def decoding(self, utterances: object) -> None:
            assert utterances == ["a text"]

    seconds = Measurement(name="step", unit="s", samples=(0.01,))
    monkeypatch.setattr(steps, "_time", lambda *_: (seconds, None))
    for name in ("_cost_figures", "_held"):
        monkeypatch.setattr(steps, name, lambda *_: {})
    for name in ("hold_against", "_record", "_read", "_copies"):
        monkeypatch.setattr(steps, name, lambda *_, **__: None)
    subject: Any = SimpleNamespace(
        synthesizer=Voice(), utterances=lambda: ["a text"], is_cuda=False,
        options=Options(batching=batching, kv_cache="static", batch_size=8),  # type: ignore[arg-type]
    )  # fmt: skip
    found = steps.examine(subject, 2, 1.0, tmp_path)
    assert (steps.STATIC_ONLY in found.notes) == (batching == "continuous")
