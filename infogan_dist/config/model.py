"""Config sections of the model: data, latents, networks, optimizers and their schedule."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from infogan_dist.config.section import (
    LATENT_LIMIT,
    Fraction,
    LearningRate,
    NonNegativeFloat,
    NonNegativeInt,
    Norm,
    NormD,
    NormQ,
    PositiveInt,
    Section,
    check_path,
    known_name,
    open_names,
)
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.registry.families import FAMILIES


class DataConfig(Section):
    name: Annotated[str, known_name(DATA_SETS), open_names(DATA_SETS.built_in)] = "mnist-mini"
    """`mnist-mini` ships with the package. `sprites` (grey) and `scenes` (colour) are drawn from factors that `evaluate` knows. `folder` is
    any tree of image files below data.root, `shards` are tar files of images there (webdataset format), `huggingface` is a data set of
    the `datasets` library. `stacked-mnist` and `imbalanced-mnist` are made from `mnist` in data.root, or from `mnist-mini` without
    data.root. torchvision reads the others, and downloads all but `celeba`. Plugins add names."""
    root: str | None = None
    """Folder of the images or shards, or where they are downloaded to (torchvision's layout); for `huggingface` a folder that
    `save_to_disk` wrote, or what `load_dataset` opens, such as OWNER/NAME. Data that ships or is drawn needs none."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 28
    """Side of the images in pixels. Images are centre-cropped to a square and resized."""
    channels: Literal[1, 3] = 1
    """1 for grey images, 3 for colour."""
    background: str = "white"
    """Colour behind transparent pixels of image files and beside padded ones: a name such as `black`, or `#rrggbb`."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How image files become square. `crop`: the middle is kept. `pad`: the image is centred on `background`. `stretch`: each side is
    resized on its own."""
    skip_broken: bool = False
    """Whether an image file that cannot be decoded is replaced by the next decodable one, in the order of paths. False ends the run at
    the first broken file; the message names all of them. Of a damaged shard the images before the damage are read."""
    held_out: NonNegativeInt | NonNegativeFloat = 0
    """Train images to keep out of training for tuning: their number, or a share such as 0.1. Evaluations use them instead of the test
    images. With 0 a `folder`, `shards` and `huggingface`, which have no test images, are evaluated on their train images, and
    `evaluate` says so."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        check_path("data.root", self.root)
        record = DATA_SETS[self.name]
        if record.needs_root and self.root is None:
            raise ValueError(
                f"data.root is required when data.name = {self.name}; set it to the folder of images or shards, or the data set"
            )
        if self.root is not None and not record.uses_root:
            raise ValueError(
                f"data.root = {self.root} is not used by data.name = {self.name}; set data.name = folder to train on the images "
                "in it, data.name = mnist for MNIST in torchvision's layout, or leave data.root out"
            )
        _check_colour(self.background)
        if isinstance(self.held_out, float) and self.held_out >= 1:
            raise ValueError(
                f"data.held_out = {self.held_out} is not a share below 1; for a number of images give an integer"
            )
        if self.channels not in record.channels:
            kind, remedy = ("grey", 1) if self.channels == 3 else ("in colour", 3)
            raise ValueError(f"data.channels = {self.channels}, but data.name = {self.name} is {kind}; use {remedy}")
        return self


def _check_colour(name: str) -> None:
    from PIL import ImageColor  # without torch

    try:
        ImageColor.getrgb(name)
    except ValueError as error:
        raise ValueError(f"data.background = {name} is not a colour; use a name such as black, or #rrggbb") from error


class NoiseConfig(Section):
    dim: Annotated[int, Field(ge=1, le=LATENT_LIMIT)]
    """Dimensions of this source."""
    distribution: Literal["uniform", "normal"] = "uniform"
    """`uniform` is U(-1, 1), `normal` is N(0, 1)."""


class LatentsConfig(Section):
    noise: Annotated[tuple[NoiseConfig, ...], Field(strict=False, max_length=100)] = (NoiseConfig(dim=62),)
    """Independent noise sources, concatenated. One is z as in the paper, two are the lab report's noise1 and noise2."""
    categorical: Annotated[tuple[Annotated[int, Field(ge=2, le=10_000)], ...], Field(strict=False, max_length=100)] = (
        10,
    )
    """Number of classes of each categorical code."""
    continuous: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of continuous codes, each U(-1, 1)."""
    levels: Annotated[int, Field(ge=0, le=1000)] = 0
    """0, or the number of evenly spaced values from -1 to 1 of which each continuous code takes one at random (after Hsu et al. 2023,
    who use about 10). Q's Gaussian and the loss stay the same; L_I refers to U(-1, 1) and is no bound of the mutual information. Two
    images of a pair of objective.lambda_contrastive may agree in other codes by chance. `sample` and `traverse` take any value."""
    balanced: bool = False
    """Whether every K consecutive images have each of a code's K classes once, in random order. False draws them independently. With a
    learned prior the draws are stratified: in every 16 K images, the count of a class differs by less than 2 from its expectation."""
    prior: Literal["uniform", "learned"] = "uniform"
    """p(c), the distribution that classes are drawn from. `learned`: a moving average of Q's mean prediction on the unlabelled reals, for
    data whose classes are not equally frequent. Needs objective.information_trains = trunk; no class gets less than about 0.1 / K.
    Clustering favours an even use of the classes unless objective.clustering_entropy_weight is below 1."""
    prior_from: Fraction = 0.2
    """Fraction of the run at which a learned prior starts to move. Until then it is uniform, because Q has learned little."""
    prior_half_life_images: PositiveInt = 10_000
    """Half-life of the moving average in images."""

    @model_validator(mode="after")
    def _check(self) -> LatentsConfig:
        if not self.noise:
            raise ValueError("latents.noise is empty; set at least one source, say [{dim: 62}]")
        if not self.categorical and not self.continuous:
            raise ValueError(
                "latents.categorical = [] and latents.continuous = 0 leave no code to learn; set latents.categorical = [10], "
                "and for a plain GAN also objective.lambda_categorical = 0"
            )
        if self.levels == 1:
            raise ValueError("latents.levels = 1 makes each continuous code constant; use 10, say, or 0 for U(-1, 1)")
        if self.levels and not self.continuous:
            raise ValueError(
                f"latents.levels = {self.levels} is for continuous codes, but latents.continuous = 0; raise it, or set latents.levels = 0"
            )
        if self.prior == "uniform":
            for key in ("prior_from", "prior_half_life_images"):
                value, default = getattr(self, key), type(self).model_fields[key].default
                if value != default:
                    raise ValueError(
                        f"latents.{key} = {value} needs latents.prior = learned; set it, or leave the key out"
                    )
        elif not self.categorical:
            raise ValueError(
                "latents.prior = learned needs a categorical code; set latents.categorical to [10], say, or latents.prior = uniform"
            )
        width = sum(source.dim for source in self.noise) + sum(self.categorical) + self.continuous
        if width > LATENT_LIMIT:
            raise ValueError(f"latents have {width} dimensions in total, more than {LATENT_LIMIT}; lower them")
        return self


class NetworksConfig(Section):
    family: Annotated[str, known_name(FAMILIES), open_names(FAMILIES.built_in)] = "paper28"
    """`paper28`: the InfoGAN paper's networks for MNIST (28 pixels). `paper32`: its networks for SVHN and CelebA (32 pixels). `dcgan`: the
    lab report's, 32 to 256 pixels. `resnet`: residual networks without norms after R3GAN, 32 to 256 pixels. Plugins add names."""
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    """Channels of the convolution nearest to the image. All other layers scale with it. The papers use 64."""
    norm_G: Norm = "batch"
    """`batch`: batch norm with statistics of the global batch. `batch_local`: with statistics of each process's part. Or `none`."""
    norm_D: NormD = "batch"
    """The same for FE, D and Q. `spectral`: spectral norm for FE and D (Miyato et al. 2018), no norm for Q."""
    norm_Q: NormQ = "family"
    """The same for Q alone. `family`: as in the family's source, `norm_D` for paper28 and paper32, `none` for dcgan and resnet."""
    minibatch_std: Annotated[int, Field(ge=0, le=64)] = 0
    """D, but not Q, also sees how much FE's features vary within each group of this many consecutive images (minibatch standard deviation,
    Karras et al. 2018, section 3, who use 4). Must divide the images of each process per micro-batch. 0 is off."""
    pack: Annotated[int, Field(ge=1, le=16)] = 1
    """D gives one score to this many consecutive images together, reals or fakes (PacGAN, Lin et al. 2018, who use 2). It sees the
    concatenated features of FE; the paper concatenates images. Q reads single images. Must divide the images of each process per
    micro-batch. 1 is off."""

    @property
    def scored_together(self) -> int:
        """D's batch is divisible by this number."""
        return math.lcm(self.minibatch_std or 1, self.pack)

    @model_validator(mode="after")
    def _check(self) -> NetworksConfig:
        if self.minibatch_std == 1:
            raise ValueError("networks.minibatch_std = 1, but one image has no deviation; use 4, or 0 for off")
        return self


class ScheduleConfig(Section):
    """A decay of the learning rates and of the shares of cuts, pastes and neighbour positives over the run. Gradient penalties and
    beta2 can change with it, as in R3GAN (Huang et al. 2024). `train.ema_half_life_images` always rises from 0."""

    images: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Images of the run, to which all fractions refer. null: train.steps * train.global_batch of the first launch, recorded in
    config.yaml, so that a continuation with more steps keeps the schedule."""
    kind: Literal["constant", "linear", "cosine"] = "constant"
    """Shape of the decay from 1 to `final` between `anneal_from` and `anneal_until`."""
    warm_up: Fraction = 0.0
    """Fraction of the run in which learning rates rise linearly from 0."""
    anneal_from: Fraction = 0.5
    """Fraction of the run at which the decay begins."""
    anneal_until: Fraction = 1.0
    """Fraction of the run at which the decay ends."""
    final: Fraction = 0.02
    """Factor after the decay."""
    penalty_final: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of r1_gamma, r2_gamma and lambda_gradient_penalty after the decay; R3GAN's is 0.1. 1: they are constant."""
    beta2_final: Annotated[float, Field(ge=0, lt=1)] | None = None
    """beta2 of both optimizers after the decay, for `optimizer.D.beta2` and `optimizer.G.beta2` before it; R3GAN goes from 0.9 to 0.99.
    null: they are constant."""

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if self.kind == "constant":
            for key in ("anneal_from", "anneal_until", "final", "penalty_final", "beta2_final"):
                value, default = getattr(self, key), type(self).model_fields[key].default
                if value != default:
                    raise ValueError(f"schedule.{key} = {value} needs a decay; set schedule.kind = linear or cosine")
        if self.anneal_until <= self.anneal_from:
            raise ValueError(
                f"schedule.anneal_until = {self.anneal_until} is not after schedule.anneal_from = {self.anneal_from}"
            )
        return self


class AdamConfig(Section):
    lr: LearningRate = 2e-4
    """Adam's learning rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Decay of the first moment. 0.5 is usual for GANs (Radford et al. 2016)."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the second moment."""
    eps: LearningRate = 1e-8
    """Added to the denominator."""
    clip_norm: NonNegativeFloat = 0.0
    """Gradients with a larger joint norm are scaled down to it; 0 is off."""


class GAdamConfig(AdamConfig):
    lr: LearningRate = 1e-3
    """Adam's learning rate."""


class QAdamConfig(Section):
    lr: LearningRate = 1e-3
    """Q's learning rate. All other settings are those of the optimizer that owns Q."""


class OptimizerConfig(Section):
    D: AdamConfig = AdamConfig()
    """Trains FE and D (and Q with `objective.information_trains = trunk`)."""
    G: GAdamConfig = GAdamConfig()
    """Trains G (and Q with `objective.information_trains = heads`)."""
    Q: QAdamConfig = QAdamConfig()
    """Q's learning rate in the optimizer that owns it."""
