"""``--set key=value``, as YAML reads the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from search.exits import InputError


def assignments(given: Sequence[str]) -> dict[str, Any]:
    """Turn ``["budget.seconds=60"]`` into ``{"budget.seconds": 60}``.

    Raises:
        InputError: No ``=``, a key given twice, or a value that is not YAML.
    """
    found: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise InputError(f"--set {item}: write key=value, such as budget.seconds=300")
        if key in found:
            raise InputError(f"--set {key}: given twice")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--set {item}: the value cannot be read as YAML") from error
    return found
