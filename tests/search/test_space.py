"""The grid: what this device can do, what is the same, what is tried first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search.config import ConfigError, SweepConfig, load_config
from search.space import RECIPES, Candidate, Space, options_of, recipes, resolve
from tts.device import DeviceCaps
from tts.errors import InapplicableError
from tts.options import Options

CPU = DeviceCaps(
    type="cpu", name="a CPU", torch_name="cpu", capability=None, memory_bytes=1 << 33,
    n_threads=2, cpu_flags=("avx2", "avx512"),
)  # fmt: skip
H200 = replace(CPU, type="cuda", name="an H200", torch_name="cuda:0", capability=(9, 0))


def config(folder: Path, text: str = "") -> SweepConfig:
    path = folder / "sweep.yaml"
    path.write_text("study: a\nprompts: {path: p}\n" + text, encoding="utf-8")
    return load_config(path)


def quickstart() -> SweepConfig:
    return load_config(Path(__file__).parents[2] / "configs" / "quickstart.yaml")


@pytest.mark.parametrize("caps", [CPU, H200])
def test_the_quickstart_fits_a_cpu_and_a_gpu(caps: DeviceCaps) -> None:
    space = resolve(quickstart(), caps)
    found, _ = recipes(quickstart(), space)
    assert len(space.distinct) >= 40
    assert len(found) >= 4


def test_auto_is_what_the_device_can_do(tmp_path: Path) -> None:
    on_cpu, on_gpu = (resolve(config(tmp_path), caps) for caps in (CPU, H200))
    assert "tf32" not in on_cpu.choices["precision"]
    assert "tf32" in on_gpu.choices["precision"]
    assert set(on_cpu.choices["attention"]) < set(on_gpu.choices["attention"])


def test_a_listed_value_that_the_device_cannot_do_is_an_error(tmp_path: Path) -> None:
    asked = config(tmp_path, "space:\n  precision:\n    - fp32\n    - tf32\n")
    resolve(asked, H200)
    with pytest.raises(ConfigError, match=r"sweep.yaml:6: space.precision.1: tf32: .*NVIDIA"):
        resolve(asked, CPU)


def test_a_baseline_that_the_device_cannot_do_is_an_error(tmp_path: Path) -> None:
    asked = config(tmp_path, "baseline:\n  attention: cudnn\n  precision: bf16\n")
    with pytest.raises(ConfigError, match=r"sweep.yaml:4: baseline.attention: cudnn"):
        resolve(asked, CPU)


def test_a_space_with_nothing_that_runs_is_empty(tmp_path: Path) -> None:
    text = "space: {precision: [bf16], attention: [flash], kv_cache: [static], compile: [none]}"
    with pytest.raises(ConfigError, match="the space is empty: no combination"):
        resolve(config(tmp_path, text), H200)


def test_an_equivalent_may_be_listed(tmp_path: Path) -> None:
    space = resolve(config(tmp_path, "space: {compile: [reduce-overhead]}"), CPU)
    assert space.choices["compile"] == ("default",)
    both = resolve(config(tmp_path, "space: {compile: [none, default, reduce-overhead]}"), CPU)
    assert both.choices["compile"] == ("none", "default")


def test_points_and_options_are_inverse(tmp_path: Path) -> None:
    space = resolve(config(tmp_path), CPU)
    for point in list(space.points())[:50]:
        assert space.point(options_of(point)) == point
    assert space.point(Options(batch_size=7)) is None


def test_equivalent_points_share_one_canonical_form(tmp_path: Path) -> None:
    space = resolve(config(tmp_path, "space: {temperature: [0.0], top_p: [0.5, 0.9]}"), CPU)
    asked = [options_of(point) for point in space.points()]
    ran = {c.options for o in asked if isinstance(c := space.candidate(o), Candidate)}
    assert {options.sampling.top_p for options in ran} == {1.0}
    assert ran == set(space.distinct)


def test_a_refused_point_says_why(tmp_path: Path) -> None:
    space = Space(choices={}, caps=H200)
    refused = space.candidate(Options(attention="flash"))
    assert isinstance(refused, InapplicableError)
    assert "16-bit" in str(refused)


def test_recipes_that_do_not_apply_are_named(tmp_path: Path) -> None:
    asked = config(tmp_path, "space: {cfg_weight: [2.0]}")
    found, skipped = recipes(asked, resolve(asked, CPU))
    assert "static-cache" in {candidate.recipe for candidate in found}
    assert any(s.startswith("recipe no-guidance skipped: cfg_weight is limited") for s in skipped)
    assert any(s.startswith("recipe tf32-graphs skipped: precision") for s in skipped)
    assert len(found) + len(skipped) == len(RECIPES)


def test_recipes_may_be_listed_and_are_known(tmp_path: Path) -> None:
    asked = config(tmp_path, "recipes: [compiled]")
    found, skipped = recipes(asked, resolve(asked, CPU))
    assert ([c.recipe for c in found], skipped) == (["compiled"], [])
    assert found[0].options == Options(compile="default", kv_cache="static")
    unknown = config(tmp_path, "recipes:\n  - compield\n")
    with pytest.raises(ConfigError, match=r"sweep.yaml:4: recipes.0: .*did you mean 'compiled'"):
        recipes(unknown, resolve(unknown, CPU))
    none = config(tmp_path, "recipes: []")
    assert recipes(none, resolve(none, CPU)) == ([], [])


def test_what_a_recipe_leaves_out_is_the_baselines(tmp_path: Path) -> None:
    asked = config(tmp_path, "baseline: {precision: bf16}\nrecipes: [static-cache]")
    found, _ = recipes(asked, resolve(asked, CPU))
    assert found[0].options == Options(precision="bf16", kv_cache="static")
