"""Trains shipped configs on stand-in data, for tests/test_shipped_configs.py.

`python -m tests.shipped_configs ROOT OUT STEPS` does so with all of them, one after the other, as one process or under torchrun.
"""

from __future__ import annotations

import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

from infogan_dist.__main__ import main
from infogan_dist.config import yaml_core
from infogan_dist.data import mnist_mini, mnist_variants, scenes, sprites
from infogan_dist.evaluation import command, measure, reference_classifier
from infogan_dist.evaluation.metrics import stacked_modes
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.training import pictures
from tests.conftest import ROOT, SHIPPED
from tests.data.stand_ins import COUNTS, GREY_WRITERS, WRITERS, Patches, write_folder

BATCH = 12  # divisible by 2; images are few, so that the data is used several times
FAKES = 200  # images that G draws for a metric
CHECKSUMS = "checksums.pickle"


def write_stand_ins(root: Path) -> None:
    """Files of every data set that has files, in `root`."""
    root.mkdir()
    writers = [*WRITERS.values(), *GREY_WRITERS.values(), write_folder]
    (root / CHECKSUMS).write_bytes(pickle.dumps([patch for write in writers for patch in write(root)]))


def patches(root: Path) -> Patches:
    """What replaces the checksums of downloaded files, shrinks data that ships or is drawn, and limits the work of `evaluate`.

    curves.png, a third of the time of such a run, is not drawn.
    """
    classifier_file, from_checkpoint = reference_classifier.classifier_file, command.from_checkpoint
    load = mnist_mini.load

    def with_few_fakes(*arguments: Any) -> Any:
        model = from_checkpoint(*arguments)
        model.fresh = FAKES
        return model

    return [
        *pickle.loads((root / CHECKSUMS).read_bytes()),
        *((module, "COUNT", COUNTS) for module in (scenes, sprites)),
        (mnist_variants, "STACKED_COUNT", COUNTS),
        (mnist_mini, "load", lambda split: tuple(array[: COUNTS[split]] for array in load(split))),
        (reference_classifier, "classifier_file", partial(classifier_file, steps=8)),
        (command, "from_checkpoint", with_few_fakes),
        (measure, "LIVE", FAKES),
        (stacked_modes, "IMAGES", FAKES),
        (pictures, "write_curves", lambda *_: None),
    ]


def overrides(name: str, root: Path, run: Path, steps: int) -> list[str]:
    """Narrow networks, small batches and few steps in fp64. Everything that is specific to the config is kept."""
    data = DATA_SETS[yaml_core.load((ROOT / "configs" / f"{name}.yaml").read_text(), name)["data"]["name"]]
    reads_files = data.needs_root or data.torchvision or data.of_mnist
    return [
        f"output={run}",
        *([f"data.root={root / 'folder' if data.needs_root else root}"] if reads_files else []),
        *("networks.width=2", f"train.global_batch={BATCH}", "train.precision=fp64", "train.threads=1"),
        f"schedule.images={BATCH * steps}",
        *(f"{section}.every={steps // 2}" for section in ("sample", "checkpoint", "evaluate")),
        f"log.every={max(1, steps // 5)}",
    ]


def exercise(name: str, root: Path, out: Path, steps: int) -> list[int]:
    """Train half of the steps, resume to all of them, and evaluate. Every rank calls it. Returns the exit codes."""
    run = out / name
    small = overrides(name, root, run, steps)
    trained = [main(["train", name, *small, f"train.steps={until}"]) for until in (steps // 2, steps)]
    return [*trained, main(["evaluate", str(run), "--json", str(out / f"{name}.json")])]


if __name__ == "__main__":
    root, out = map(Path, sys.argv[1:3])
    for patch in patches(root):
        setattr(*patch)
    for name in SHIPPED:
        codes = exercise(name, root, out, int(sys.argv[3]))
        assert codes == [0, 0, 0], f"{name} exits with {codes}"
