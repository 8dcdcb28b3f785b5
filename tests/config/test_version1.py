from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infogan_dist.config import version1
from infogan_dist.config.reading import changed_numbers, dump_config, load_config, parse_config
from infogan_dist.errors import UserError

OLD_QUICKSTART = """
output: runs/quickstart
data: {name: mnist-mini}
latents: {noise: [{dim: 54, distribution: uniform}], categorical: [10], balanced: true}
networks: {family: paper28, width: 32}
objective:
  information_trains: trunk
  information_from: views
  lambda_clustering: 1
  clustering_from: 15000
  clustering_in_full: 30000
  clustering_evenness: 1.5
  neighbour_partners: 0.5
views: {cut: 0.5, paste: 0.5}
optimizer: {D: {lr: 2e-4, beta2: 0.99}, G: {lr: 1e-3, beta2: 0.99}, Q: {lr: 1e-3}}
schedule: {anneal_from: 70000, anneal_until: 180000}
train: {global_batch: 96, steps: 1875, ema_half_life_images: 5000}
bad_steps: {in_a_row: 5, look_every: 20}
processes: {own_cores: false}
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    version1._logged.clear()
    file = tmp_path / "old.yaml"
    file.write_text(OLD_QUICKSTART)
    return file


def test_the_quickstart_of_version_1_trains_the_same_numbers(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    translated = load_config(old)
    then = ("objective.lambda_categorical=1", "optimizer.D.lr=2e-4")  # what the config has changed since
    now = load_config("quickstart", ["schedule.images=180000", "nonfinite={max_in_a_row: 5, check_every: 20}", *then])
    assert list(changed_numbers(translated, now)) == []
    assert not translated.processes.pin_cores
    (line,) = caplog.messages
    for word in (str(old), "views (now augmentation)", "bad_steps (now nonfinite)", "schedule.anneal_until"):
        assert word in line


def test_it_is_logged_once(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        load_config(old)
    assert len(caplog.messages) == 1


def test_a_dumped_version_1_config_loads_as_a_recorded_one_does(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(old)
    caplog.clear()
    assert parse_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config
    (old.parent / "new.yaml").write_text(dump_config(config))
    assert load_config(old.parent / "new.yaml") == config
    assert caplog.messages == []


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.integers(1, 10**9), st.integers(1, 10**9))
def test_images_come_back_exactly(steps: int, batch: int, start: int, length: int) -> None:
    logging.disable()
    config = parse_config(
        {
            "schema_version": 1,
            "output": "x",
            "schedule": {"anneal_from": start, "anneal_until": start + length},
            "train": {"steps": steps, "global_batch": batch},
        }
    )
    logging.disable(logging.NOTSET)
    assert round(config.schedule.anneal_from * config.run_images) == start
    assert round(config.schedule.anneal_until * config.run_images) == start + length


def test_without_a_schedule_nothing_decays() -> None:
    config = parse_config({"schema_version": 1, "output": "x", "schedule": {"final": 0.5}})
    assert config.schedule.kind == "constant"


def test_cuts_and_pastes_that_version_1_left_out_stay_off() -> None:
    config = parse_config({"schema_version": 1, "output": "x", "objective": {"information_from": "views"}})
    assert (config.augmentation.cut, config.augmentation.paste, config.augmentation.rotation) == (0, 0, 0.3)
    assert config.objective.information_from == "augmented"


def test_a_config_of_now_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    load_config("quickstart", ["schedule.anneal_from=0.1"])
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("views.cut=0.1", ["unknown config key views", "it is augmentation since schema version 2"]),
        ("objective.clustering_evenness=2", ["it is objective.clustering_entropy_weight since"]),
        ("schedule.anneal_until=180000", ["schedule.anneal_until = 180000", "a fraction of the run"]),
    ],
)
def test_an_old_key_on_the_command_line_is_refused_with_its_new_name(override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [override])
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "values", [{"views": 3}, {"schedule": 3}, {"objective": []}, {"train": {"steps": "x"}}, {"bad_steps": 1}]
)
def test_nonsense_is_refused_by_name(values: dict[str, object]) -> None:
    with pytest.raises(UserError):
        parse_config({"schema_version": 1, "output": "x", **values})
