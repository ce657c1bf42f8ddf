from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from evaluation.timing import Measurement, measure, quantile


def ticking(times: list[float]) -> Callable[[], float]:
    """Return a clock that shows given times."""
    remaining = iter(times)
    return lambda: next(remaining)


def test_measure_keeps_each_sample_and_leaves_the_warm_up_out() -> None:
    calls: list[str] = []
    found = measure(
        lambda: calls.append("run"), repeats=2, warmup=3, clock=ticking([0.0, 1.5, 10.0, 10.25])
    )
    assert found.samples == (1.5, 0.25)
    assert len(calls) == 5


def test_measure_synchronises_before_each_look_at_the_clock() -> None:
    log: list[str] = []
    times = ticking([0.0, 1.0])

    def clock() -> float:
        log.append("clock")
        return times()

    measure(
        lambda: log.append("run"),
        repeats=1,
        warmup=1,
        synchronise=lambda: log.append("synchronise"),
        clock=clock,
        on_result=lambda _: log.append("result"),
    )
    expected = ["run", "synchronise", "clock", "run", "synchronise", "clock", "result"]
    assert log == expected


def test_measure_hands_on_each_timed_result() -> None:
    results: list[int] = []
    numbers = iter(range(10))
    measure(lambda: next(numbers), repeats=2, warmup=1, on_result=results.append)
    assert results == [1, 2]


@pytest.mark.parametrize(("repeats", "warmup"), [(0, 0), (1, -1)])
def test_measure_refuses_to_measure_nothing(repeats: int, warmup: int) -> None:
    with pytest.raises(ValueError, match="nothing"):
        measure(lambda: None, repeats=repeats, warmup=warmup)


def test_quantile_is_linear_between_order_statistics() -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.95) == pytest.approx(4.8)
    assert quantile([7.0], 0.99) == 7.0
    values = np.random.default_rng(0).random(37)
    for share in (0.0, 0.5, 0.95, 0.99, 1.0):
        assert quantile(list(values), share) == pytest.approx(float(np.quantile(values, share)))


def test_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no quantile"):
        quantile([], 0.5)
    with pytest.raises(ValueError, match="no quantile"):
        quantile([1.0], 1.5)


def test_measurement_figures_and_round_trip() -> None:
    found = Measurement(name="latency_s", unit="s", samples=(3.0, 1.0, 2.0))
    assert (found.mean, found.p50, found.n) == (2.0, 2.0, 3)
    assert found.p95 == pytest.approx(2.9)
    mapping = json.loads(json.dumps(found.to_mapping()))
    assert Measurement.from_mapping("latency_s", mapping) == found


@pytest.mark.parametrize("samples", [(), (1.0, float("nan"))])
def test_measurement_refuses_nothing_and_nonsense(samples: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="samples"):
        Measurement(name="latency_s", unit="s", samples=samples)
