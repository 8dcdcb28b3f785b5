"""The `evaluate` command, and the code names that it saves."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infogan_dist import Generator
from infogan_dist.__main__ import main
from infogan_dist.data import mnist_mini
from infogan_dist.errors import UserError
from infogan_dist.evaluation import controls, supervised
from infogan_dist.evaluation.code_names import CodeNames, held_by, name_codes, names_of
from infogan_dist.evaluation.evaluated_model import Origin
from infogan_dist.evaluation.intervals import binomial_interval, mean_interval
from infogan_dist.evaluation.runs import failure, summary
from infogan_dist.evaluation.table import runs_table
from infogan_dist.training.loop import train
from tests.conftest import ONE_PROCESS, Command, refused, tiny

ALWAYS = {"checkpoint", "seed", "step", "images_seen", "data", "images", "versions", "mutual_information", "usage"}
OF_LABELS = {"code_error", "code_error_fitted_on_test", "purity", "nmi", "ari", "calibration_error", "matching"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("evaluate") / "run"
    train(tiny(output, "train.precision=fp32", "seed=3"), ONE_PROCESS)
    return output


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copied"))


@pytest.fixture
def short_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations of expectation maximisation and one initialisation of k-means."""
    monkeypatch.setattr(controls, "MIXTURE_ITERATIONS", 2)
    monkeypatch.setattr(controls, "INITIALISATIONS", 1)


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints, which must exit with 0."""
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def test_the_json_of_one_run_has_every_promised_key_and_the_same_bytes_on_two_processes(
    run: Path, infogan: Command, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    for processes in (1, 2):
        result = infogan("evaluate", run, "--json", f"{processes}.json", processes=processes)
        assert result.returncode == 0, result.stderr
        assert "code error" in result.stdout
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    metrics = json.loads((tmp_path / "1.json").read_text())
    assert metrics.keys() >= ALWAYS | OF_LABELS
    assert (metrics["seed"], metrics["step"], metrics["images_seen"]) == (3, 6, 72)
    assert (metrics["data"], metrics["images"], metrics["split"]) == ("mnist-mini", 2000, "test")
    assert set(metrics["mutual_information"]) == {"categorical_0", "categorical_1", "continuous_0", "continuous_1"}
    ceilings = {"categorical_0": math.log(10), "categorical_1": math.log(2)}
    assert metrics["mutual_information_ceiling"] == pytest.approx(ceilings)
    (information,) = (line for line in result.stdout.splitlines() if line.startswith("information"))
    assert re.search(
        r"categorical_0 \S+ of 2\.303, categorical_1 \S+ of 0\.693, continuous_0 \S+, continuous_1 \S+$", information
    )
    assert sum(metrics["usage"]["categorical_1"]) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.usefixtures("short_controls")
def test_several_runs_are_a_table_with_failures_and_controls(
    run: Path, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for checkpoint in (copied / "checkpoints").iterdir():
        (checkpoint / "Q.safetensors").write_bytes(b"")
    lost = tmp_path / "lost"
    lost.mkdir()
    (lost / "FAILED").write_text("training diverged\n")
    printed = output_of(capsys, "evaluate", run, copied, lost, "--controls", "--json", "-")
    report = json.loads(printed.splitlines()[-1])
    first, *others = (row["checkpoint"] for row in report["runs"])
    assert first == str(run / "checkpoints" / "step-00000006")
    assert others == [str(copied), str(lost)]
    assert all("failed" in row for row in report["runs"])  # the first by its error, after six steps
    assert report["summary"]["runs"] == report["summary"]["failed"] == 3
    assert report["summary"]["code_error"] == {
        "best": report["runs"][0]["code_error"]
    }  # the median run has no code error
    errors = {row["control"]: row["code_error"] for row in report["controls"]}
    assert 0.4 < errors["k-means on pixels"] < 0.55
    train_digits, test_digits = (np.bincount(mnist_mini.load(split)[1]) for split in ("train", "test"))
    assert errors["one class for all"] == pytest.approx(1 - test_digits[train_digits.argmax()] / 2000)
    assert 0.87 < errors["random codes"] < 0.91
    assert 0.2 < errors["k-means on deskewed components"] < errors["k-means on pixels"]
    assert errors["5 nearest neighbours of deskewed components, with labels"] < 0.05
    assert errors["linear probe on deskewed components, with labels"] < 0.08
    assert 0.1 < errors["Gaussian mixture on deskewed components"] < 0.6
    of_run = [name for name in errors if "(run), with labels" in name]
    assert [name.split(" (")[0] for name in of_run] == [
        "linear probe on FE",
        "5 nearest neighbours of FE",
        "linear probe on Q's hidden layer",
        "5 nearest neighbours of Q's hidden layer",
    ]
    assert all(errors[name] < 0.5 for name in of_run[:2]), "features of a hardly trained FE tell most digits apart"
    assert 0.1 < errors["spectral clustering of deskewed components"] < 0.25
    assert printed.count("control on mnist-mini") == 12
    for word in (str(lost), "FAILED", "k-means on pixels", "3 runs, 3 failed"):
        assert word in printed


def test_a_model_of_continuous_codes_alone_has_no_ceiling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny(tmp_path / "run", "latents={categorical: [], continuous: 1}", "train.steps=2"), ONE_PROCESS)
    capsys.readouterr()
    *lines, last = output_of(capsys, "evaluate", tmp_path / "run", "--json", "-").splitlines()
    assert set(json.loads(last)["mutual_information"]) == {"continuous_0"}
    assert "mutual_information_ceiling" not in json.loads(last)
    assert any(re.search(r"fresh images: continuous_0 \S+$", line) for line in lines)


@pytest.mark.usefixtures("short_controls")
def test_a_single_run_has_controls_and_those_on_components_need_scikit_learn(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "find_spec", lambda name: None)
    monkeypatch.setattr(supervised, "IMAGES", 1_000)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    *lines, last = output_of(capsys, "evaluate", run, "--controls", "--supervised", "--json", "-").splitlines()
    *of_data, of_run = json.loads(last)["controls"]
    assert len(of_data) == 3
    assert of_run["control"] == "FE and Q (run) trained with labels"
    assert of_run["data"] == "mnist-mini"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert sum("k-means on pixels" in line for line in lines) == 1
    assert lines[-1].startswith("1 run, 1 failed")


def test_without_labels_metrics_that_need_them_are_absent(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        Image.new("L", (28, 28), 80 * number).save(tmp_path / f"{number}.png")
    printed = output_of(capsys, "evaluate", run, "--data", "folder", "--root", tmp_path, "--json", "-")
    metrics = json.loads(printed.splitlines()[-1])
    assert metrics.keys() >= ALWAYS
    assert not metrics.keys() & OF_LABELS
    assert metrics["images"] == 3
    assert main(["evaluate", str(run), "--data", "folder", "--root", str(tmp_path), "--name-codes"]) == 2
    assert "--name-codes needs" in capsys.readouterr().err


@pytest.fixture
def of_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run on the 12 images of the folder `images`, evaluated during training."""
    images_in(tmp_path / "images", first=0)
    data = f"data={{name: folder, root: {tmp_path / 'images'}}}"
    train(tiny(tmp_path / "of-folder", data, "train.steps=2", "evaluate.every=2"), ONE_PROCESS)
    assert "evaluated, without labels: the train images, after step 2" in capsys.readouterr().out
    return tmp_path / "of-folder"


def images_in(folder: Path, first: int) -> None:
    folder.mkdir()
    for number in range(first, first + 12):
        Image.linear_gradient("L").rotate(10 * number).save(folder / f"{number:02}.png")


def test_a_folder_is_evaluated_on_its_train_images_and_the_output_says_so(
    of_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = output_of(capsys, "evaluate", of_folder, "--json", "-")
    assert json.loads(printed.splitlines()[-1])["split"] == "train"
    table = "\n".join(printed.splitlines()[:-1])
    assert "12 train images of folder; it has no test part: data.held_out reserves images for evaluation" in table
    assert "categorical_0 on train images, %" in table
    assert "test images" not in table


def test_images_of_another_folder_are_test_images_and_moved_train_images_are_not(
    of_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def split_of(run: Path, folder: str) -> str:
        printed = output_of(capsys, "evaluate", run, "--data", "folder", "--root", tmp_path / folder, "--json", "-")
        split: str = json.loads(printed.splitlines()[-1])["split"]
        assert f"12 {split} images of folder" in printed
        return split

    images_in(tmp_path / "others", first=12)
    assert split_of(of_folder, "others") == "test"
    (tmp_path / "images").rename(tmp_path / "moved")
    assert split_of(of_folder, "moved") == "train"
    (manifest,) = of_folder.glob("checkpoints/step-00000002/manifest.json")
    unrecorded = {key: value for key, value in json.loads(manifest.read_text()).items() if key in EARLIER}
    manifest.write_text(json.dumps(unrecorded))
    assert split_of(of_folder, "others") == "train"  # without a fingerprint it may be the same folder


EARLIER = ("schema", "step", "images_seen", "config", "scaler", "bad_steps", "versions", "files")  # of a manifest


def test_held_out_images_of_a_folder_are_named_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images_in(tmp_path / "images", first=0)
    data = f"data={{name: folder, root: {tmp_path / 'images'}, held_out: 4}}"
    train(tiny(tmp_path / "run", data, "train.steps=2", "evaluate.every=2"), ONE_PROCESS)
    assert "evaluated, without labels: the held-out train images, after step 2" in capsys.readouterr().out
    printed = output_of(capsys, "evaluate", tmp_path / "run", "--json", "-")
    assert "4 held-out train images of folder" in printed
    assert "categorical_0 on held-out train images, %" in printed
    assert json.loads(printed.splitlines()[-1])["split"] == "held-out train images"


def test_what_cannot_be_evaluated_is_refused_in_one_line(run: Path, infogan: Command, tmp_path: Path) -> None:
    Generator.from_pretrained(run).save(tmp_path / "G.safetensors")
    refused(infogan("evaluate", "G.safetensors"), "G.safetensors is an exported file", "run folder")
    refused(infogan("evaluate", "nowhere"), "there is no nowhere")
    refused(infogan("evaluate", tmp_path), "has no checkpoint")
    refused(infogan("evaluate", run, "--json", "no/where.json"), "--json no/where.json cannot be written")
    refused(infogan("evaluate", run, "--data", "minst"), 'data.name = "minst"')
    assert [path.name for path in tmp_path.iterdir()] == ["G.safetensors"]


def test_a_single_run_with_damaged_checkpoints_ends_with_exit_code_4(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for checkpoint in (copied / "checkpoints").iterdir():
        (checkpoint / "FE.safetensors").unlink()
    assert main(["evaluate", str(copied)]) == 4
    assert "FE.safetensors is missing" in capsys.readouterr().err


def test_named_codes_draw_digits_and_annotate_grids(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = copied.parent / "digit.png"
    assert main(["sample", str(copied), "--digit", "7", "--out", str(picture)]) == 2
    assert "--name-codes" in capsys.readouterr().err
    output_of(capsys, "sample", copied, "--out", picture, "--count", 4)
    plain = Image.open(picture).size
    printed = output_of(capsys, "evaluate", copied, "--name-codes")
    assert "samples/step-00000006-named.png" in printed
    grids = (Image.open(copied / f"samples/step-00000006{suffix}.png") for suffix in ("", "-named"))
    assert len({grid.tobytes() for grid in grids}) == 2
    names = names_of(copied)
    assert names is not None
    number, label = next(iter(names.labels.items()))
    output_of(capsys, "sample", copied, "--digit", label, "--out", picture, "--count", 4)
    assert Image.open(picture).width > plain[0]
    by_digit = Image.open(picture).tobytes()
    output_of(capsys, "sample", copied, "--set", f"categorical_0={number}", "--out", picture, "--count", 4)
    assert Image.open(picture).tobytes() == by_digit


METRICS = {
    "matching": {"code": "categorical_0", "labels": {"4": 7, "0": 1}, "names": {"4": "7", "0": "1"}},
    "code_error": 0.02,
    "data": "mnist",
    "checkpoint": "x",
}


def named(run: Path) -> CodeNames:
    return name_codes(METRICS, Origin(run / "checkpoints" / "step-00000006", 6, 72))


def test_a_digit_sets_the_class_matched_to_it(copied: Path) -> None:
    names = named(copied)
    assert names_of(copied) == names
    assert held_by(names, "7", {"continuous_0": 0.5}, copied) == {"continuous_0": 0.5, "categorical_0": 4}
    assert held_by(names, "7", {"categorical_0": 4.0}, copied)["categorical_0"] == 4
    with pytest.raises(UserError, match="--class 7 is categorical_0=4, but --set says 3"):
        held_by(names, "7", {"categorical_0": 3.0}, copied)
    with pytest.raises(UserError, match=r"no class of categorical_0 is matched to 5; there are 1, 7"):
        held_by(names, "5", {}, copied)
    with pytest.raises(UserError, match="evaluate RUN --name-codes"):
        held_by(None, "7", {}, copied)


def test_names_belong_to_one_step(copied: Path) -> None:
    named(copied)
    assert names_of(copied / "checkpoints" / "step-00000006") is not None
    assert names_of(copied / "checkpoints" / "step-00000004") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "{}",
        '{"code": "categorical_0", "labels": {"4": 7, "0": 7}, "code_error": 0.02, "data": "mnist", "step": 6}',
        '{"code": "categorical_0", "labels": {"four": 7}, "code_error": 0.02, "data": "mnist", "step": 6}',
        '{"code": "categorical_0", "labels": {"4": "7"}, "code_error": 0.02, "data": "mnist", "step": 6}',
        '{"code": "categorical_0", "labels": {"4": 7}, "code_error": 0.02, "data": "mnist", "step": 6, "more": 1}',
        "[" * 100_000,
    ],
)
def test_an_invalid_file_of_names_is_refused(copied: Path, text: str) -> None:
    (copied / "code_names.json").write_text(text)
    with pytest.raises(UserError, match=r"code_names\.json is not what evaluate wrote") as caught:
        names_of(copied)
    assert "\n" not in str(caught.value)


def test_intervals_of_known_errors() -> None:
    low, high = binomial_interval(0.012, 10_000)
    assert (high - low) / 2 == pytest.approx(0.0021, abs=0.0001)
    assert low < 0.012 < high
    assert binomial_interval(0.0, 100) == pytest.approx(
        (0, 1.96**2 / (100 + 1.96**2)), abs=1e-4
    )  # Wilson's, no error in 100
    half = 4.303 * 0.01 / math.sqrt(3)  # t of two degrees of freedom
    assert mean_interval([0.02, 0.03, 0.04]) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-5)
    assert mean_interval([0.0, 0.1])[0] == 0


def test_a_summary_has_the_mean_its_deviation_and_both_intervals() -> None:
    rows = [
        {"code_error": error, "images": 10_000, "data": "mnist"} for error in (0.0123, 0.0119, 0.0094, 0.0122, 0.0128)
    ]
    found = summary(rows)["code_error"]
    assert found["mean"] == pytest.approx(0.01172)
    assert found["standard_deviation"] == pytest.approx(0.00133, abs=1e-5)
    assert found["mean_interval"] == list(mean_interval([row["code_error"] for row in rows]))
    assert found["test_interval"] == list(binomial_interval(0.01172, 10_000))
    printed = "\n".join(runs_table(rows, summary(rows)))
    assert "mean 1.17 %, standard deviation 0.13 points" in printed
    assert "95 % intervals: 1.01 to 1.34 % of the mean over seeds" in printed
    others = [*rows, {"code_error": 0.02, "images": 2000}]
    assert "test_interval" not in summary(others)["code_error"]
    assert "mean" not in summary([*rows, {"failed": "diverged"}])["code_error"], (
        "a mean without a failed run would flatter"
    )
    assert "mean" not in summary(rows[:1])["code_error"]


def test_a_summary_counts_every_run(tmp_path: Path) -> None:
    errors = [{"code_error": error} for error in (0.02, 0.01, 0.03)]
    found = summary(errors)["code_error"]
    assert {name: found[name] for name in ("median", "best", "worst")} == {"median": 0.02, "best": 0.01, "worst": 0.03}
    lost = {"failed": "training diverged"}
    assert summary([*errors, lost, lost])["code_error"] == {"median": 0.03, "best": 0.01}
    assert summary([lost]) == {"runs": 1, "failed": 1}
    assert failure(tmp_path, {"code_error": 0.08}) is None
    assert failure(tmp_path, {}) is None
    assert failure(tmp_path, {"code_error": 0.081}) == "code error over 8 %"
    (tmp_path / "FAILED").write_text("diverged\n")
    assert failure(tmp_path, {"code_error": 0.01}) == "training failed: diverged"
