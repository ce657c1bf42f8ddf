"""Every error of the rooms has an exit code of its own choosing."""

from __future__ import annotations

import inspect

import pytest

import evaluation.errors
import evaluation.prompts
import search.errors
import tts.adapters
import tts.errors
from search.exits import _BY_NAME, Exit, exit_code_of

ROOMS = (evaluation.errors, evaluation.prompts, search.errors, tts.adapters, tts.errors)
ERRORS = [
    kind
    for room in ROOMS
    for _, kind in inspect.getmembers(room, inspect.isclass)
    if issubclass(kind, Exception)
]
IS_INFRASTRUCTURE = {"SearchError", "SweepError", "StudyBusyError", "InfrastructureError"}


@pytest.mark.parametrize("kind", ERRORS)
def test_no_error_of_ours_falls_through(kind: type[Exception]) -> None:
    named = any(base.__name__ in _BY_NAME for base in kind.__mro__)
    assert named or kind.__name__ in IS_INFRASTRUCTURE


def test_names_are_spelt_as_their_classes() -> None:
    known = {kind.__name__ for kind in ERRORS}
    others = {"InputError", "ImportError", "KeyboardInterrupt"}
    assert set(_BY_NAME) <= known | others


def test_what_nobody_foresaw_is_infrastructure() -> None:
    assert exit_code_of(RuntimeError()) is Exit.INFRASTRUCTURE
    assert exit_code_of(ModuleNotFoundError()) is Exit.ENVIRONMENT
