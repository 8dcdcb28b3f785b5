"""What is trained: images, latents, networks, objective, augmentation, optimizers and their schedule."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from infogan_dist.config.section import (
    LATENT_LIMIT,
    Images,
    Norm,
    NormD,
    NormQ,
    Probability,
    Rate,
    Section,
    Weight,
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
    held_out: Images = 0
    """Train images kept from training, to tune on: evaluations look at them, and the test images stay unseen. With 0 a `folder`,
    which has no test part, is evaluated on its train images, and `evaluate` says so."""

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        check_path("data.root", self.root)
        record = DATA_SETS[self.name]
        if record.needs_root and self.root is None:
            raise ValueError(f"data.root is required when data.name = {self.name}; set it to the folder of images")
        if self.channels not in record.channels:
            kind, remedy = ("grey", 1) if self.channels == 3 else ("in colour", 3)
            raise ValueError(f"data.channels = {self.channels}, but data.name = {self.name} is {kind}; use {remedy}")
        return self


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
    lambda_categorical: Weight = 1.0
    """Weight of the categorical codes in the information term (Chen et al. 2016, Eq. 6)."""
    lambda_continuous: Weight = 0.1
    """Weight of the continuous codes, smaller so that the Gaussian likelihood stays on the scale of the others."""
    information_trains: Literal["heads", "trunk"] = "heads"
    """Who learns it beside G. `heads`: Q alone, in the G step (the report). `trunk`: FE and Q, in the D step (the authors' code)."""

    information_from: Literal["images", "views"] = "images"
    """What Q recognises classes from: G's images, or fresh random `views` of them. D always judges the images, and Q always reads
    levels from them, which may mean what a view takes away."""
    information_trains_G: bool = True
    """Whether G learns the information term. False is a control: Q reads what G draws, and G need not make it readable."""
    lambda_clustering: Weight = 0.0
    """Weight of invariant information clustering (Ji et al. 2019, Eq. 3) on reals and views of their partners, for the
    categorical codes: a term beside InfoGAN's that trains FE and Q on unlabelled reals."""
    clustering_from: Images = 60_000
    """Images seen at which it sets in."""
    clustering_in_full: Images = 120_000
    """Images seen at which it has reached its weight, risen linearly."""
    clustering_evenness: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    """Its entropy coefficient (`lamb` in the code of Ji et al. 2019): above 1 it wants the classes used alike more than it wants
    them sure. Only for data whose kinds are about equally many."""
    neighbour_partners: Probability = 0.0
    """Share of the reals whose partner is one of their nearest train images, found without labels, and not themselves."""

    r1_gamma: Weight = 0.0
    """Weight of R1, half of E|∇D(x)|² on reals (Mescheder et al. 2018, Eq. 9), taken in full precision: with a penalty a GPU
    uses no TF32 in the whole run. 0 is off."""
    r2_gamma: Weight = 0.0
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
                f"objective.clustering_in_full = {self.clustering_in_full} comes before "
                f"objective.clustering_from = {self.clustering_from}; raise it"
            )
        if self.neighbour_partners and not self.lambda_clustering:
            raise ValueError(
                f"objective.neighbour_partners = {self.neighbour_partners} is for clustering; "
                "set objective.lambda_clustering, say 1"
            )
        return self


class ViewsConfig(Section):
    """T, the random view that Q sees of an image: what is taken away here is what a class cannot mean. No flips."""

    warp: Probability = 0.8
    """Share of the images that are turned, scaled, sheared, shifted and bent, each by the strengths below."""
    rotation: Weight = 0.30
    """Largest turn, radians."""
    scale: Weight = 0.18
    """Largest natural logarithm of the change of size."""
    aspect: Weight = 0.08
    """Largest natural logarithm by which width grows and height shrinks."""
    shear: Weight = 0.20
    """Largest shear, a shift to the side for each step down."""
    shift: Weight = 0.14
    """Largest shift in each direction, half a side being 1."""
    elastic: Weight = 0.05
    """Standard deviation of the bends at the points of a 5 x 5 grid, half a side being 1."""
    cut: Probability = 0.0
    """Share of the images that lose a rectangle."""
    paste: Probability = 0.0
    """Share of the images that get a rectangle of another one, by maximum."""


class ScheduleConfig(Section):
    """Where learning rates, cuts, pastes and neighbour pairs fall together, linearly, in images seen."""

    anneal_from: Images = 0
    """Images seen at which they begin to fall."""
    anneal_until: Images = 0
    """Images seen at which they have fallen to `final`; 0 keeps them as they are."""
    final: Probability = 0.02
    """Share that is left of them."""

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if self.anneal_until and self.anneal_until <= self.anneal_from:
            raise ValueError(
                f"schedule.anneal_until = {self.anneal_until} is not after schedule.anneal_from = {self.anneal_from}"
            )
        return self


class AdamConfig(Section):
    lr: Rate = 2e-4
    """Adam's learning rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Decay of the first moment; 0.5 is the usual choice for GANs (Radford et al. 2016)."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the second moment."""
    eps: Rate = 1e-8
    """Added to the denominator."""
    clip_norm: Weight = 0.0
    """Largest norm of the whole gradient before it is scaled down; 0 is off."""


class GAdamConfig(AdamConfig):
    lr: Rate = 1e-3
    """Adam's learning rate."""


class QAdamConfig(Section):
    lr: Rate = 1e-3
    """Q's learning rate inside the optimizer that owns it; the other settings are that optimizer's."""


class OptimizerConfig(Section):
    D: AdamConfig = AdamConfig()
    """Trains FE and D (and Q, where the information term trains the trunk)."""
    G: GAdamConfig = GAdamConfig()
    """Trains G (and Q, where the information term trains the heads only)."""
    Q: QAdamConfig = QAdamConfig()
    """Q goes with the side that owns it, at its own rate."""
