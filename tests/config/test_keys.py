from __future__ import annotations

import pytest

from infogan_dist.config.keys import config_keys, hint, nearest, sections
from infogan_dist.config.reading import dotted, load_config


def test_every_key_of_a_config_is_listed_with_its_meaning() -> None:
    listed = {key.name: key for key in config_keys()}
    assert set(listed) == set(dotted(load_config("debug")))
    assert all(key.meaning.endswith((".", ")")) for key in listed.values()), "each has a docstring"
    assert listed["output"].required
    assert listed["optimizer.G.lr"].default == 1e-3
    assert "collapse" in sections()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("steps", ["train.steps"]),
        ("lr", ["optimizer.D.lr", "optimizer.G.lr", "optimizer.Q.lr"]),
        ("optimizer.lr", ["optimizer.D.lr", "optimizer.G.lr", "optimizer.Q.lr"]),
        ("optimizer.D.betta1", ["optimizer.D.beta1"]),
        ("sampel.every", ["sample.every", "checkpoint.every", "evaluate.every"]),
        ("train.globl_batch", ["train.global_batch"]),
        ("trian", ["train"]),
        ("xyzzy", []),
    ],
)
def test_the_nearest_keys_share_the_last_word_and_then_the_section(key: str, expected: list[str]) -> None:
    assert nearest(key) == expected


def test_names_of_other_trainers_and_keys_that_do_not_exist_have_a_sentence() -> None:
    assert hint("batch_size") == "; did you mean train.global_batch?"
    assert "CUDA_VISIBLE_DEVICES" in hint("device")
    assert "CUDA_VISIBLE_DEVICES" in hint("train.device")
    assert "train.steps" in hint("epochs")
    assert hint("views") == "; it is augmentation since schema version 2"
    assert hint("xyzzy") == ""
