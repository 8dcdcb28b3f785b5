"""Config sections of the model: data, latents, networks, objective, augmentation, optimizers and their schedule."""

from __future__ import annotations

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
    Probability,
    Section,
    check_path,
    known_name,
    open_names,
)
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.registry.families import FAMILIES
from infogan_dist.registry.losses import ADVERSARIAL_LOSSES


class DataConfig(Section):
    name: Annotated[str, known_name(DATA_SETS), open_names(DATA_SETS.built_in)] = "mnist-mini"
    """`mnist-mini` ships with the package. `sprites` (grey) and `scenes` (colour) are drawn from factors that `evaluate` knows. `folder` is
    any tree of image files below data.root. torchvision reads the others, and downloads all but `celeba`. Plugins add names."""
    root: str | None = None
    """Folder of the images, or where they are downloaded to (torchvision's layout). Data that ships or is drawn does not need it."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 28
    """Side of the images in pixels. Images are centre-cropped to a square and resized."""
    channels: Literal[1, 3] = 1
    """1 for grey images, 3 for colour."""
    background: str = "white"
    """Colour behind transparent pixels of image files: a name such as `black`, or `#rrggbb`."""
    held_out: NonNegativeInt = 0
    """Number of train images to keep out of training for tuning. Evaluations use them instead of the test images. With 0 a `folder`,
    which has no test images, is evaluated on its train images, and `evaluate` says so."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        check_path("data.root", self.root)
        record = DATA_SETS[self.name]
        if record.needs_root and self.root is None:
            raise ValueError(f"data.root is required when data.name = {self.name}; set it to the folder of images")
        if self.root is not None and not record.uses_root:
            raise ValueError(
                f"data.root = {self.root} is not used by data.name = {self.name}; set data.name = folder to train on the images "
                "in it, data.name = mnist for MNIST in torchvision's layout, or leave data.root out"
            )
        _check_colour(self.background)
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
    """Number of classes of each categorical code. Classes are drawn uniformly."""
    continuous: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of U(-1, 1) codes."""
    balanced: bool = False
    """Whether every K consecutive images have each of a code's K classes once, in random order. False draws them independently."""

    @model_validator(mode="after")
    def _check(self) -> LatentsConfig:
        if not self.noise:
            raise ValueError("latents.noise is empty; set at least one source, say [{dim: 62}]")
        if not self.categorical and not self.continuous:
            raise ValueError(
                "latents.categorical = [] and latents.continuous = 0 leave no code to learn; set latents.categorical = [10], "
                "and for a plain GAN also objective.lambda_categorical = 0"
            )
        width = sum(source.dim for source in self.noise) + sum(self.categorical) + self.continuous
        if width > LATENT_LIMIT:
            raise ValueError(f"latents have {width} dimensions in total, more than {LATENT_LIMIT}; lower them")
        return self


class NetworksConfig(Section):
    family: Annotated[str, known_name(FAMILIES), open_names(FAMILIES.built_in)] = "paper28"
    """`paper28`: the InfoGAN paper's networks for MNIST (28 pixels). `paper32`: its networks for SVHN and CelebA (32 pixels). `dcgan`: the
    lab report's, 32 to 256 pixels. Plugins add names."""
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    """Channels of the convolution nearest to the image. All other layers scale with it. The papers use 64."""
    norm_G: Norm = "batch"
    """`batch`: batch norm with statistics of the global batch. `batch_local`: with statistics of each process's part. Or `none`."""
    norm_D: NormD = "batch"
    """The same for FE, D and Q. `spectral`: spectral norm for FE and D (Miyato et al. 2018), no norm for Q."""
    norm_Q: NormQ = "family"
    """The same for Q alone. `family`: as in the family's source, `norm_D` for paper28 and paper32, `none` for dcgan."""


class ObjectiveConfig(Section):
    adversarial: Annotated[str, known_name(ADVERSARIAL_LOSSES), open_names(ADVERSARIAL_LOSSES.built_in)] = "standard"
    """`standard`: non-saturating cross-entropy (Goodfellow et al. 2014). `relativistic`: compares pairs of a real and a fake
    (Jolicoeur-Martineau 2019; Huang et al. 2024); use it with r1_gamma and r2_gamma. `none`: a control without an adversarial loss.
    Plugins add names."""
    lambda_categorical: NonNegativeFloat = 1.0
    """Weight of the categorical codes in the information term (Chen et al. 2016, Eq. 6)."""
    lambda_continuous: NonNegativeFloat = 0.1
    """Weight of the continuous codes in it. It is smaller because a Gaussian likelihood has a larger scale."""
    continuous_likelihood: Literal["learned", "fixed"] = "learned"
    """Q's Gaussian of a continuous code: with a learned variance (Chen et al. 2016), or with variance 1, so that the term is half the
    squared error (Lin et al. 2020). With a learned one G is rewarded without bound for hiding a code in pixel detail."""
    lambda_contrastive: NonNegativeFloat = 0.0
    """Weight of the contrastive regulariser (after InfoGAN-CR, Lin et al. 2020): two images that share one continuous code are
    drawn, and which one they share is predicted from Q's means. Needs two continuous codes."""
    contrastive_scale: Annotated[float, Field(gt=0, le=10)] = 0.25
    """Its standard deviation: a difference of this size between two means is a sign that their codes differ."""
    information_trains: Literal["heads", "trunk"] = "heads"
    """What the information term trains besides G. `heads`: Q, in the G step (the lab report). `trunk`: FE and Q, in the D step (the
    authors' code)."""

    information_from: Literal["images", "augmented"] = "images"
    """What Q predicts classes from: G's images, or random augmentations of them (`augmentation`). D always sees the images. Q always
    predicts continuous codes from the images, because an augmentation randomises what these may encode."""
    information_trains_G: bool = True
    """Whether the information term trains G. False is a control: Q learns from G's images, and G ignores Q."""
    lambda_clustering: NonNegativeFloat = 0.0
    """Weight of invariant information clustering (Ji et al. 2019, Eq. 3) of the categorical codes. It compares reals with augmentations
    of their positives and trains FE and Q on unlabelled reals, in addition to InfoGAN's losses."""
    clustering_from: Fraction = 0.2
    """Fraction of the run at which clustering starts."""
    clustering_in_full: Fraction = 0.4
    """Fraction of the run at which clustering reaches its weight. It rises linearly."""
    clustering_entropy_weight: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Entropy coefficient of clustering (`lamb` in the code of Ji et al. 2019). Above 1, an even use of the classes weighs more than
    confident predictions. For data whose classes are about equally frequent."""
    neighbour_positives: Probability = 0.0
    """Share of the reals whose positive is one of their nearest neighbours in pixel space instead of the image itself. Uses no labels."""

    r1_gamma: NonNegativeFloat = 0.0
    """Weight of R1, half of E|∇D(x)|² on reals (Mescheder et al. 2018, Eq. 9), computed in full precision. With a penalty a GPU does not
    use TF32 in the run. 0 is off."""
    r2_gamma: NonNegativeFloat = 0.0
    """Weight of R2, the same on fakes (Eq. 10). 0 is off."""

    @property
    def has_gradient_penalty(self) -> bool:
        return self.r1_gamma > 0 or self.r2_gamma > 0

    @model_validator(mode="after")
    def _check(self) -> ObjectiveConfig:
        if self.information_trains == "heads":
            for setting, is_set in {
                f"lambda_clustering = {self.lambda_clustering}": self.lambda_clustering > 0,
                "information_trains_G = false": not self.information_trains_G,
            }.items():
                if is_set:
                    raise ValueError(
                        f"objective.{setting} needs objective.information_trains = trunk, which trains Q in the D step"
                    )
        if self.clustering_in_full < self.clustering_from:
            raise ValueError(
                f"objective.clustering_in_full = {self.clustering_in_full} is before "
                f"objective.clustering_from = {self.clustering_from}; raise it"
            )
        if self.neighbour_positives and not self.lambda_clustering:
            raise ValueError(
                f"objective.neighbour_positives = {self.neighbour_positives} needs clustering; "
                "set objective.lambda_clustering, say to 1"
            )
        return self


AUGMENTATIONS: dict[str, dict[str, float]] = {
    "digits": {
        **{"warp": 0.8, "rotation": 0.30, "scale": 0.18, "aspect": 0.08, "shear": 0.20, "shift": 0.14, "elastic": 0.05},
        **{"cut": 0.5, "paste": 0.5},
    },
    "none": dict.fromkeys(("warp", "rotation", "scale", "aspect", "shear", "shift", "elastic", "cut", "paste"), 0.0),
}
"""The values of each `augmentation.preset`."""


class AugmentationConfig(Section):
    """Random augmentations of the images that Q sees. A class cannot encode anything that they randomise. There are no flips.

    `preset` sets all other keys. Keys that are given override it.
    """

    preset: Literal["auto", "digits", "none"] = "digits"
    """`digits`: for light handwriting on black. `none`: no augmentation. `auto`, the default in a config: chosen by `data.name`."""
    warp: Probability = 0.8
    """Share of the images that are warped: rotated, scaled, sheared, shifted and elastically deformed."""
    rotation: NonNegativeFloat = 0.30
    """Largest rotation, radians."""
    scale: NonNegativeFloat = 0.18
    """Largest natural logarithm of the scale factor."""
    aspect: NonNegativeFloat = 0.08
    """Largest natural logarithm of the factor that multiplies width and divides height."""
    shear: NonNegativeFloat = 0.20
    """Largest horizontal shear factor."""
    shift: NonNegativeFloat = 0.14
    """Largest shift along each axis, in half image sides."""
    elastic: NonNegativeFloat = 0.05
    """Standard deviation of the displacement at each point of a 5 x 5 grid, in half image sides."""
    cut: Probability = 0.5
    """Share of the images in which a random rectangle is set to the background."""
    paste: Probability = 0.5
    """Share of the images that get a random rectangle of another image, by pixelwise maximum."""

    @property
    def changes_nothing(self) -> bool:
        warps = self.warp and any((self.rotation, self.scale, self.aspect, self.shear, self.shift, self.elastic))
        return not (warps or self.cut or self.paste)


class ScheduleConfig(Section):
    """A decay of the learning rates and of the shares of cuts, pastes and neighbour positives over the run."""

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

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if self.kind == "constant":
            for key in ("anneal_from", "anneal_until", "final"):
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
