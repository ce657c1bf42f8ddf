"""Metrics by name: built-in, installed by others as entry points, or ``"module:Class"``."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from evaluation.errors import MetricError
from evaluation.metrics.base import Metric, MetricSettings

BUILTIN = {
    "guards": "evaluation.metrics.guards:GuardMetric",
    "dnsmos": "evaluation.metrics.dnsmos:Dnsmos",
    "wer": "evaluation.metrics.wer:WordErrors",
    "pesq": "evaluation.metrics.pesq:TeacherForcedPesq",
}
"""Lazy, so that a metric's libraries are imported only where it is used."""

GROUP = "mosgate.metrics"
"""The entry point group through which other packages add metrics."""


def load(name: str, settings: MetricSettings) -> Metric:
    """Import and construct a metric.

    Raises:
        MetricError: No such metric, or it does not load. One that was asked for is never left out.
    """
    target = _target(name)
    module_name, _, class_name = target.partition(":")
    try:
        metric = getattr(importlib.import_module(module_name), class_name)(settings)
    except Exception as error:
        raise MetricError(f"metric {name!r} ({target}) does not load: {error!r}") from error
    if not isinstance(metric, Metric):
        raise MetricError(f"metric {name!r} ({target}) lacks __call__ or provenance")
    return metric


def _target(name: str) -> str:
    """Return the ``"module:Class"`` behind a name."""
    if ":" in name:
        return name
    if name in BUILTIN:
        return BUILTIN[name]
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    if name in installed:
        return installed[name]
    known = ", ".join(sorted({*BUILTIN, *installed}))
    raise MetricError(f"there is no metric {name!r}; known are {known}, or give 'module:Class'")
