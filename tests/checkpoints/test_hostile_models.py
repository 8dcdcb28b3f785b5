"""Model files whose config and weights do not match are refused in one line, before memory for the config is allocated."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from infogan_dist import Generator
from infogan_dist.checkpoints.manifest import sha256, verify, with_checksum
from infogan_dist.checkpoints.state import check_described
from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.distributed.group import Group
from infogan_dist.errors import InfoganError, NoUsableCheckpoint, UserError
from infogan_dist.evaluation.evaluated_model import from_checkpoint
from infogan_dist.networks import build_networks, networks_on_meta
from infogan_dist.networks.loading import load_network
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, tiny

LARGEST = 2**20  # bytes of one tensor: the tiny networks have fewer
HUGE = ("networks.width=1024", "latents={noise: [{dim: 16000}], categorical: [10]}")


class NoLargeTensors(TorchDispatchMode):
    """Fails if an operation makes a tensor of more than LARGEST bytes on another device than meta."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                assert tensor.untyped_storage().nbytes() <= LARGEST, f"{function} allocated {list(tensor.shape)}"
        return result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("model") / "run"
    train(tiny(output, "train.precision=fp32", "checkpoint.every=0"), ONE_PROCESS)
    return output


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The checkpoint of a copy of the run."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run" / "checkpoints" / "step-00000006"


def change_config(checkpoint: Path, config: Config | None) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["config"] = config.model_dump(mode="json") if config is not None else None
    manifest = {key: value for key, value in manifest.items() if value is not None}
    (checkpoint / "manifest.json").write_text(json.dumps(with_checksum(manifest)))


def change_tensors(checkpoint: Path, stem: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Replace the tensors of a file and update the manifest to match."""
    path = checkpoint / f"{stem}.safetensors"
    tensors = {name: change(tensor) for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    manifest["files"][path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size, "shapes": shapes}
    (checkpoint / "manifest.json").write_text(json.dumps(with_checksum(manifest)))


def exported(path: Path, tensors: dict[str, torch.Tensor], header: str) -> Path:
    save_file(tensors, path, metadata={"infogan_dist": header})
    return path


def in_one_line(error: InfoganError) -> None:
    assert str(error).isprintable()


def evaluated(path: Path) -> None:
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        from_checkpoint(path, group)


def test_guard_against_large_tensors_can_fail() -> None:
    with pytest.raises(AssertionError, match="allocated"), NoLargeTensors():
        torch.empty(LARGEST)


def test_small_file_with_a_config_of_huge_networks_allocates_no_memory(copy: Path, tmp_path: Path) -> None:
    huge = tiny(tmp_path / "run", *HUGE)
    weights = {"lift.weight": torch.ones(2, 2)}
    path = exported(tmp_path / "G.safetensors", weights, huge.model_dump_json())
    change_config(copy, huge)
    for read in (
        lambda: Generator.from_pretrained(path),
        lambda: Generator.from_pretrained(copy),
        lambda: evaluated(copy),
    ):
        with (
            pytest.raises(UserError, match="does not hold the weights its config describes") as caught,
            NoLargeTensors(),
        ):
            read()
        in_one_line(caught.value)


def test_resume_compares_shapes_before_it_builds_networks(copy: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(NoUsableCheckpoint, match=r"to another network: G has lift\.weight of shape") as caught,
        NoLargeTensors(),
    ):
        check_described(verify(copy), tiny(tmp_path / "run", *HUGE))
    in_one_line(caught.value)
    recorded = verify(copy)
    check_described(recorded, recorded.config)


def test_config_of_absurd_size_is_refused_from_every_source(copy: Path, tmp_path: Path) -> None:
    """A header of 2 kB that announces 655 TB."""
    asked = tiny("x").model_dump(mode="json")
    asked["latents"]["noise"] = [{"dim": 10**10, "distribution": "uniform"}]
    path = exported(tmp_path / "G.safetensors", {"w": torch.ones(1)}, json.dumps(asked))
    with pytest.raises(UserError, match=r"latents\.noise\.0\.dim"):
        Generator.from_pretrained(path)


@pytest.mark.parametrize("header", ["[]", "3", "null", '"text"', "[" * 100_000, "{", '{"output": "\\ud800"}'])
def test_header_that_is_not_a_config_is_refused_in_one_line(tmp_path: Path, header: str) -> None:
    path = exported(tmp_path / "G.safetensors", {"w": torch.ones(1)}, header)
    with pytest.raises(UserError, match="not one of ours") as caught:
        Generator.from_pretrained(path)
    in_one_line(caught.value)


def test_header_of_100_megabytes_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "G.safetensors"
    path.write_bytes(struct.pack("<Q", 90 * 2**20) + b" " * 100)
    with pytest.raises(UserError, match="its header has 94371840 bytes"):
        Generator.from_pretrained(path)


UNSUPPORTED = (
    *(torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu),
)


@pytest.mark.parametrize("dtype", UNSUPPORTED, ids=str)
def test_weights_of_an_unsupported_dtype_are_refused(run: Path, copy: Path, tmp_path: Path, dtype: Any) -> None:
    G = Generator.from_pretrained(run)
    weights = {name: tensor.to(dtype) for name, tensor in G.network.state_dict().items()}
    path = exported(tmp_path / "G.safetensors", weights, G.config.model_dump_json())
    change_tensors(copy, "G_ema", lambda tensor: tensor.to(dtype))
    for read in (lambda: Generator.from_pretrained(path), lambda: evaluated(copy)):
        with pytest.raises(UserError, match="not supported") as caught:
            read()
        in_one_line(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_every_supported_dtype_compute_in_float32_or_higher(run: Path, tmp_path: Path, dtype: Any) -> None:
    G = Generator.from_pretrained(run)
    G.network.to(dtype)
    G.save(tmp_path / "G.safetensors")
    read = Generator.from_pretrained(tmp_path / "G.safetensors")
    assert {tensor.dtype for tensor in load_file(tmp_path / "G.safetensors").values()} == {dtype}
    computes = torch.promote_types(dtype, torch.float32)
    assert {tensor.dtype for tensor in read.network.state_dict().values()} == {computes}
    G.network.to(computes)
    assert torch.equal(read.sample(2, seed=0), G.sample(2, seed=0))


def test_weights_of_two_dtypes_are_refused(run: Path, tmp_path: Path) -> None:
    G = Generator.from_pretrained(run)
    weights = G.network.state_dict()
    weights["lift.weight"] = weights["lift.weight"].double()
    path = exported(tmp_path / "G.safetensors", weights, G.config.model_dump_json())
    with pytest.raises(UserError, match=r"in torch\.float"):
        Generator.from_pretrained(path)


@pytest.mark.parametrize("stem", ["G", "FE", "optimizer_D"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64], ids=str)
def test_run_does_not_resume_with_tensors_of_another_dtype(copy: Path, tmp_path: Path, stem: str, dtype: Any) -> None:
    change_tensors(copy, stem, lambda tensor: tensor.to(dtype))
    (tmp_path / "run" / "DONE").unlink()
    longer = tiny(tmp_path / "run", "train.precision=fp32", "checkpoint.every=0", "train.steps=7")
    with pytest.raises(NoUsableCheckpoint, match=rf"to another network: .* in {dtype}, not torch\.float32") as caught:
        train(longer, ONE_PROCESS)
    in_one_line(caught.value)


def test_images_seen_is_computed_if_the_manifest_lacks_it(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    recorded = manifest.pop("images_seen")
    (copy / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    assert verify(copy).images_seen == recorded == 72
    with Group(ONE_PROCESS, 1, ProcessesConfig()) as group:
        subject = from_checkpoint(copy, group)
    assert subject.origin is not None
    assert subject.origin.images_seen == 72


def test_manifest_without_a_config_is_refused_in_one_line(copy: Path) -> None:
    change_config(copy, None)
    for read in (lambda: Generator.from_pretrained(copy), lambda: evaluated(copy)):
        with pytest.raises(UserError, match="has a config that this version cannot read") as caught:
            read()
        in_one_line(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [[], ["networks.norm_D=spectral"], ["networks.family=dcgan", "data.image_size=32", "latents.continuous=0"]],
)
def test_meta_networks_match_real_ones_and_loading_keeps_their_bits(
    overrides: list[str],
) -> None:
    config = tiny("x", *overrides)
    for name, network in build_networks(config).named().items():
        described, real = networks_on_meta(config)[name].state_dict(), network.state_dict()
        assert all(tensor.is_meta for tensor in described.values())
        assert {key: tensor.shape for key, tensor in described.items()} == {key: t.shape for key, t in real.items()}
        loaded = load_network(name, config, real)
        assert dict(loaded.named_buffers()).keys() <= loaded.state_dict().keys()  # every buffer is loaded from the file
        assert all(torch.equal(tensor, real[key]) for key, tensor in loaded.state_dict().items())


def test_zero_images_are_an_empty_tensor_and_negative_counts_are_refused(run: Path) -> None:
    G = Generator.from_pretrained(run)
    none = G.sample(0, seed=0)
    assert (none.shape, none.dtype) == ((0, 1, 28, 28), torch.float32)
    with pytest.raises(UserError, match="0 images or more, not -1"):
        G.sample(-1)


def test_code_of_more_than_64_bits_is_refused(run: Path) -> None:
    for name in ("categorical_0", "continuous_0"):
        with pytest.raises(UserError, match=f"{name} does not take"):
            Generator.from_pretrained(run).sample(1, seed=0, **{name: 2**70})
