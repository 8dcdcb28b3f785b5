"""Static checks of the launch files beyond Accelerate's: against published schemas, a linter and each other."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infogan_dist.config.reading import load_config
from tests.conftest import ROOT

LAUNCH = ROOT / "launch"
SBATCH = LAUNCH / "slurm" / "train.sbatch"
SKYPILOT = LAUNCH / "skypilot.yaml"
DOCKERFILE = LAUNCH / "docker" / "Dockerfile"
TRAINJOB = LAUNCH / "kubernetes" / "trainjob.yaml"
PYTORCHJOB = LAUNCH / "kubernetes" / "pytorchjob.yaml"
FULL = "the extra test-full is not installed"
kubernetes = pytest.mark.parametrize("path", [TRAINJOB, PYTORCHJOB], ids=lambda path: path.stem)

# Published schemas


def known_to_kubeflow(document: Any) -> bool:
    """Whether the API's models accept a job completely. They drop unknown keys and raise for a wrong type."""
    try:
        if document["kind"] == "TrainJob":
            models = pytest.importorskip("kubeflow_trainer_api.models", reason=FULL)
            return bool(models.TrainerV1alpha1TrainJob.from_dict(document).to_dict() == document)
        client = pytest.importorskip("kubeflow.training", reason=FULL).ApiClient()
        job = client.deserialize(SimpleNamespace(data=json.dumps(document)), "KubeflowOrgV1PyTorchJob")
        return bool(client.sanitize_for_serialization(job) == document)
    except (ValueError, TypeError, AttributeError):
        return False


def places(node: Any, *free: str) -> Iterator[tuple[Any, ...]]:
    """The path of every mapping in a document, except below a key in `free`, where users choose the keys."""
    if isinstance(node, dict):
        yield ()
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from ((key, *path) for path in places(value, *free) if path or key not in free)


def assert_strictly_valid(valid: Callable[[Any], bool], document: Any, *free: str) -> None:
    """Assert that the document is valid, and invalid with a wrong key in any of its mappings."""
    assert valid(document)
    found = list(places(document, *free))
    assert len(found) > 2
    for path in found:
        wrong = mapping = copy.deepcopy(document)
        for key in path:
            mapping = mapping[key]
        mapping["wrongKey"] = "wrong"
        assert not valid(wrong), path


@kubernetes
def test_kubernetes_job_matches_the_published_api(path: Path) -> None:
    assert_strictly_valid(known_to_kubeflow, yaml.safe_load(path.read_text()), "limits")


def test_skypilot_task_matches_its_schema() -> None:
    sky = pytest.importorskip("sky", reason="skypilot is not installed: about 100 packages, and it pins some of ours")

    def valid(document: Any) -> bool:
        try:
            sky.Task.from_yaml_config(copy.deepcopy(document))
        except ValueError:
            return False
        return True

    assert_strictly_valid(valid, yaml.safe_load(SKYPILOT.read_text()), "envs", "file_mounts", "job_recovery")


# Not covered by schemas


def pods(document: Any) -> list[dict[str, Any]]:
    """The spec of every pod of a job, with its container completed."""
    spec = document["spec"]
    if document["kind"] == "PyTorchJob":
        replicas = spec["pytorchReplicaSpecs"]
        return [
            replicas[name]["template"]["spec"]
            for name in ("Master", "Worker")
            for _ in range(replicas[name]["replicas"])
        ]
    (job,) = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod, trainer = job["template"]["spec"]["template"]["spec"], spec["trainer"]
    container = {**trainer, **pod["containers"][0], "resources": trainer["resourcesPerNode"]}
    return [{**pod, "containers": [container]}] * trainer["numNodes"]


@kubernetes
def test_pods_have_enough_time_and_shared_memory(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    for pod in pods(document):
        (container,) = pod["containers"]
        assert container["name"] == {"TrainJob": "node", "PyTorchJob": "pytorch"}[document["kind"]]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert 30 < int(environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) < pod["terminationGracePeriodSeconds"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = {mount["mountPath"]: volumes.pop(mount["name"]) for mount in container["volumeMounts"]}
        assert not volumes
        assert mounted["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" in mounted["/runs"]
        assert "output=/runs/mnist" in [*container["command"], *container.get("args", [])]
        assert [str(pod["securityContext"]["fsGroup"])] == instructions("USER")


def test_processes_of_launch_files_divide_the_batch() -> None:
    trainjob, pytorchjob, sky = (yaml.safe_load(path.read_text()) for path in (TRAINJOB, PYTORCHJOB, SKYPILOT))
    gpus = [job["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for job in pods(trainjob) + pods(pytorchjob)]
    gpus += [sky["resources"]["accelerators"].partition(":")[2]] * sky["num_nodes"]
    asked = {trainjob["spec"]["trainer"]["numProcPerNode"], int(pytorchjob["spec"]["nprocPerNode"])}
    assert {int(count) for count in gpus} == asked == {4}
    assert load_config(sky["envs"]["CONFIG"]).train.global_batch % (2 * 4) == 0


def shellcheck(text: str) -> str:
    """The complaints of shellcheck about a script."""
    command = [f"{sysconfig.get_path('scripts')}/shellcheck", "--shell=bash", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True).stdout


def test_shellcheck_accepts_every_script() -> None:
    task, script = yaml.safe_load(SKYPILOT.read_text()), SBATCH.read_text()
    assert [shellcheck(text) for text in (script, task["setup"], task["run"])] == ["", "", ""]
    assert "SC2086" in shellcheck(script.replace('"$output/PREEMPTED"', "$output/PREEMPTED"))


def test_slurm_signals_early_enough_to_save() -> None:
    text = SBATCH.read_text()
    (notice,) = re.findall(r"^#SBATCH --signal=B:USR1@(\d+)$", text, re.M)
    (shutdown_timeout,) = re.findall(r"^export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=(\d+)", text, re.M)
    assert 30 < int(shutdown_timeout) < int(notice)


# The Docker image


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of this name in the Dockerfile."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.read_text(), re.M)


def test_every_line_of_the_dockerfile_is_a_comment_or_an_instruction() -> None:
    known = "# |(FROM|WORKDIR|COPY|RUN|USER|ENTRYPOINT|CMD) "
    assert [line for line in DOCKERFILE.read_text().splitlines() if not re.match(known, line)] == []
    assert DOCKERFILE.read_text().startswith("#")
    assert instructions("FROM")[0].startswith("pytorch/pytorch:")


def test_docker_image_runs_infogan_dist_as_a_non_root_user() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (program,) = json.loads(instructions("ENTRYPOINT")[0])
    assert program in scripts
    help_ = subprocess.run([f"{sysconfig.get_path('scripts')}/{program}", *json.loads(instructions("CMD")[0])])
    assert help_.returncode == 0
    assert int(instructions("USER")[0]) > 0


def test_files_of_the_docker_image_are_enough_to_install_and_start(tmp_path: Path) -> None:
    for *sources, target in map(str.split, instructions("COPY")):
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    assert load_config(tmp_path / "configs" / "mnist.yaml").output == "runs/mnist"
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheel", "."]
    built = subprocess.run([sys.executable, *build], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert len(list((tmp_path / "wheel").glob("*.whl"))) == 1


def test_launch_readme_names_every_launch_file() -> None:
    page = (LAUNCH / "README.md").read_text()
    files = [str(path.relative_to(ROOT)) for path in LAUNCH.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(files) >= 9
    assert [path for path in files if path not in page] == []
