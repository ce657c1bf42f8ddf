"""``mosgate profile``: from the command line to files, and every mistake in a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from search import cli
from search.commands import profile as command
from search.config import load_config
from search.export import export
from search.profiling import measure
from search.profiling.record import Part, Profile, stages_of
from search.profiling.subject import Plan, Subject
from tests.search import profile_fixtures
from tests.search import record_fixtures as fixtures
from tests.search.command_line import ROOM, Capture, Row
from tts.device import probe
from tts.options import Options
from tts.types import Audio, AudioChunk, Utterance

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
FILES = ["profile.html", "profile.json", "trace.json"]
FAKE = "tests.search.fakes:FakeVoice"
NEW = ["-o", "TMP/new", "--root", "TMP/mlruns"]

TABLE: list[Row] = [
    (["profile", *NEW, "--set", "precison=bf16"], 2, "", "did you mean precision?"),
    (["profile", *NEW, "--set", "precision=bf17"], 2, "", "'bf17' is not one of"),
    (["profile", *NEW, "--set", "precision"], 2, "", "write key=value"),
    (["profile", *NEW, "--text", " "], 2, "", "the text is empty"),
    (["profile", *NEW, "--repeats", "1"], 2, "", "give at least 2"),
    (["profile", *NEW, "--seconds", "-1"], 2, "", "give a time of 0 or more"),
    (["profile", *NEW, "--seconds", "nan"], 2, "", "give a time of 0 or more"),
    (["profile", *NEW, "--batches", "1,two"], 2, "", "write different whole numbers"),
    (["profile", *NEW, "--batches", "0,1"], 2, "", "write different whole numbers"),
    (["profile", *NEW, "--batches", "²"], 2, "", "write different whole numbers"),
    (["profile", *NEW, "--batches", "2,2"], 2, "", "write different whole numbers"),
    (["profile", "TMP/none.yaml", *NEW], 2, "", "none.yaml: cannot be read"),
    (["profile", "TMP/odd.yaml", *NEW], 2, "", "odd.yaml:5: baseline.precision"),
    (["profile", "TMP/odd.yaml", *NEW, "--winner", "TMP"], 2, "", "name one of them"),
    (["profile", *NEW, "--winner", "TMP/none.yaml"], 2, "", "cannot be read"),
    (["profile", "-o", "TMP"], 2, "", "is not empty; name another folder, or use --force"),
    (["profile", "-o", "TMP", "--force"], 2, "", "replaces an earlier profile only"),
    (["profile", "-o", "TMP/odd.yaml"], 2, "", "is a file"),
    (["profile", "-o", "TMP/odd.yaml/new"], 2, "", "name a folder you may write to"),
    (["profile", *NEW, "--model", "embeded"], 2, "", "did you mean 'embedded'?"),
    (["profile", *NEW, "--device", "cuda:99"], 3, "", "device=cuda:99"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(row[0][1:]))
def test_what_cannot_be_profiled(row: Row, tmp_path: Path, capsys: Capture) -> None:
    lines = ["study: odd", "prompts:", "  path: a.tsv", "baseline:", "  precision: bf17"]
    (tmp_path / "odd.yaml").write_text("\n".join(lines), encoding="utf-8")
    words, code, _, err = row
    typed = [word.replace("TMP", str(tmp_path)) for word in words]
    assert cli.main(typed) == code
    captured = capsys.readouterr()
    last = [line for line in captured.err.splitlines() if not line.startswith("profile: ")]
    assert last[0].startswith("mosgate: ")
    assert err in captured.err
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["odd.yaml"]


def test_a_text_with_nothing_to_speak_is_refused(tmp_path: Path, capsys: Capture) -> None:
    row: Row = (["profile", *NEW, "--text", "..."], 2, "", "'profile-0': the text has nothing")
    assert cli.main([w.replace("TMP", str(tmp_path)) for w in row[0]]) == 2
    assert row[3] in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Record what would be profiled, and give a made-up profile."""
    plans: list[Plan] = []

    def take(plan: Plan, folder: Path, say: Any) -> Profile:  # noqa: ANN401
        plans.append(plan)
        (folder / "trace.json").write_text("{}", encoding="utf-8")
        return profile_fixtures.profile()

    monkeypatch.setattr(measure, "take", take)
    monkeypatch.setattr(command, "_tell", lambda *_: "")
    return plans


def run(tmp_path: Path, *words: str) -> int:
    return cli.main(["profile", "-o", str(tmp_path / "new"), *words])


def test_the_default_is_the_quickstarts_baseline(tmp_path: Path, asked: list[Plan]) -> None:
    assert run(tmp_path) == 0
    (plan,) = asked
    config = load_config(ROOM / "configs" / "quickstart.yaml")
    assert (plan.options, plan.model, plan.device) == (config.baseline, config.model, config.device)
    assert (plan.texts, plan.threads) == (config.measure.texts, config.measure.threads)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == FILES


def test_a_file_names_the_baseline_and_options_go_on_top(tmp_path: Path, asked: list[Plan]) -> None:
    values = yaml.safe_load((ROOM / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    values["baseline"] |= {"precision": "bf16", "sampling": {"top_k": 7}}
    values["measure"] |= {"threads": 2, "texts": ["Hello there.", "Good morning."]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    words = ["--set", "kv_cache=static", "--device", "cpu", "--batches", "4,2"]
    assert run(tmp_path, str(path), *words) == 0
    (plan,) = asked
    assert (plan.options.precision, plan.options.kv_cache) == ("bf16", "static")
    assert plan.options.sampling.top_k == 7
    assert (plan.threads, plan.device, plan.batch_sizes) == (2, "cpu", (2, 4))
    assert [u.text for u in plan.utterances(3)] == ["Hello there.", "Good morning.", "Hello there."]


def test_a_winner_is_profiled_as_it_was_exported(tmp_path: Path, asked: list[Plan]) -> None:
    export(fixtures.result(), tmp_path / "won", config={"model": "embedded"})
    assert run(tmp_path, "--winner", str(tmp_path / "won"), "--text", "a", "--text", "b") == 0
    (plan,) = asked
    assert (plan.options.compile, plan.options.batch_size) == ("default", 4)
    assert plan.texts == ("a", "b")


def test_a_winner_is_profiled_as_it_was_measured(tmp_path: Path, asked: list[Plan]) -> None:
    texts = ["Hello there.", "Good morning."]
    measured = {"repeats": 7, "warmup": 1, "threads": 2, "texts": texts}
    config = {"model": "embedded", "measure": measured}
    export(fixtures.result(), tmp_path / "won", config=config)
    assert run(tmp_path, "--winner", str(tmp_path / "won" / "winner.yaml")) == 0
    assert (asked[0].texts, asked[0].threads) == (tuple(texts), 2)
    (tmp_path / "won" / "config.json").write_text('{"measure": {"texts": 3}}', encoding="utf-8")
    assert run(tmp_path, "--force", "--winner", str(tmp_path / "won")) == 2


def test_json_alone_is_printed_for_programs(
    tmp_path: Path, asked: list[Plan], capsys: Capture
) -> None:
    assert run(tmp_path, "--json") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads((tmp_path / "new" / "profile.json").read_text())


def test_force_replaces_an_earlier_profile(tmp_path: Path, asked: list[Plan]) -> None:
    assert run(tmp_path) == 0
    (tmp_path / "new" / "old.txt").touch()
    assert run(tmp_path) == 2
    assert run(tmp_path, "--force") == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == FILES


def test_an_interruption_leaves_what_was_there(
    tmp_path: Path, asked: list[Plan], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupted(plan: Plan, folder: Path, say: Any) -> Profile:  # noqa: ANN401
        (folder / "trace.json").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    assert run(tmp_path) == 0
    before = (tmp_path / "new" / "profile.json").read_text(encoding="utf-8")
    monkeypatch.setattr(measure, "take", interrupted)
    assert run(tmp_path, "--force") == 130
    assert "interrupted" in capsys.readouterr().err
    assert cli.main(["profile", "-o", str(tmp_path / "other")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "profile.json").read_text(encoding="utf-8") == before
    assert (tmp_path / "new" / "trace.json").read_text(encoding="utf-8") == "{}"


def test_mlflow_being_away_is_a_warning(
    tmp_path: Path, asked: list[Plan], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(command, "_tell", lambda *_: "OSError: no database")
    assert run(tmp_path) == 0
    assert "warning: MLflow was not told: OSError: no database" in capsys.readouterr().err


def test_a_model_that_tells_nothing_is_said_to(tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ANN401
    """An adapter with the three methods of a synthesizer: the rest is unknown, never zero."""
    plan = Plan(
        model=FAKE, options=Options(), device="cpu", texts=("Hello.",), repeats=2,
        batch_sizes=(1, 2),
    )  # fmt: skip
    monkeypatch.setattr("evaluation.roofline._COPY_BYTES", {"cpu": 2**22})
    monkeypatch.setattr("evaluation.roofline._PRODUCT_WIDTH", {"cpu": 256})
    found = measure.take(plan, tmp_path, lambda said: None)
    assert (found.stages, found.parts, found.bottlenecks) == ((), (), ())
    assert "does not tell its stages" in " ".join(found.notes)
    for name in ("step.time", "step.roofline", "memory.weights_seen", "memory.cache_computed"):
        assert found.figures[name].value is None
        assert "does not tell its decode step" in found.figures[name].unknown
    assert found.figures["gpu.power"].unknown == "not on a CPU"
    assert found.figures["ceiling.bandwidth"].value
    assert [row.batch_size for row in found.batches] == [1, 2]
    assert (tmp_path / "trace.json").is_file()


def test_every_text_is_spoken_equally_often(tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ANN401
    monkeypatch.setattr("evaluation.roofline._COPY_BYTES", {"cpu": 2**22})
    monkeypatch.setattr("evaluation.roofline._PRODUCT_WIDTH", {"cpu": 256})
    plan = Plan(
        model=FAKE, options=Options(), device="cpu", texts=("Hello.", "A longer one.", "Third."),
        repeats=2, batch_sizes=(1, 2),
    )  # fmt: skip
    subject = Subject(plan, probe("cpu"), 2)
    said: list[str] = []
    speak = subject.synthesizer.synthesize

    def spy(utterances: Sequence[Utterance]) -> list[Audio]:
        said.extend(utterance.text for utterance in utterances)
        return speak(utterances)

    monkeypatch.setattr(subject.synthesizer, "synthesize", spy)
    subject.warm_up(1)
    assert set(said) == set(plan.texts)
    said.clear()
    calls = subject.time_calls(2)
    assert {text: said.count(text) for text in plan.texts} == dict.fromkeys(plan.texts, 2)
    assert calls.latency.n == 3
    seconds = sum(audio.duration_s for audio in calls.audios)
    assert calls.figures["audio"].value == pytest.approx(seconds / 3)
    assert calls.figures["rtf"].value == pytest.approx(sum(calls.latency.samples) / seconds)
    assert calls.figures["latency.p95"].unknown == "3 calls are too few for it: 20"


def test_a_stream_that_fails_is_not_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(model=FAKE, options=Options(), device="cpu", texts=("Hello.",))
    subject = Subject(plan, probe("cpu"))

    def failing(utterance: Utterance) -> Iterator[AudioChunk]:
        raise RuntimeError("no room")

    monkeypatch.setattr(subject.synthesizer, "stream", failing)
    assert subject.time_first_audio(2).unknown == "its stream failed: RuntimeError: no room"


def test_options_stay_as_given_for_the_batch_sizes() -> None:
    """Continuous batching at one sentence is static; at eight it is what was asked for."""
    plan = Plan(
        model=FAKE, options=Options(batching="continuous", kv_cache="static"), device="cpu",
        texts=("Hello.",),
    )  # fmt: skip
    assert Subject(plan, probe("cpu")).options.batching == "static"
    assert Subject(plan, probe("cpu"), 8).options.batching == "continuous"


def test_a_share_of_a_stage_is_none_of_the_call() -> None:
    part = Part(name="embed", stage="prefill", share=profile_fixtures.share(0.5), how="")
    assert measure._of_the_call(part, ()).share.unknown == "its stage is not told"
    stages = stages_of(profile_fixtures.LATENCY, [profile_fixtures.TOLD] * 2)
    assert measure._of_the_call(part, stages).share.value == pytest.approx(0.045)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of the voice that ships with us, on the CPU, of one word."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.roofline._COPY_BYTES", {"cpu": 2**25})
        patch.setattr("evaluation.roofline._PRODUCT_WIDTH", {"cpu": 256})
        words = [
            "profile", "-o", str(folder / "new"), "--root", str(folder / "mlruns"), "--text", "Hi.",
            "--device", "cpu", "--repeats", "2", "--batches", "1,2", "--seconds", "1000",
        ]  # fmt: skip
        assert cli.main(words) == 0
    return folder


@pytest.mark.slow
@pytest.mark.timeout(180)  # the database's migrations and a model, on two cores
def test_the_real_voice_is_taken_apart(real: Path) -> None:
    values = json.loads((real / "new" / "profile.json").read_text(encoding="utf-8"))
    names = [stage["name"] for stage in values["stages"]]
    assert names == ["text", "prefill", "decode", "vocoder", "other"]
    assert sum(stage["share"] for stage in values["stages"]) == pytest.approx(1)
    assert len(values["stages"][2]["samples"]) == 2
    parts = {part["name"]: part["share"] for part in values["parts"]}
    assert 0 < parts["sampling"]["value"] < values["stages"][2]["share"]
    assert 0 < parts["head"]["value"] < values["stages"][2]["share"]
    assert parts["copies"]["unknown"] == "not on a CPU"
    figures = values["figures"]
    # 10.4 M parameters of the language model's layers and head, 4 bytes each.
    assert 41e6 < figures["step.weights"]["value"] < 42e6
    assert figures["memory.cache_seen"] == figures["memory.cache_computed"]
    assert figures["step.operators"]["value"] > 100
    assert 0 < figures["step.products"]["value"] < 1
    achieved = figures["step.bandwidth"]["value"] / figures["ceiling.bandwidth"]["value"]
    assert figures["step.roofline"]["value"] == pytest.approx(achieved)
    assert {figures[f"gpu.{n}"]["unknown"] for n in ("utilization", "power")} == {"not on a CPU"}
    assert not any(f["value"] == 0 for name, f in figures.items() if name.startswith("gpu."))
    assert [row["batch_size"] for row in values["batches"]] == [1, 2]
    assert all(row["latency"]["value"] > 0 for row in values["batches"])
    assert len(values["bottlenecks"]) == 3
    shares = [found["share"] for found in values["bottlenecks"]]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.slow
@pytest.mark.timeout(180)  # the database's migrations and a model, on two cores
def test_the_trace_is_small_and_names_its_parts(real: Path) -> None:
    path = real / "new" / "trace.json"
    assert path.stat().st_size < 16 * 2**20
    names = {e.get("name") for e in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]}
    assert {"prefill", "decode_step", "embed", "head", "sampling", "vocoder"} <= names


@pytest.mark.slow
@pytest.mark.timeout(180)  # the database's migrations and a model, on two cores
def test_mlflow_has_it_as_a_run_of_its_own(real: Path) -> None:
    from mlflow import MlflowClient

    from search.tracking import PROFILES, database_uri

    client = MlflowClient(tracking_uri=database_uri(real / "mlruns"))
    experiment = client.get_experiment_by_name(PROFILES)
    assert experiment is not None
    (told,) = client.search_runs([experiment.experiment_id])
    assert told.info.status == "FINISHED"
    assert told.info.run_name == "fp32 eager dynamic b1"
    assert told.data.tags["mosgate.role"] == "profile"
    assert told.data.params["kv_cache"] == "dynamic"
    assert told.data.metrics["step.roofline_share"] > 0
    assert "gpu.power_w" not in told.data.metrics
    assert sorted(a.path for a in client.list_artifacts(told.info.run_id)) == FILES
    history = client.get_metric_history(told.info.run_id, "batch/latency_s")
    assert sorted(metric.step for metric in history) == [1, 2]
