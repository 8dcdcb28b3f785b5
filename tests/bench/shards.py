"""The training step at 64 pixels with images decoded from shards and with resident ones, in alternation: `python -m tests.bench.shards`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import torch
from torchvision.transforms.v2.functional import to_pil_image

from infogan_dist.config.model import DataConfig
from infogan_dist.config.reading import load_config
from infogan_dist.data import sources, stream
from infogan_dist.data.sources import open_images
from infogan_dist.diagnostics.bench.bench_trainer import BenchTrainer
from infogan_dist.diagnostics.bench.command import resolved
from infogan_dist.diagnostics.bench.timing import seconds_per_step
from infogan_dist.distributed.cluster import Cluster
from tests.conftest import ONE_PROCESS
from tests.data.tar_files import write_tar

IMAGES, SHARDS = 4000, 4
WARM_UP, REPEATS = 3, 40
RESIDENT_SHARE = {"resident": sources.RESIDENT_SHARE, "shards": 0.0}


def members(numbers: torch.Tensor) -> Iterator[tuple[str, bytes]]:
    """Scenes as PNG and JPEG files."""
    scenes = open_images(DataConfig(name="scenes", image_size=64, channels=3))
    for number, image in zip(numbers.tolist(), scenes.read(numbers), strict=True):
        content, kind = io.BytesIO(), ("png", "jpeg")[number % 2]
        to_pil_image(image).save(content, kind)
        yield f"{number}.{kind}", content.getvalue()


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        for shard, numbers in enumerate(torch.arange(IMAGES).chunk(SHARDS)):
            write_tar(Path(root) / f"{shard}.tar", members(numbers))
        config = load_config("scenes", ["data.name=shards", f"data.root={root}", "train.threads=1"])
        with Cluster(ONE_PROCESS, config.train.threads, config.processes) as cluster:
            config = resolved(config, cluster)
            cluster.configure(config)
            trainers = {}
            for name, stream.RESIDENT_SHARE in RESIDENT_SHARE.items():
                trainers[name] = BenchTrainer(config, cluster, open_images(config.data))
            steps = {name: trainer.step for name, trainer in trainers.items()}
            repeats = [
                {name: seconds_per_step(step, 1, cluster) for name, step in steps.items()}
                for _ in range(WARM_UP + REPEATS)
            ][WARM_UP:]
        for name in steps:
            seconds = [repeat[name] for repeat in repeats]
            print(
                f"{name}: {config.train.global_batch / median(seconds):.1f} images a second, fastest step {min(seconds):.3f} s"
            )
        low, middle, high = quantiles((repeat["resident"] / repeat["shards"] for repeat in repeats), n=4)
        print(f"shards at {middle:.1%} of the resident rate, quartiles {low:.1%} and {high:.1%}")


if __name__ == "__main__":
    main()
