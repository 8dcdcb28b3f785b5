"""The config: everything that changes a number in a run, typed and checked before the run starts.

`reading` makes it from a file and overrides. Importing this module does not import torch.
`python -m infogan_dist.config.schema` prints the JSON schema that editors use (configs/schema.json).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from infogan_dist.config.augmentation import AUGMENTATIONS, AugmentationConfig
from infogan_dist.config.model import (
    DataConfig,
    LatentsConfig,
    NetworksConfig,
    OptimizerConfig,
    ScheduleConfig,
)
from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.config.running import (
    CheckpointConfig,
    CollapseConfig,
    EvaluateConfig,
    LogConfig,
    NonfiniteConfig,
    ProcessesConfig,
    SampleConfig,
    TrainConfig,
)
from infogan_dist.config.section import OUTPUT_NAME_LIMIT, Section, check_path
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.registry.families import check_image_size, check_norms


class Config(Section):
    """One run of InfoGAN (Chen et al. 2016)."""

    schema_version: Literal[2] = 2
    """Version of this schema."""
    output: str
    """The run folder."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The only source of randomness."""
    data: DataConfig = DataConfig()
    latents: LatentsConfig = LatentsConfig()
    networks: NetworksConfig = NetworksConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    processes: ProcessesConfig = ProcessesConfig()
    nonfinite: NonfiniteConfig = NonfiniteConfig()
    collapse: CollapseConfig = CollapseConfig()
    sample: SampleConfig = SampleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        """Fill in keys of `augmentation` that are not given, from `augmentation.preset` or the data set's preset."""
        given = values.get("augmentation", {}) if isinstance(values, dict) else None
        if not isinstance(given, dict):
            return values
        preset = given.get("preset", "auto")
        if preset == "auto":
            data = values.get("data", {})
            name = data.get("name", DataConfig.model_fields["name"].default) if isinstance(data, dict) else ""
            preset = DATA_SETS[name].augmentation if name in DATA_SETS else "none"
        filled = AUGMENTATIONS.get(preset, {}) if isinstance(preset, str) else {}
        return values | {"augmentation": {**filled, **given, "preset": preset}}

    @property
    def run_images(self) -> int:
        """The number of images of the run. Fractions in schedules refer to it."""
        return self.schedule.images or self.train.steps * self.train.global_batch

    def without_paths(self) -> Config:
        """The config with placeholders for `output` and `data.root`, without paths of this machine."""
        root = "images" if DATA_SETS[self.data.name].needs_root else None
        return self.model_copy(update={"output": "exported", "data": self.data.model_copy(update={"root": root})})

    @model_validator(mode="after")
    def _check(self) -> Config:
        check_path("output", self.output, OUTPUT_NAME_LIMIT)
        check_image_size(self.networks.family, self.data.image_size)
        check_norms(self.networks.family, {key: getattr(self.networks, key) for key in ("norm_G", "norm_D", "norm_Q")})
        self.objective.check_norm(self.networks.norm_D)
        self._check_scored_together()
        if self.train.global_batch % self.train.accumulate:
            raise ValueError(
                f"train.accumulate = {self.train.accumulate} does not divide train.global_batch = {self.train.global_batch}"
            )
        for key in ("compile", "cuda_graph"):
            if self.train.gradient_checkpointing and getattr(self.train, key):
                raise ValueError(
                    f"train.gradient_checkpointing = true is not tested with train.{key} = {getattr(self.train, key)}; set one to false"
                )
        if self.train.cuda_graph and self.train.precision == "fp16":
            raise ValueError("train.cuda_graph = true does not support train.precision = fp16; use bf16")
        if self.train.cuda_graph and self.schedule.beta2_final is not None:
            raise ValueError(
                f"schedule.beta2_final = {self.schedule.beta2_final} changes beta2, which train.cuda_graph = true records once; set "
                "train.cuda_graph = false, or leave schedule.beta2_final out"
            )
        if self.schedule.penalty_final < 1 and not self.objective.has_gradient_penalty:
            raise ValueError(
                f"schedule.penalty_final = {self.schedule.penalty_final} lowers gradient penalties, but there is none; set "
                "objective.r1_gamma and objective.r2_gamma, say to 1, or leave schedule.penalty_final out"
            )
        if self.objective.information_from == "augmented" and self.augmentation.changes_nothing:
            raise ValueError(
                f"objective.information_from = augmented, but augmentation.preset = {self.augmentation.preset} changes no image; "
                "use augmentation.preset = digits or objective.information_from = images"
            )
        if self.objective.lambda_contrastive and self.latents.continuous < 2:
            raise ValueError(
                f"objective.lambda_contrastive = {self.objective.lambda_contrastive} compares continuous codes, but "
                f"latents.continuous = {self.latents.continuous}; give at least 2, or set objective.lambda_contrastive = 0"
            )
        self._check_prior()
        if self.objective.lambda_clustering and not self.latents.categorical:
            raise ValueError(
                f"objective.lambda_clustering = {self.objective.lambda_clustering} trains the classes of the categorical codes, "
                "but latents.categorical is empty; set it to [10], say, or set objective.lambda_clustering = 0"
            )
        return self

    def _check_prior(self) -> None:
        if self.latents.prior == "uniform":
            return
        if self.objective.information_trains == "heads":
            raise ValueError(
                "latents.prior = learned follows Q's predictions on reals in the D step, which trains Q only with "
                "objective.information_trains = trunk; set it, or latents.prior = uniform"
            )
        if not self.objective.lambda_categorical and not self.objective.lambda_clustering:
            raise ValueError(
                "latents.prior = learned follows Q's classes, but objective.lambda_categorical = 0 and "
                "objective.lambda_clustering = 0 leave them untrained; set one of them, or latents.prior = uniform"
            )

    def _check_scored_together(self) -> None:
        """Raises ValueError if D scores several fakes together whose codes depend on each other."""
        networks, contrast = self.networks, self.objective.lambda_contrastive
        together = {
            f"networks.minibatch_std = {networks.minibatch_std}": networks.minibatch_std > 0,
            f"networks.pack = {networks.pack}": networks.pack > 1,
        }
        dependent = {
            "latents.balanced = true": self.latents.balanced,
            f"objective.lambda_contrastive = {contrast}": contrast,
        }
        for option in (key for key, is_on in together.items() if is_on):
            for key in (key for key, is_on in dependent.items() if is_on):
                off = key.partition(" = ")[0] + (" = false" if "balanced" in key else " = 0")
                raise ValueError(
                    f"{option} makes D score several images together, but {key} makes the codes of consecutive fakes depend on each "
                    f"other, by which D can tell them from reals; set {off}"
                )


if __name__ == "__main__":
    print(json.dumps(Config.model_json_schema(), indent=2))
