from __future__ import annotations

import json

import pytest

from evaluation.errors import ScoresError
from evaluation.scores import UtteranceScores

FULL = UtteranceScores(
    utterance_id="p07",
    duration_s=2.5,
    dnsmos_ovrl=3.1,
    dnsmos_p808=3.4,
    dnsmos_sig=3.5,
    dnsmos_bak=4.0,
    wer_errors=1,
    wer_words=9,
    transcript="naïve",
    pesq_wb=4.2,
    active_dbfs=-25.0,
    noise_floor_dbfs=-60.0,
    guards=("clipping: 1 %",),
    failures={"pesq": "SIGSEGV"},
    extra={"kl": 0.25},
    provenance="0123456789abcdef",
)


@pytest.mark.parametrize("scores", [FULL, UtteranceScores(utterance_id="x")])
def test_json_round_trip(scores: UtteranceScores) -> None:
    assert UtteranceScores.from_json(scores.to_json()) == scores


def test_mapping_is_of_json_types_only() -> None:
    mapping = FULL.to_mapping()
    assert json.loads(json.dumps(mapping)) == mapping


def test_wer_is_errors_over_words_and_none_without_words() -> None:
    assert FULL.wer == 1 / 9
    assert UtteranceScores(utterance_id="x", wer_errors=0, wer_words=0).wer is None
    assert UtteranceScores(utterance_id="x").wer is None


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        UtteranceScores(utterance_id="x", dnsmos_ovrl=float("nan")).to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "lack their utterance_id"),
        ('{"utterance_id": "a", "mos": 3}', "unknown field 'mos'"),
        ('{"utterance_id": "a", "dnsmos_ovrl": "3"}', "'dnsmos_ovrl'.*wrong type"),
        ('{"utterance_id": "a", "dnsmos_ovrl": true}', "wrong type"),
        ('{"utterance_id": "a", "wer_errors": 1.5}', "wrong type"),
        ('{"utterance_id": "a", "transcript": 3}', "wrong type"),
        ('{"utterance_id": "a", "guards": null}', "wrong type"),
        ('{"utterance_id": "a", "failures": []}', "wrong type"),
        ('{"utterance_id": "a", "provenance": null}', "wrong type"),
        ('{"utterance_id": "a", "duration_s": NaN}', "'duration_s'.*not finite: nan"),
        ('{"utterance_id": "a", "dnsmos_ovrl": -Infinity}', "'dnsmos_ovrl'.*not finite: -inf"),
        ('{"utterance_id": "a", "extra": {"kl": NaN}}', "'extra.kl'.*not finite: nan"),
    ],
)
def test_damaged_scores_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ScoresError, match=message):
        UtteranceScores.from_json(text)


def test_scores_from_before_provenance_still_load() -> None:
    mapping = FULL.to_mapping()
    del mapping["provenance"]
    assert UtteranceScores.from_mapping(mapping).provenance == ""
