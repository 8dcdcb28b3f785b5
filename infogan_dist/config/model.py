"""What is trained: images, latents, networks, objective, augmentation, optimizers and their schedule."""

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
    """`mnist-mini` ships with the package; `sprites` are drawn, from factors that `evaluate` knows; `folder` is any tree of image
    files below data.root. Plugins add names."""
    root: str | None = None
    """Where the files lie or are downloaded to (torchvision's layout). `mnist-mini` and `sprites` need none."""
    image_size: Annotated[int, Field(ge=8, le=1024)] = 28
    """Pixels a side; images are resized (and centre-cropped to a square) to it."""
    channels: Literal[1, 3] = 1
    """1 for grey images, 3 for colour."""
    background: str = "white"
    """Colour behind transparent pixels of image files: a name such as `black`, or `#rrggbb`."""
    held_out: NonNegativeInt = 0
    """Train images kept from training, to tune on: evaluations look at them, and the test images stay unseen. With 0 a `folder`,
    which has no test part, is evaluated on its train images, and `evaluate` says so."""

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
        raise ValueError(f"data.background = {name} is no colour; use a name such as black, or #rrggbb") from error


class NoiseConfig(Section):
    dim: Annotated[int, Field(ge=1, le=LATENT_LIMIT)]
    """Dimensions of this source."""
    distribution: Literal["uniform", "normal"] = "uniform"
    """`uniform` is U(-1, 1), `normal` is N(0, 1)."""


class LatentsConfig(Section):
    noise: Annotated[tuple[NoiseConfig, ...], Field(strict=False, max_length=100)] = (NoiseConfig(dim=62),)
    """Independent noise sources, concatenated: one is z as in the paper, two are the report's noise1 and noise2."""
    categorical: Annotated[tuple[Annotated[int, Field(ge=2, le=10_000)], ...], Field(strict=False, max_length=100)] = (
        10,
    )
    """Number of classes of each categorical code, uniform over its classes."""
    continuous: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of U(-1, 1) codes."""
    balanced: bool = False
    """Every K images in a row hold each of the K classes once, in random order, rather than classes drawn one by one."""

    @model_validator(mode="after")
    def _check(self) -> LatentsConfig:
        if not self.noise:
            raise ValueError("latents.noise is empty; give at least one source, say [{dim: 62}]")
        if not self.categorical and not self.continuous:
            raise ValueError(
                "latents.categorical = [] and latents.continuous = 0 leave no code to learn; set latents.categorical = [10], "
                "and for a plain GAN objective.lambda_categorical = 0 as well"
            )
        width = sum(source.dim for source in self.noise) + sum(self.categorical) + self.continuous
        if width > LATENT_LIMIT:
            raise ValueError(f"latents have {width} dimensions together, more than {LATENT_LIMIT}; lower them")
        return self


class NetworksConfig(Section):
    family: Annotated[str, known_name(FAMILIES), open_names(FAMILIES.built_in)] = "paper28"
    """`paper28`: the InfoGAN appendix for MNIST (28 pixels). `dcgan`: the report's, 32 to 256 pixels. Plugins add names."""
    width: Annotated[int, Field(ge=1, le=1024)] = 64
    """Channels of the convolution nearest the image; every other layer scales with it. 64 is the papers'."""
    norm_G: Norm = "batch"
    """`batch`: statistics of the global batch; `batch_local`: of each process's part, as the ports do; or `none`."""
    norm_D: NormD = "batch"
    """The same for D's side: FE, D and Q. `spectral`: FE and D 1-Lipschitz by layer (Miyato et al. 2018), Q without a norm."""
    norm_Q: NormQ = "family"
    """Q's alone. `family`: as its source has it, `norm_D` for paper28 and none for dcgan."""


class ObjectiveConfig(Section):
    adversarial: Annotated[str, known_name(ADVERSARIAL_LOSSES), open_names(ADVERSARIAL_LOSSES.built_in)] = "standard"
    """`standard`: non-saturating cross-entropy (Goodfellow et al. 2014). `relativistic`: a real and a fake are compared in pairs
    (Jolicoeur-Martineau 2019; Huang et al. 2024), best with r1_gamma and r2_gamma. `none` is a control without an
    adversarial loss. Plugins add names."""
    lambda_categorical: NonNegativeFloat = 1.0
    """Weight of the categorical codes in the information term (Chen et al. 2016, Eq. 6)."""
    lambda_continuous: NonNegativeFloat = 0.1
    """Weight of the continuous codes, smaller so that the Gaussian likelihood stays on the scale of the others."""
    continuous_likelihood: Literal["learned", "fixed"] = "learned"
    """Q's Gaussian of a continuous code: with a learned variance (Chen et al. 2016), or with variance 1, so that the term is half the
    squared error (Lin et al. 2020). With a learned one G is rewarded without bound for hiding a code in pixel detail."""
    lambda_contrastive: NonNegativeFloat = 0.0
    """Weight of the contrastive regulariser (after InfoGAN-CR, Lin et al. 2020): two images that share one continuous code are
    drawn, and which one they share is predicted from Q's means. Needs two continuous codes."""
    contrastive_scale: Annotated[float, Field(gt=0, le=10)] = 0.25
    """Its standard deviation: a difference of this size between two means is a sign that their codes differ."""
    information_trains: Literal["heads", "trunk"] = "heads"
    """Who learns it beside G. `heads`: Q alone, in the G step (the report). `trunk`: FE and Q, in the D step (the authors' code)."""

    information_from: Literal["images", "augmented"] = "images"
    """What Q predicts classes from: G's images, or random augmentations of them (`augmentation`). D always sees the images, and Q
    always predicts continuous codes from the images: these may encode what an augmentation randomises."""
    information_trains_G: bool = True
    """Whether G is trained on the information term. False is a control: Q is trained on G's images, G ignores Q."""
    lambda_clustering: NonNegativeFloat = 0.0
    """Weight of invariant information clustering (Ji et al. 2019, Eq. 3) of the categorical codes, on reals and augmentations of
    their positives: a term beside InfoGAN's that trains FE and Q on unlabelled reals."""
    clustering_from: Fraction = 0.2
    """Fraction of the run at which it starts."""
    clustering_in_full: Fraction = 0.4
    """Fraction of the run at which it has reached its weight, in a linear rise."""
    clustering_entropy_weight: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Its entropy coefficient (`lamb` in the code of Ji et al. 2019): above 1 it weighs an even use of the classes more than
    confident predictions. For data whose classes are about equally frequent."""
    neighbour_positives: Probability = 0.0
    """Share of the reals whose positive is one of their nearest neighbours in pixel space instead of the image itself. Needs no
    label."""

    r1_gamma: NonNegativeFloat = 0.0
    """Weight of R1, half of E|∇D(x)|² on reals (Mescheder et al. 2018, Eq. 9), taken in full precision: with a penalty a GPU
    uses no TF32 in the whole run. 0 is off."""
    r2_gamma: NonNegativeFloat = 0.0
    """Weight of R2, the same on fakes (Eq. 10)."""

    @property
    def has_gradient_penalty(self) -> bool:
        return self.r1_gamma > 0 or self.r2_gamma > 0

    @model_validator(mode="after")
    def _check(self) -> ObjectiveConfig:
        if self.information_trains == "heads":
            for key, set_ in {
                f"lambda_clustering = {self.lambda_clustering}": self.lambda_clustering > 0,
                "information_trains_G = false": not self.information_trains_G,
            }.items():
                if set_:
                    raise ValueError(
                        f"objective.{key} needs objective.information_trains = trunk, where Q learns in D's step"
                    )
        if self.clustering_in_full < self.clustering_from:
            raise ValueError(
                f"objective.clustering_in_full = {self.clustering_in_full} is before "
                f"objective.clustering_from = {self.clustering_from}; raise it"
            )
        if self.neighbour_positives and not self.lambda_clustering:
            raise ValueError(
                f"objective.neighbour_positives = {self.neighbour_positives} is a part of clustering; "
                "set objective.lambda_clustering, say 1"
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
    """The random augmentations that Q sees. A class cannot encode anything that they randomise. There are no flips.

    `preset` sets all other keys; those that are given as well override it.
    """

    preset: Literal["auto", "digits", "none"] = "digits"
    """`digits`: for light handwriting on black. `none`: no augmentation. `auto`, the default of a config: what suits `data.name`."""
    warp: Probability = 0.8
    """Share of the images that are warped: rotated, scaled, sheared, shifted and bent."""
    rotation: NonNegativeFloat = 0.30
    """Largest rotation, radians."""
    scale: NonNegativeFloat = 0.18
    """Largest natural logarithm of the scale factor."""
    aspect: NonNegativeFloat = 0.08
    """Largest natural logarithm of the factor by which width grows and height shrinks."""
    shear: NonNegativeFloat = 0.20
    """Largest horizontal shear factor."""
    shift: NonNegativeFloat = 0.14
    """Largest shift along each axis, in half image sides."""
    elastic: NonNegativeFloat = 0.05
    """Standard deviation of the displacement at each point of a 5 x 5 grid, in half image sides."""
    cut: Probability = 0.5
    """Share of the images in which a random rectangle becomes background."""
    paste: Probability = 0.5
    """Share of the images onto which a random rectangle of another image is pasted, by maximum."""

    @property
    def changes_nothing(self) -> bool:
        warps = self.warp and any((self.rotation, self.scale, self.aspect, self.shear, self.shift, self.elastic))
        return not (warps or self.cut or self.paste)


class ScheduleConfig(Section):
    """How learning rates and the strengths of cuts, pastes and neighbour positives change over the run, in fractions of it."""

    images: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Images of the run that all fractions refer to. null: train.steps * train.global_batch of the first launch, which
    config.yaml records, so that a continuation with more steps keeps the schedule."""
    kind: Literal["constant", "linear", "cosine"] = "constant"
    """How they decay from 1 to `final` between `anneal_from` and `anneal_until`."""
    warm_up: Fraction = 0.0
    """Fraction of the run in which learning rates rise linearly from 0."""
    anneal_from: Fraction = 0.5
    """Fraction of the run at which the decay begins."""
    anneal_until: Fraction = 1.0
    """Fraction of the run at which it ends."""
    final: Fraction = 0.02
    """What remains at its end, as a share."""

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
    """Decay of the first moment; 0.5 is the usual choice for GANs (Radford et al. 2016)."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the second moment."""
    eps: LearningRate = 1e-8
    """Added to the denominator."""
    clip_norm: NonNegativeFloat = 0.0
    """Largest norm of the whole gradient before it is scaled down; 0 is off."""


class GAdamConfig(AdamConfig):
    lr: LearningRate = 1e-3
    """Adam's learning rate."""


class QAdamConfig(Section):
    lr: LearningRate = 1e-3
    """Q's learning rate inside the optimizer that owns it; the other settings are that optimizer's."""


class OptimizerConfig(Section):
    D: AdamConfig = AdamConfig()
    """Trains FE and D (and Q, where the information term trains the trunk)."""
    G: GAdamConfig = GAdamConfig()
    """Trains G (and Q, where the information term trains the heads only)."""
    Q: QAdamConfig = QAdamConfig()
    """Q goes with the side that owns it, at its own rate."""
