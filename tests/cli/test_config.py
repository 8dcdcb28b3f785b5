from __future__ import annotations

import pytest

from infogan_dist.cli.main import main
from infogan_dist.config.keys import config_keys


def test_all_keys_one_section_or_one_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    everything = capsys.readouterr().out
    assert all(f"\n{key.name} = " in everything for key in config_keys())
    assert main(["config", "schedule"]) == 0
    section = capsys.readouterr().out
    assert "schedule.warm_up = 0.0\n    Fraction of the run" in section
    assert "train.steps" not in section.split("schedule.kind")[1]
    assert main(["config", "latents.categorical"]) == 0
    assert capsys.readouterr().out.startswith("\nlatents.categorical = [10]")


def test_an_unknown_key_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "train.stepz"]) == 2
    assert capsys.readouterr().err == "infogan-dist: there is no config key train.stepz; did you mean train.steps?\n"


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "evaluate" in capsys.readouterr().out


def test_help_of_a_command_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["help", "train"])
    assert "I mutual information bound" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("infogan_dist 0.")


def test_a_config_key_with_dashes_is_refused_with_the_right_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "debug", "--train.steps=3"]) == 2
    assert "config keys have no dashes; write train.steps=3" in capsys.readouterr().err
