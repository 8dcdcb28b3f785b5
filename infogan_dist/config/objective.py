"""The config section of the losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from infogan_dist.config.section import Fraction, NonNegativeFloat, NormD, Probability, Section, known_name, open_names
from infogan_dist.registry.losses import ADVERSARIAL_LOSSES


class ObjectiveConfig(Section):
    adversarial: Annotated[str, known_name(ADVERSARIAL_LOSSES), open_names(ADVERSARIAL_LOSSES.built_in)] = "standard"
    """`standard`: non-saturating cross-entropy (Goodfellow et al. 2014). `relativistic`: compares pairs of a real and a fake
    (Jolicoeur-Martineau 2019; Huang et al. 2024); use it with r1_gamma and r2_gamma. `hinge` (Lim and Ye 2017), `least-squares` (Mao et
    al. 2017). `wasserstein` (Arjovsky et al. 2017) needs a gradient penalty or spectral norm; G has one update per update of D.
    `none`: a control without an adversarial loss. Plugins add names."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """How much D's target for reals is below 1 (one-sided label smoothing, Salimans et al. 2016), for `standard` and `least-squares`."""
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
    clustering_after: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of H(c) that L_I of every categorical code must reach on fakes, on average over ten steps, before clustering starts, at the
    earliest at clustering_from. Its weight then rises over the same number of images, clustering_in_full - clustering_from of the run.
    0: it starts at clustering_from."""
    clustering_entropy_weight: Annotated[float, Field(ge=0.5, le=100)] = 1.0
    """Entropy coefficient w of clustering (`lamb` in the code of Ji et al. 2019): it maximises (2w - 1) H(c) - H(c | c'). Above 1, an even
    use of the classes weighs more than consistent predictions, for data whose classes are about equally frequent. Below 1, frequent
    kinds are split less: 0.7 helped where they were 20 : 1 (configs/README.md). At 0.5 one class for all images is an optimum."""
    neighbour_positives: Probability = 0.0
    """Share of the reals whose positive is one of their nearest neighbours in pixel space instead of the image itself. Uses no labels."""

    r1_gamma: NonNegativeFloat = 0.0
    """Weight of R1, half of E|∇D(x)|² on reals (Mescheder et al. 2018, Eq. 9), computed in full precision. With a penalty a GPU does not
    use TF32 in the run. 0 is off."""
    r2_gamma: NonNegativeFloat = 0.0
    """Weight of R2, the same on fakes (Eq. 10). 0 is off."""
    lambda_gradient_penalty: NonNegativeFloat = 0.0
    """Weight of E(|∇D(x)| - 1)² at random points x between a real and a fake (Gulrajani et al. 2017, Eq. 3; they use 10 with
    `wasserstein`), computed as R1. Needs networks.norm_D without batch norm. 0 is off."""

    diff_augment: Annotated[
        tuple[Literal["colour", "translation", "cutout"], ...], Field(strict=False, max_length=3)
    ] = ()
    """Random changes of all reals and fakes that D sees, in both steps (DiffAugment, Zhao et al. 2020), for small data sets. Q's images
    do not change. G still draws images without them. With Q's augmentations also on D, the code error on MNIST, which is not small, rose
    from 3.3 to 29.5 % (one seed). Gradient penalties are at D's input. [] is off."""
    diff_augment_target: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Each change is made with a probability that starts at 0, rises while the mean sign of D's logits of reals is above this target,
    and falls while it is below (adaptive augmentation, Karras et al. 2020, who use 0.6). 0: every image is changed."""
    diff_augment_images: Annotated[int, Field(ge=1, le=10**12)] = 500_000
    """Images in which this probability can rise from 0 to 1 (500,000 in the paper)."""
    instance_noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Standard deviation of Gaussian noise on all reals and fakes that D sees, at the start (Sønderby et al. 2017; Roth et al. 2017);
    pixels are in [-1, 1]. It falls linearly to 0. Q's images have none, because it would hide what continuous codes encode. 0 is off."""
    instance_noise_until: Fraction = 0.5
    """Fraction of the run at which this noise reaches 0."""

    @property
    def has_gradient_penalty(self) -> bool:
        return self.r1_gamma > 0 or self.r2_gamma > 0 or self.lambda_gradient_penalty > 0

    @model_validator(mode="after")
    def _check(self) -> ObjectiveConfig:
        if self.label_smoothing and not ADVERSARIAL_LOSSES[self.adversarial].has_real_target:
            names = " or ".join(name for name, record in ADVERSARIAL_LOSSES.built_in.items() if record.has_real_target)
            raise ValueError(
                f"objective.label_smoothing = {self.label_smoothing} lowers D's target for reals, but objective.adversarial = "
                f"{self.adversarial} has none; use {names}, or objective.label_smoothing = 0"
            )
        if self.information_trains == "heads":
            for setting, is_set in {
                f"lambda_clustering = {self.lambda_clustering}": self.lambda_clustering > 0,
                "information_trains_G = false": not self.information_trains_G,
            }.items():
                if is_set:
                    raise ValueError(
                        f"objective.{setting} needs objective.information_trains = trunk, which trains Q in the D step"
                    )
        if self.diff_augment_target:
            self._check_adaptive()
        if self.instance_noise and not self.instance_noise_until:
            raise ValueError(
                f"objective.instance_noise = {self.instance_noise} ends before the first image, because "
                "objective.instance_noise_until = 0; raise it, say to 0.5"
            )
        if self.clustering_in_full < self.clustering_from:
            raise ValueError(
                f"objective.clustering_in_full = {self.clustering_in_full} is before "
                f"objective.clustering_from = {self.clustering_from}; raise it"
            )
        if self.clustering_after and not (self.lambda_clustering and self.lambda_categorical):
            key = "lambda_categorical" if self.lambda_clustering else "lambda_clustering"
            raise ValueError(
                f"objective.clustering_after = {self.clustering_after} starts clustering when Q has learned the categorical codes, but "
                f"objective.{key} = 0; set it, say to 1, or set objective.clustering_after = 0"
            )
        if self.neighbour_positives and not self.lambda_clustering:
            raise ValueError(
                f"objective.neighbour_positives = {self.neighbour_positives} needs clustering; "
                "set objective.lambda_clustering, say to 1"
            )
        return self

    def _check_adaptive(self) -> None:
        given = f"objective.diff_augment_target = {self.diff_augment_target}"
        if not self.diff_augment:
            raise ValueError(
                f"{given} adapts the changes of objective.diff_augment, which is empty; set it to [colour, translation, cutout], or "
                "objective.diff_augment_target = 0"
            )
        if not ADVERSARIAL_LOSSES[self.adversarial].has_decision:
            names = " or ".join(name for name, record in ADVERSARIAL_LOSSES.built_in.items() if record.has_decision)
            raise ValueError(
                f"{given} needs the sign of D's logit of a real, which has no meaning with objective.adversarial = {self.adversarial}; "
                f"use {names}, or objective.diff_augment_target = 0"
            )

    def check_norm(self, norm_D: NormD) -> None:
        """Raises ValueError if the adversarial loss or the gradient penalty does not work with this norm of FE and D."""
        if self.lambda_gradient_penalty and norm_D in ("batch", "batch_local"):
            raise ValueError(
                f"objective.lambda_gradient_penalty = {self.lambda_gradient_penalty} penalises D's gradient at each image, but with "
                f"networks.norm_D = {norm_D} D's output depends on the other images of the batch; use networks.norm_D = none"
            )
        bounded = self.has_gradient_penalty or norm_D == "spectral"
        if ADVERSARIAL_LOSSES[self.adversarial].needs_bounded_gradient and not bounded:
            raise ValueError(
                f"objective.adversarial = {self.adversarial} has no minimum unless D's gradient is bounded; set "
                "objective.lambda_gradient_penalty = 10 and networks.norm_D = none, or networks.norm_D = spectral"
            )
