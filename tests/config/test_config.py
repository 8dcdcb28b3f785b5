from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infogan_dist.config import yaml_core
from infogan_dist.config.reading import changed_numbers, dotted, dump_config, load_config, parse_config
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.latents import LatentSpec
from tests.conftest import ROOT, SHIPPED, root_of


def said(values: object) -> str:
    with pytest.raises(UserError) as caught:
        parse_config({"output": "x", **values})  # type: ignore[dict-item]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_importing_the_config_does_not_import_torch() -> None:
    code = "import sys, infogan_dist.config.reading; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_loads_by_path_and_by_name(name: str) -> None:
    config = load_config(ROOT / "configs" / f"{name}.yaml", root_of(name))
    assert load_config(name, root_of(name)) == config
    assert parse_config(yaml_core.load(dump_config(config), "dump")) == config


@pytest.mark.parametrize("name", [name for name in SHIPPED if root_of(name)])
def test_a_config_of_a_folder_asks_for_it(name: str) -> None:
    with pytest.raises(UserError, match=r"data\.root is required when data\.name = folder"):
        load_config(name)


def test_lab6_two_noise_differs_from_lab6_only_in_its_noise() -> None:
    two, one = load_config("lab6_two_noise"), load_config("lab6")
    differing = {key for key, value in dotted(two).items() if dotted(one)[key] != value}
    assert differing == {"output", "latents.noise"}
    assert [(source.dim, source.distribution) for source in two.latents.noise] == [(27, "uniform"), (27, "normal")]
    assert LatentSpec.from_config(two.latents).noise_dim == LatentSpec.from_config(one.latents).noise_dim


def test_faces_and_chairs_have_the_latents_of_the_papers_appendix() -> None:
    faces, chairs = (load_config(f"{name}_paper", root_of(f"{name}_paper")) for name in ("faces", "chairs"))
    assert [LatentSpec.from_config(config.latents).dim for config in (faces, chairs)] == [133, 189]
    assert (faces.latents.categorical, faces.latents.continuous) == ((), 5)
    assert (chairs.latents.categorical, chairs.latents.continuous) == ((20, 20, 20), 1)
    assert [(config.data.image_size, config.data.channels) for config in (faces, chairs)] == [(32, 1), (64, 1)]


@pytest.mark.parametrize("name", ["quickstart", "mnist", "scenes", "cifar10", "debug"])
def test_our_own_configs_suit_many_process_counts(name: str) -> None:
    assert all(load_config(name).train.global_batch % processes == 0 for processes in (1, 2, 3, 4, 6, 8))


def test_lab6_is_the_report() -> None:
    config = load_config("lab6")
    spec = LatentSpec.from_config(config.latents)
    assert (config.data.image_size, config.train.global_batch) == (64, 100)
    assert (spec.noise_dim, spec.noise[0].distribution, spec.categorical, spec.continuous) == (54, "uniform", (10,), 0)
    assert config.objective.information_trains == "heads"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trian": {}}, ["unknown config key trian", "did you mean train?"]),
        ({"train": {"globl_batch": 3}}, ["train.globl_batch", "did you mean train.global_batch?"]),
        ({"lr": 1e-3}, ["unknown config key lr", "optimizer.D.lr"]),
        ({"train": {"steps": "many"}}, ['train.steps = "many"', "integer"]),
        ({"train": {"steps": True}}, ["train.steps = true"]),
        ({"train": {"threads": "all"}}, ['train.threads = "all"']),
        ({"train": {"precision": "fp8"}}, ["train.precision", "'fp16'"]),
        ({"train": 3}, ["train = 3", "mapping"]),
        ({"train": {"compile": True}}, ["train.compile = true", "'default'"]),
        ({"train": {"compile": "reduce-overhead"}}, ["train.compile", "reduce-overhead", "'default'"]),
        ({"train": {"cuda_graph": True, "precision": "fp16"}}, ["train.cuda_graph", "fp16"]),
        (
            {"train": {"cuda_graph": True}, "schedule": {"kind": "linear", "beta2_final": 0.99}},
            ["schedule.beta2_final = 0.99", "train.cuda_graph = false"],
        ),
        ({"schedule": {"beta2_final": 0.99}}, ["schedule.beta2_final = 0.99 needs a decay", "schedule.kind"]),
        (
            {"schedule": {"kind": "linear", "penalty_final": 0.1}},
            ["schedule.penalty_final = 0.1", "objective.r1_gamma"],
        ),
        (
            {
                "latents": {"categorical": [], "continuous": 2},
                "objective": {"information_trains": "trunk", "lambda_clustering": 1.0},
            },
            ["objective.lambda_clustering = 1.0", "latents.categorical is empty", "[10]"],
        ),
        (
            {"latents": {"prior": "learned"}},
            ["latents.prior = learned", "objective.information_trains = trunk; set it"],
        ),
        (
            {"latents": {"prior": "learned", "categorical": [], "continuous": 2}},
            ["latents.prior = learned needs a categorical code", "[10]"],
        ),
        (
            {
                "latents": {"prior": "learned"},
                "objective": {"information_trains": "trunk", "lambda_categorical": 0.0},
            },
            ["objective.lambda_categorical = 0", "leave them untrained"],
        ),
        ({"latents": {"continuous": 2, "levels": 1}}, ["latents.levels = 1 makes", "use 10, say, or 0"]),
        ({"latents": {"levels": 10}}, ["latents.levels = 10", "latents.continuous = 0; raise it"]),
        ({"latents": {"prior_from": 0.5}}, ["latents.prior_from = 0.5 needs latents.prior = learned"]),
        (
            {"objective": {"adversarial": "hinge", "label_smoothing": 0.1}},
            ["objective.label_smoothing = 0.1", "objective.adversarial = hinge", "use standard or least-squares"],
        ),
        (
            {"objective": {"adversarial": "wasserstein"}},
            ["objective.adversarial = wasserstein", "has no minimum", "objective.lambda_gradient_penalty = 10"],
        ),
        (
            {"objective": {"adversarial": "wasserstein", "lambda_gradient_penalty": 10.0}},
            ["objective.lambda_gradient_penalty = 10", "norm_D = batch", "use networks.norm_D = none"],
        ),
        (
            {"networks": {"family": "resnet"}, "data": {"image_size": 32}},
            ["networks.norm_G = batch, networks.norm_D = batch", "use networks.norm_G = none, networks.norm_D = none"],
        ),
        (
            {"networks": {"family": "resnet", "norm_G": "none", "norm_D": "spectral"}, "data": {"image_size": 32}},
            ["networks.norm_D = spectral, but networks.family = resnet has no norms; use networks.norm_D = none"],
        ),
        ({"optimizer": {"D": {"lr": float("inf")}}}, ["optimizer.D.lr"]),
        ({"latents": {"noise": []}}, ["latents.noise"]),
        ({"latents": {"categorical": [1]}}, ["latents.categorical", "= 1:", "2"]),
        ({"data": {"image_size": 64}}, ["data.image_size = 64", "paper28", "28"]),
        ({"networks": {"family": "dcgan"}, "data": {"image_size": 48}}, ["48", "dcgan", "32, 64, 128 or 256"]),
        ({"data": {"name": "folder"}}, ["data.root"]),
        ({"data": {"channels": 3}}, ["data.channels = 3", "grey"]),
        ({"train": {"accumulate": 7}}, ["train.accumulate = 7", "train.global_batch = 100"]),
        ({"schema_version": 3}, ["schema_version = 3"]),
        ({"output": ""}, ["output is empty"]),
        ({"output": "runs/a\0b"}, ["output contains a NUL"]),
        ({"output": "runs/" + "a" * 300}, ["output has a name of 300 bytes"]),
        ({"output": "a/" * 2000}, ["output has 4000 bytes"]),
        ({"output": "\ud800"}, ["output is not valid Unicode"]),
        ({"data": {"root": "a" * 300}}, ["data.root has a name of 300 bytes"]),
        ({"data": {"root": "a\0"}}, ["data.root contains a NUL"]),
        ({"latents": {"categorical": [], "continuous": 0}}, ["no code", "set latents.categorical = [10]"]),
        ({"latents": {"noise": [{"dim": 10_000}] * 2}}, ["latents have 20010 dimensions"]),
        ({"latents": {"categorical": [10] * 101}}, ["latents.categorical", "100 items"]),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(values: dict[str, object], words: list[str]) -> None:
    message = said(values)
    assert all(word in message for word in words), message


def integer_keys(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a JSON schema that take an integer."""
    for name, child in node.get("properties", {}).items():
        if "$ref" in child:
            yield from integer_keys(schema, schema["$defs"][child["$ref"].rpartition("/")[2]], f"{prefix}{name}.")
        elif "integer" in [each.get("type") for each in child.get("anyOf", [child])]:
            yield f"{prefix}{name}"


INTEGER_KEYS = sorted(integer_keys(Config.model_json_schema(), Config.model_json_schema()))


def test_the_search_for_integer_keys_finds_them() -> None:
    assert {"train.threads", "processes.timeout", "collapse.rows", "latents.continuous", "seed"} <= set(INTEGER_KEYS)


@pytest.mark.parametrize(
    ("objective", "norm_D"),
    [
        ("{adversarial: wasserstein, lambda_gradient_penalty: 10}", "none"),
        ("{adversarial: wasserstein, r1_gamma: 1}", "batch"),
        ("{adversarial: wasserstein}", "spectral"),
        ("{adversarial: least-squares, label_smoothing: 0.1}", "batch"),
        ("{adversarial: hinge, lambda_gradient_penalty: 1}", "spectral"),
    ],
)
def test_adversarial_losses_that_work_are_accepted(objective: str, norm_D: str) -> None:
    load_config("debug", [f"objective={objective}", f"networks.norm_D={norm_D}"])


@pytest.mark.parametrize("key", INTEGER_KEYS)
@pytest.mark.parametrize("value", [2**63, 2**70, 10**400, -(2**70)])
def test_an_absurd_integer_is_refused_by_name(key: str, value: int) -> None:
    with pytest.raises(UserError) as caught:
        load_config("debug", [f"{key}={value}"])
    assert f"{key} = " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override", [f"latents.noise=[{{dim: {2**70}}}]", f"latents.categorical=[{2**70}]", "seed=0x" + "f" * 5000]
)
def test_an_absurd_integer_within_a_list_or_of_many_digits_is_refused(override: str) -> None:
    with pytest.raises(UserError, match=override.partition("=")[0]):
        load_config("debug", [override])


def test_output_is_required() -> None:
    with pytest.raises(UserError, match="output is required"):
        parse_config({})


def test_an_error_says_where_its_key_stands(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("output: x\ntrain:\n  stepz: 3\n")
    with pytest.raises(UserError, match=r"a\.yaml:3"):
        load_config(file)
    file.write_text("output: x\n")
    with pytest.raises(UserError, match=r"train\.steps.*in 'train\.steps=lots'"):
        load_config(file, ["train.steps=lots"])


def test_overrides_win_and_speak_the_same_yaml() -> None:
    config = load_config(
        "debug", ["optimizer.D.lr=3e-4", "output=no", "latents.noise=[{dim: 3, distribution: normal}]"]
    )
    assert config.optimizer.D.lr == 3e-4
    assert config.output == "no"
    assert LatentSpec.from_config(config.latents).noise_dim == 3
    with pytest.raises(UserError, match=r"key\.path=value"):
        load_config("debug", ["steps"])
    with pytest.raises(UserError, match="no keys below"):
        load_config("debug", ["output.x=1"])


def test_a_missing_config_names_the_shipped_ones() -> None:
    with pytest.raises(UserError, match="quickstart"):
        load_config("quickstrat")


def test_a_third_continuous_code_is_a_yaml_edit() -> None:
    assert (
        LatentSpec.from_config(load_config("debug", ["latents.continuous=3"]).latents).code_names[-1] == "continuous_2"
    )


paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50)


@settings(deadline=None)
@given(st.floats(min_value=1e-9, max_value=9.9), st.integers(0, 2**63 - 1), paths)
def test_a_dumped_config_loads_back_unchanged(lr: float, seed: int, output: str) -> None:
    config = parse_config({"output": output, "seed": seed, "optimizer": {"G": {"lr": lr}}})
    assert parse_config(yaml_core.load(dump_config(config), "dump")) == config


def test_only_numbers_count_as_changed() -> None:
    old = load_config("debug", ["data.name=mnist"])
    free = [
        "output=elsewhere",
        "train.steps=7",
        "log.every=3",
        "sample.every=0",
        "checkpoint.keep=9",
        "data.root=here",
        "data.name=mnist",
    ]
    assert list(changed_numbers(old, load_config("debug", free))) == []
    changed = load_config("debug", ["data.name=mnist", "seed=1", "latents.continuous=1", "optimizer.Q.lr=1e-4"])
    assert {key for key, _, _ in changed_numbers(old, changed)} == {"seed", "latents.continuous", "optimizer.Q.lr"}


def test_the_schema_for_editors_is_current() -> None:
    """Mend with `python -m infogan_dist.config.schema > configs/schema.json`."""
    assert json.loads((ROOT / "configs/schema.json").read_text()) == Config.model_json_schema()
