"""G, FE, D and Q without convolutions."""

from torch import nn

from infogan_dist.config.model import NetworksConfig


def generator(config: NetworksConfig, latent_dim: int, channels: int, image_size: int) -> nn.Module:
    """[B, latent_dim] -> [B, channels, image_size, image_size] in [-1, 1]."""
    hidden = 8 * config.width
    return nn.Sequential(
        nn.Linear(latent_dim, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, channels * image_size**2),
        nn.Unflatten(1, (channels, image_size, image_size)),
        nn.Tanh(),
    )


def front_end(config: NetworksConfig, channels: int, image_size: int) -> nn.Module:
    """FE: [B, channels, image_size, image_size] -> [B, 8 * width]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, 8 * config.width), nn.LeakyReLU(0.2))


def discriminator(config: NetworksConfig, image_size: int) -> nn.Module:
    """D: [B, 8 * width] -> logit [B, 1]."""
    return nn.Linear(8 * config.width, 1)


def recognition(config: NetworksConfig, posterior_dim: int, image_size: int) -> nn.Module:
    """Q: [B, 8 * width] -> [B, posterior_dim]."""
    return nn.Linear(8 * config.width, posterior_dim)
