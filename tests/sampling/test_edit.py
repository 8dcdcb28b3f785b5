from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infogan_dist import Generator
from infogan_dist.config.schema import Config
from infogan_dist.errors import UserError
from infogan_dist.latents import Latents
from infogan_dist.randomness import Stream
from infogan_dist.sampling.edit import edit
from infogan_dist.sampling.recognizer import Recognizer
from tests.conftest import tiny

PIXELS = 28 * 28


def config(distribution: str = "uniform") -> Config:
    return tiny(
        "run", f"latents={{noise: [{{dim: 6, distribution: {distribution}}}], categorical: [3], continuous: 1}}"
    )


def directions(count: int) -> Tensor:
    """Orthogonal pictures [count, PIXELS], each as bright as the others."""
    drawn = Stream(0, "pictures").normal(torch.arange(PIXELS), count)
    return torch.linalg.qr(drawn).Q.T * PIXELS**0.5 / 4


class Toy(nn.Module):
    """An image of a picture for each class, each noise dimension and the continuous code, added; the noise counts for more with
    each class, so that it does not mean the same in all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(directions(6 + 3 + 1))

    def forward(self, vector: Tensor) -> Tensor:
        strength = 0.5 + vector[:, 6:9] @ torch.tensor([0.0, 0.3, 0.6])
        vector = torch.cat([vector[:, :6] * strength[:, None], vector[:, 6:]], dim=1)
        return (vector @ self.weight).view(-1, 1, 28, 28)


class ToyQ(nn.Module):
    """Reads the codes by the pictures of the classes and of the continuous code."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(directions(6 + 3 + 1)[6:])

    def forward(self, images: Tensor) -> Tensor:
        found = images.flatten(1) @ self.weight.T * 16 / PIXELS
        return torch.cat([10 * found[:, :3], found[:, 3:], torch.zeros(len(images), 1)], dim=1)


class Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.weight


def models(distribution: str = "uniform") -> tuple[Generator, Recognizer]:
    return Generator(Toy(), config(distribution)), Recognizer(Features(), ToyQ(), config(distribution))


def real_image(G: Generator, position: int = 5) -> tuple[Latents, Tensor]:
    latents = G.spec.draw(Stream(1, "reals"), torch.tensor([position]))
    return latents, G.draw(latents)[0]


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_codes_and_noise_of_an_image_are_found(distribution: str) -> None:
    G, Q = models(distribution)
    latents, image = real_image(G)
    found = edit(G, Q, image, {"continuous_0": 0.9})
    assert torch.equal(found.latents.codes.categorical, latents.codes.categorical)
    assert torch.allclose(found.latents.codes.continuous, latents.codes.continuous, atol=1e-4)
    assert (found.reconstruction[0] - image).square().mean() < 1e-4
    best = min((found_of - image).square().mean().item() for found_of in G.sample(1000, seed=0, **codes_of(G, latents)))
    assert (found.reconstruction[0] - image).square().mean().item() < best
    assert torch.allclose(found.latents.noise, latents.noise, atol=0.05)


def codes_of(G: Generator, latents: Latents) -> dict[str, float]:
    return {"categorical_0": latents.codes.categorical.item(), "continuous_0": latents.codes.continuous.item()}


def test_the_edited_image_is_drawn_from_the_same_noise_with_the_code_changed() -> None:
    G, Q = models()
    latents, image = real_image(G)
    wanted = (latents.codes.categorical.item() + 1) % 3
    found = edit(G, Q, image, {"categorical_0": wanted})
    assert torch.equal(found.latents.noise, found.edited_latents.noise)
    assert found.edited_latents.codes.categorical.item() == wanted
    assert torch.equal(found.edited_latents.codes.continuous, found.latents.codes.continuous)
    assert torch.equal(found.edited, G.draw(found.edited_latents))
    assert Q.codes(found.edited).categorical.item() == wanted


def test_an_edit_of_a_class_stays_nearer_to_the_image_than_noise_of_the_image_alone_would() -> None:
    G, Q = models()
    for position in range(2):
        latents, image = real_image(G, position)
        wanted = (latents.codes.categorical.item() + 1) % 3
        found = edit(G, Q, image, {"categorical_0": wanted})
        redrawn = G.draw(Latents(latents.noise, G.spec.with_values(latents.codes, {"categorical_0": wanted})))
        assert (found.edited - image).square().mean() < (redrawn - image).square().mean()


def test_the_same_seed_gives_the_same_edit() -> None:
    G, Q = models()
    _, image = real_image(G)
    first, again, other = (edit(G, Q, image, {"categorical_0": 2}, seed) for seed in (0, 0, 1))
    assert torch.equal(first.edited, again.edited)
    assert not torch.equal(first.latents.noise, other.latents.noise)


def test_what_cannot_be_edited_is_refused() -> None:
    G, Q = models()
    _, image = real_image(G)
    with pytest.raises(UserError, match="needs a code to change"):
        edit(G, Q, image, {})
    with pytest.raises(UserError, match="there is no code digit"):
        edit(G, Q, image, {"digit": 3})
    with pytest.raises(UserError, match="0 to 2, not 3"):
        edit(G, Q, image, {"categorical_0": 3})
