"""The network families, one record each. To add one, add a file of plain torch in networks/ and a record."""

from __future__ import annotations

from dataclasses import dataclass

from infogan_dist.registry.lookup import Registry


@dataclass(frozen=True, kw_only=True)
class FamilyRecord:
    """G, FE, D and Q of one architecture."""

    name: str
    module: str
    """The module with `generator`, `front_end`, `discriminator` and `recognition`, as in networks/paper28.py, and optionally
    `initial_std`, as in networks/resnet.py."""
    image_sizes: tuple[int, ...] = ()
    """Supported values of data.image_size; empty for any."""
    has_norms: bool = True
    """Whether its networks have the norms that the config names. Spectral norm cannot divide initial weights that are 0."""

    def takes(self, image_size: int) -> bool:
        return not self.image_sizes or image_size in self.image_sizes


FAMILIES = Registry(
    "network family",
    "networks.family",
    "infogan_dist.networks",
    [
        FamilyRecord(name="paper28", module="infogan_dist.networks.paper28", image_sizes=(28,)),
        FamilyRecord(name="paper32", module="infogan_dist.networks.paper32", image_sizes=(32,)),
        FamilyRecord(name="dcgan", module="infogan_dist.networks.dcgan", image_sizes=(32, 64, 128, 256)),
        FamilyRecord(
            name="resnet", module="infogan_dist.networks.resnet", image_sizes=(32, 64, 128, 256), has_norms=False
        ),
    ],
)


def check_image_size(family: str, image_size: int) -> None:
    """Raises ValueError, naming sizes and families that fit, if the family does not support images of this size."""
    record = FAMILIES[family]
    if record.takes(image_size):
        return
    *sizes, last = map(str, record.image_sizes)
    supported = f"{', '.join(sizes)} or {last}" if sizes else last
    others = [name for name, each in FAMILIES.built_in.items() if each.takes(image_size)]
    remedy = f", or networks.family = {others[0]}" if others else ""
    raise ValueError(f"data.image_size = {image_size} does not fit networks.family = {family}; use {supported}{remedy}")


def check_norms(family: str, norms: dict[str, str]) -> None:
    """Raises ValueError, naming the config keys, for norms that the family does not have."""
    unknown = [key for key, norm in norms.items() if norm not in ("none", "family")]
    if unknown and not FAMILIES[family].has_norms:
        given = ", ".join(f"networks.{key} = {norms[key]}" for key in unknown)
        remedy = ", ".join(f"networks.{key} = none" for key in unknown)
        raise ValueError(f"{given}, but networks.family = {family} has no norms; use {remedy}")
