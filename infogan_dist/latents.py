"""What z and c are: their sources, layout, names, entropies and sweeps (Chen et al. 2016, section 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from infogan_dist.config.model import LatentsConfig, NoiseConfig
from infogan_dist.errors import UserError
from infogan_dist.randomness import Stream

STRATA_PER_CLASS = 16  # of balanced draws from a learned prior

CodeValue = Tensor | float | Sequence[float]
"""A value of a code: one for all images, or one for each."""


@dataclass(frozen=True)
class Codes:
    """Values of the latent code c: `categorical` int64 [B, number], `continuous` float [B, number] in [-1, 1]."""

    categorical: Tensor
    continuous: Tensor


@dataclass(frozen=True)
class Latents:
    """Noise z, float [B, noise_dim], and the code c of the same images."""

    noise: Tensor
    codes: Codes

    def __len__(self) -> int:
        return len(self.noise)

    def at(self, indexes: Tensor) -> Latents:
        """Those of the images at `indexes`, int64 [n]."""
        return Latents(self.noise[indexes], Codes(self.codes.categorical[indexes], self.codes.continuous[indexes]))

    @classmethod
    def joined(cls, parts: Sequence[Latents]) -> Latents:
        """Those of several batches, one batch after the other."""
        codes = [part.codes for part in parts]
        categorical, continuous = torch.cat([c.categorical for c in codes]), torch.cat([c.continuous for c in codes])
        return cls(torch.cat([part.noise for part in parts]), Codes(categorical, continuous))


@dataclass(frozen=True)
class LatentSpec:
    """Independent noise sources, the widths of the categorical codes and the number of continuous codes.

    A continuous code is U(-1, 1), or with `levels` one of that many evenly spaced values from -1 to 1, all equally probable.
    `priors` are the learned p(c) of each categorical code. Classes are uniform if there are none. `balanced`: every K positions in
    a row hold each of a code's K classes once. With `priors`, every STRATA_PER_CLASS · K positions hold each class k in a number
    that differs by less than 2 from STRATA_PER_CLASS · K · p(k).
    """

    noise: tuple[NoiseConfig, ...]
    categorical: tuple[int, ...]
    continuous: int
    balanced: bool = False
    priors: tuple[tuple[float, ...], ...] = ()
    levels: int = 0

    @classmethod
    def from_config(cls, latents: LatentsConfig) -> LatentSpec:
        """The spec at the start of training, when a learned prior is uniform."""
        learned = latents.prior == "learned"
        priors = tuple((1 / width,) * width for width in latents.categorical) if learned else ()
        return cls(latents.noise, latents.categorical, latents.continuous, latents.balanced, priors, latents.levels)

    def with_priors(self, priors: Iterable[Tensor]) -> LatentSpec:
        """The same spec with the learned `priors`, [K] each and normalised here."""
        exact = [prior.double() for prior in priors]
        return replace(self, priors=tuple(tuple((each / each.sum()).tolist()) for each in exact))

    @property
    def noise_dim(self) -> int:
        return sum(source.dim for source in self.noise)

    @property
    def dim(self) -> int:
        """Width of G's input: noise, one-hot classes, continuous codes, in this order."""
        return self.noise_dim + sum(self.categorical) + self.continuous

    @property
    def posterior_dim(self) -> int:
        """Width of Q's output: a logit a class, then a mean and a log-variance for each continuous code."""
        return sum(self.categorical) + 2 * self.continuous

    @property
    def categorical_names(self) -> tuple[str, ...]:
        return tuple(f"categorical_{i}" for i in range(len(self.categorical)))

    @property
    def continuous_names(self) -> tuple[str, ...]:
        return tuple(f"continuous_{i}" for i in range(self.continuous))

    @property
    def code_names(self) -> tuple[str, ...]:
        return self.categorical_names + self.continuous_names

    def entropies(self) -> dict[str, float]:
        """H(c) in nats by code: that of its prior, ln K for K uniform classes; ln 2, the differential entropy of U(-1, 1), which L_I may
        exceed. It is ln 2 for codes with `levels` too, because Q stays a density: their L_I is E[log(q(c | x) / u(c))], u the density
        of U(-1, 1), and no bound of I(c; x), which is at most ln `levels`."""
        return self.ceilings() | dict.fromkeys(self.continuous_names, math.log(2))

    def ceilings(self) -> dict[str, float]:
        """The largest L_I in nats by categorical code, H(c). A continuous code has none."""
        found = {name: math.log(width) for name, width in zip(self.categorical_names, self.categorical, strict=True)}
        learned = zip(self.categorical_names, self.priors, strict=False)
        return found | {name: -sum(p * math.log(p) for p in prior if p > 0) for name, prior in learned}

    @property
    def continuous_variance(self) -> float:
        """The variance of each continuous code: 1/3 of U(-1, 1)."""
        return (self.levels + 1) / (self.levels - 1) / 3 if self.levels else 1 / 3

    def class_shares(self) -> dict[str, tuple[float, ...]]:
        """p(c) by categorical code."""
        uniform = tuple((1 / width,) * width for width in self.categorical)
        return dict(zip(self.categorical_names, self.priors or uniform, strict=True))

    def draw(self, stream: Stream, positions: Tensor) -> Latents:
        """z and c of the images at global `positions`, int64 [B]; on their device, float32."""
        noise = []
        for number, source in enumerate(self.noise):
            draws = stream.derived(f"noise_{number}")
            if source.distribution == "uniform":
                noise.append(2 * draws.uniform(positions, source.dim) - 1)
            else:
                noise.append(draws.normal(positions, source.dim))
        continuous = [self._continuous(stream.derived(name), positions) for name in self.continuous_names]
        empty = positions.new_empty(len(positions), 0)
        codes = Codes(self._classes(stream, positions), torch.cat([empty.float(), *continuous], dim=1))
        return Latents(torch.cat(noise, dim=1), codes)

    def _continuous(self, draws: Stream, positions: Tensor) -> Tensor:
        """The values of one continuous code, float32 [B, 1]."""
        if not self.levels:
            return 2 * draws.uniform(positions, 1) - 1
        last = self.levels - 1
        twice = 2 * draws.integers(positions, 1, below=self.levels) - last
        return (twice.double() / last).float()  # in float32 CUDA multiplies by 1 / last, with other roundings

    def class_draws(self, stream: Stream, positions: Tensor) -> Tensor:
        """U[0, 1) numbers that `classes_of` maps to classes, float64 [B, number of categorical codes]. They do not depend on the priors.

        Balanced: stratified, so that every STRATA_PER_CLASS · K positions in a row have one number in each of as many equal intervals.
        """
        empty = positions.new_empty(len(positions), 0, dtype=torch.float64)
        draws = [empty]
        for name, width in zip(self.categorical_names, self.categorical, strict=True):
            draw, strata = stream.derived(name).uniform(positions, 1).double(), STRATA_PER_CLASS * width
            if self.balanced:
                draw = (balanced_classes(stream.derived(name), positions, strata) + draw) / strata
            draws.append(draw)
        return torch.cat(draws, dim=1)

    def _classes(self, stream: Stream, positions: Tensor) -> Tensor:
        if self.priors:
            priors = [torch.tensor(prior, dtype=torch.float64, device=positions.device) for prior in self.priors]
            return classes_of(self.class_draws(stream, positions), priors)
        draw_classes = balanced_classes if self.balanced else independent_classes
        classes = [
            draw_classes(stream.derived(name), positions, width)
            for name, width in zip(self.categorical_names, self.categorical, strict=True)
        ]
        return torch.cat([positions.new_empty(len(positions), 0), *classes], dim=1)

    def share_in_pairs(self, codes: Codes, stream: Stream, positions: Tensor) -> tuple[Codes, Tensor]:
        """The same codes, but of the images at positions 2i and 2i + 1 one continuous code is equal. Which one, int64 [B/2], is
        random. B is even."""
        pairs = positions[::2] // 2
        shared = stream.derived("shared").integers(pairs, 1, below=self.continuous)[:, 0]
        continuous = codes.continuous.clone()
        rows = torch.arange(len(pairs), device=positions.device)
        continuous[2 * rows + 1, shared] = continuous[2 * rows, shared]
        return Codes(codes.categorical, continuous), shared

    def vector(self, latents: Latents) -> Tensor:
        """G's input, [B, dim] in the dtype of the noise."""
        codes, dtype = latents.codes, latents.noise.dtype
        one_hots = [one_hot(codes.categorical[:, i], width) for i, width in enumerate(self.categorical)]
        return torch.cat([latents.noise, *(h.to(dtype) for h in one_hots), codes.continuous.to(dtype)], dim=1)

    def neutral_codes(self, count: int) -> Codes:
        """Class 0 and level 0 for `count` images: what a code is held at while another one is swept."""
        return Codes(
            torch.zeros(count, len(self.categorical), dtype=torch.int64),
            torch.zeros(count, self.continuous),
        )

    def with_values(self, codes: Codes, values: Mapping[str, CodeValue], positions: Tensor | None = None) -> Codes:
        """The same codes with the named ones set: a class number or a continuous value, or a list with one for each image [B].

        With the `positions` of the images, int64 [B], a list may have any length: the image at position i takes the value at i,
        and the list is repeated. Raises UserError for an unknown name, a class that is not one of the code's, a continuous value
        that is not finite, or a list of another length.
        """
        categorical, continuous = codes.categorical.clone(), codes.continuous.clone()
        for name, given in values.items():
            if name not in self.code_names:
                raise UserError(f"there is no code {name}; this model has {', '.join(self.code_names) or 'none'}")
            value = self._checked(name, given)
            if value.dim() and positions is not None:
                value = value[positions.to(value.device) % len(value)]
            elif value.dim() and len(value) != len(categorical):
                raise UserError(f"{name} has {len(value)} values for {len(categorical)} images")
            if name in self.continuous_names:
                continuous[:, self.continuous_names.index(name)] = value.to(continuous)
            else:
                categorical[:, self.categorical_names.index(name)] = value.to(categorical)
        return Codes(categorical, continuous)

    def _checked(self, name: str, given: CodeValue) -> Tensor:
        """The value, a scalar, or the list of values, [n], that a code can take. Raises UserError for others."""
        try:
            value = torch.as_tensor(given)
        except (RuntimeError, OverflowError, ValueError, TypeError):  # an integer of more than 64 bits, a list of lists
            raise UserError(f"{name} does not take {given}") from None
        if value.dim() > 1 or not value.numel():
            raise UserError(f"{name} takes a number or a list of numbers, not {given}")
        if name in self.continuous_names:
            if not value.isfinite().all():
                raise UserError(f"{name} is not a finite number")
            return value
        width = self.categorical[self.categorical_names.index(name)]
        wrong = value.flatten()[~((value >= 0) & (value < width) & (value == value.floor())).flatten()]
        if len(wrong):
            raise UserError(f"{name} takes a class from 0 to {width - 1}, not {wrong[0].item():g}")
        return value

    def beyond_training(self, values: Mapping[str, CodeValue]) -> list[str]:
        """For each continuous code set outside -1 to 1, a sentence that training saw no such value."""
        found = []
        for name in self.continuous_names:
            value = torch.as_tensor(values.get(name, 0.0), dtype=torch.float64).flatten()
            beyond = value[value.abs() > 1]
            if len(beyond):
                found.append(f"{name} = {beyond[0].item():g}, but training saw -1 to 1: the images may be poor")
        return found

    def sweep_values(self, name: str, frames: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        """The values of one code in order, [n]: every class, or `frames` levels from `low` to `high`."""
        if name in self.categorical_names:
            return torch.arange(self.categorical[self.categorical_names.index(name)])
        return torch.linspace(low, high, frames)


def independent_classes(stream: Stream, positions: Tensor, width: int) -> Tensor:
    """A class below `width` for each position, uniform and independent, int64 [B, 1]."""
    return stream.integers(positions, 1, below=width)


def balanced_classes(stream: Stream, positions: Tensor, width: int) -> Tensor:
    """The same, but the positions from n · width to (n + 1) · width hold each class once, in random order."""
    orders = stream.derived("balanced").bits(positions // width, width).argsort(dim=1, stable=True)
    return orders.gather(1, (positions % width)[:, None])


def classes_of(draws: Tensor, priors: Sequence[Tensor]) -> Tensor:
    """The classes, int64 [B, codes], to which the inverse CDF of each prior [K] maps `draws` in [0, 1), float64 [B, codes]."""
    classes = []
    for draw, prior in zip(draws.unbind(1), priors, strict=True):
        cumulative = (
            (prior.double() * 2**40).long().cumsum(0).double()
        )  # of integers: of floats it is not deterministic on CUDA
        found = torch.searchsorted(cumulative / cumulative[-1], draw.contiguous(), right=True)
        classes.append(found.clamp_max(len(prior) - 1))
    return torch.stack(classes, dim=1)
