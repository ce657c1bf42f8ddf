"""The hash of what a score depends on: what moves it, and what does not."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

import pytest
import torch
from whisper.model import ModelDimensions, Whisper

from evaluation import provenance
from evaluation.asr import embedded, load
from evaluation.errors import JudgeError
from evaluation.judge import Judge
from evaluation.provenance import code_digest, describe, references_digest, score_hash
from evaluation.scores import Clip
from tests.evaluation.sounds import voice, write

SAID = {"dnsmos": "1", "asr": "embedded", "asr_sha256": "ab"}
SOURCES = [p.relative_to(provenance.ROOM) for p in provenance._sources(provenance.ROOM)]


def copy_of_the_room(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
    return Path(shutil.copytree(provenance.ROOM, folder / "evaluation", ignore=ignored))


def test_the_metrics_the_ear_and_the_guards_are_among_the_code() -> None:
    names = {path.as_posix() for path in SOURCES}
    assert {"metrics/dnsmos.py", "metrics/wer.py", "asr/recogniser.py", "guards.py"} <= names
    assert not {"gate.py", "statistics.py", "wording.py", "judge.py"} & names


# Shapes of data, the errors and the child that calls the metrics: none of them makes a score.
NO_SCORES = {"errors.py", "judge_child.py", "provenance.py", "scores.py", "verdict.py"}


def test_no_code_that_scores_is_left_out() -> None:
    """Whatever the counted files import of this room is counted, or named as making no score."""
    imported = set()
    for source in SOURCES:
        tree = ast.parse((provenance.ROOM / source).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evaluation."):
                imported.add((node.module or "").split(".")[1])
    files = {f"{name}.py" for name in imported if (provenance.ROOM / f"{name}.py").exists()}
    assert files <= set(provenance.CODE) | NO_SCORES


@pytest.mark.parametrize("source", SOURCES, ids=Path.as_posix)
def test_a_byte_more_in_what_scores_changes_the_digest(source: Path, tmp_path: Path) -> None:
    room = copy_of_the_room(tmp_path)
    before = code_digest(room)
    (room / source).write_bytes((room / source).read_bytes() + b"\n")
    assert code_digest(room) != before


def test_the_place_of_the_checkout_and_of_other_code_does_not(tmp_path: Path) -> None:
    room = copy_of_the_room(tmp_path / "some" / "where")
    assert code_digest(room) == code_digest(provenance.ROOM)
    for other in ("gate.py", "metrics/notes.txt"):
        (room / other).write_text("# anything\n", encoding="utf-8")
    assert code_digest(room) == code_digest(provenance.ROOM)


def test_a_file_that_moves_changes_the_digest(tmp_path: Path) -> None:
    room = copy_of_the_room(tmp_path)
    (room / "metrics" / "pesq.py").rename(room / "metrics" / "pesq_wb.py")
    assert code_digest(room) != code_digest(provenance.ROOM)


def test_the_order_of_the_keys_is_nothing_and_every_value_is_something() -> None:
    assert score_hash(SAID) == score_hash(dict(reversed(SAID.items())))
    assert len(score_hash(SAID)) == 16
    others = [{**SAID, key: "other"} for key in ("dnsmos", "asr_sha256")] + [{**SAID, "new": "1"}]
    assert len({score_hash(other) for other in [SAID, *others]}) == 4


def test_a_recogniser_is_its_bytes_where_they_are_known_and_its_name_where_not() -> None:
    assert score_hash({**SAID, "asr": "embedded:/elsewhere"}) == score_hash(SAID)
    assert score_hash({"asr": "a"}) != score_hash({"asr": "b"})


def ear(folder: Path, seed: int) -> Path:
    """Write an untrained ear of a few kilobytes."""
    torch.manual_seed(seed)
    dims = ModelDimensions(80, 1500, 8, 1, 1, 4, 8, 8, 1, 1)
    model = Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding)
    with torch.no_grad():
        model.decoder.ln.weight[0], model.decoder.ln.bias[0] = 0.0, 1.0
    whole = ModelDimensions(80, 1500, 8, 1, 1, 51_864, 8, 8, 1, 1)
    state = dict(model.named_parameters())
    embedded.save(folder, whole, state, torch.tensor([0, 1, 50256, 50257]), {})
    torch.save(embedded.checkpoint(folder), folder / "ear.pt")
    return folder


@pytest.mark.parametrize("form", ["embedded:{}", "{}/ear.pt"])
def test_another_recogniser_changes_the_hash_and_another_place_does_not(
    tmp_path: Path, form: str
) -> None:
    first = ear(tmp_path / "first", 0)
    again = shutil.copytree(first, tmp_path / "again")
    other = ear(tmp_path / "other", 1)
    found = [score_hash(load(form.format(path)).provenance) for path in (first, again, other)]
    assert found[0] == found[1] != found[2]


def test_the_ear_that_ships_is_known_by_its_bytes() -> None:
    sha256 = load("embedded").provenance["asr_sha256"]
    path = embedded.WEIGHTS_DIRECTORY / embedded.WEIGHTS
    assert sha256 == provenance.file_sha256(path)


def test_a_metric_of_somebody_elses_counts_by_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "their_metric.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    digests = []
    for content in ("class Theirs: pass\n", "class Theirs: pass  # now better\n"):
        source.write_text(content, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "their_metric", raising=False)
        module = __import__("their_metric")
        digests.append(describe([module.Theirs()])["their_metric_sha256"])
    assert digests[0] != digests[1]


def test_references_are_known_by_content() -> None:
    first = references_digest({"a": "one", "b": "two"})
    assert first == references_digest({"b": "two", "a": "one"})
    assert first != references_digest({"a": "one", "b": "too"})
    assert first != references_digest({"a": "two", "b": "one"})


def test_every_score_carries_the_hash_and_other_references_give_another(tmp_path: Path) -> None:
    wavs = [write(tmp_path / f"{i}.wav", voice(0.5, seed=i)) for i in range(2)]
    hashes = []
    for said in ("hello there", "hello there", "hello then"):
        clips = [Clip(utterance_id=w.stem, wav_path=w, reference=said) for w in wavs]
        digest = references_digest({clip.utterance_id: clip.reference for clip in clips})
        with Judge("none", 1, 20.0, metrics=("guards",), references=digest) as judge:
            (known,) = {scores.provenance for scores in judge.score(clips)}
            assert known == score_hash(judge.provenance())
        hashes.append(known)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_child_that_runs_other_code_than_the_first_is_refused() -> None:
    with Judge("none", 1, 20.0, metrics=("guards",)) as judge:
        known = judge.provenance()
        judge._learn(known)
        with pytest.raises(JudgeError, match="changed while this judge was at work"):
            judge._learn({**known, "code_sha256": "0"})
