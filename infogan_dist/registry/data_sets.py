"""The data sets, one record each. A new one is a record here, and a function that opens it where none of the others does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infogan_dist.registry.lookup import Registry

DIGITS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
MNIST_INK_BOX = (
    20 / 28
)  # LeCun et al. 1998: size-normalised to fit a 20 x 20 box, which the centre of mass places in 28 x 28
_MNIST = "LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition"


@dataclass(frozen=True, kw_only=True)
class DataSetRecord:
    """A data set, by what everybody needs to know of it. Images are uint8, of the size and channels that the config says."""

    name: str
    open: str
    """`module:function` of (DataConfig, "train" or "test"), which gives an ImageSource. With `data.held_out` it is asked for
    "train" only."""
    channels: tuple[int, ...] = (1,)
    """The values of data.channels that it can give."""
    size: int | None = None
    """Pixels a side before resizing; None where it has no size of its own."""
    needs_root: bool = False
    """Whether it has no default for data.root."""
    uses_root: bool = True
    """Whether it reads anything from data.root."""
    has_test_part: bool = True
    """Whether "test" gives other images than "train"."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by label; empty where no labels are known."""
    factors: tuple[str, ...] = ()
    """Names of the factors that its images are made from; empty where none are known."""
    read_labels: str = ""
    """`module:function` of (DataConfig, "train" or "test"), which gives the label of every image, int64 [N]. Only evaluation
    imports it."""
    read_factors: str = ""
    """`module:function` of (DataConfig, "train" or "test"), which gives evaluation's Variables of every image, a column for each
    of `factors`. Only evaluation imports it."""
    augmentation: Literal["digits", "none"] = "none"
    """The preset of augmentations that keeps its classes."""
    noun: str = "image"
    """What one of its images is called, in the singular."""
    drawn_by_hand: bool = False
    """Whether a person can draw such an image with a pen."""
    ink_box: float | None = None
    """Where images are light ink on black, centred by its mass: the larger side of the ink's box, as a share of the image's side."""
    handwritten_digits: bool = False
    """Whether its images are light handwritten digits on black, which the reference classifier and the pen's attributes are for."""
    torchvision: str = ""
    """The class of torchvision.datasets that downloads it in MNIST's layout; empty where torchvision does not."""
    licence: str = ""
    citation: str = ""
    redrawn: str = ""
    """What changed in its images since checkpoints that do not record theirs."""

    def __post_init__(self) -> None:
        for names, reader in (("classes", "read_labels"), ("factors", "read_factors")):
            if bool(getattr(self, names)) != bool(getattr(self, reader)):
                raise ValueError(f"a data set has both {names} and {reader}, or neither")
        if self.drawn_by_hand and self.ink_box is None:
            raise ValueError("a data set that is drawn_by_hand has an ink_box")


DATA_SETS = Registry(
    "data set",
    "data.name",
    "infogan_dist.data",
    [
        DataSetRecord(
            name="mnist-mini",
            open="infogan_dist.data.sources:open_mnist_mini",
            uses_root=False,
            size=28,
            classes=DIGITS,
            read_labels="infogan_dist.evaluation.labels:mnist_mini_labels",
            augmentation="digits",
            noun="digit",
            drawn_by_hand=True,
            ink_box=MNIST_INK_BOX,
            handwritten_digits=True,
            licence="CC BY-SA 3.0",
            citation=_MNIST,
            redrawn="1,000 train images of each digit then, drawn without labels now",
        ),
        DataSetRecord(
            name="mnist",
            open="infogan_dist.data.torchvision_sets:open_mnist_layout",
            size=28,
            classes=DIGITS,
            read_labels="infogan_dist.evaluation.labels:torchvision_labels",
            augmentation="digits",
            noun="digit",
            drawn_by_hand=True,
            ink_box=MNIST_INK_BOX,
            handwritten_digits=True,
            torchvision="MNIST",
            licence="CC BY-SA 3.0",
            citation=_MNIST,
        ),
        DataSetRecord(
            name="fashion-mnist",
            open="infogan_dist.data.torchvision_sets:open_mnist_layout",
            size=28,
            classes=(
                *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
                *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            ),
            read_labels="infogan_dist.evaluation.labels:torchvision_labels",
            augmentation="digits",
            noun="garment",
            ink_box=1.0,
            torchvision="FashionMNIST",
            licence="MIT",
            citation="Xiao, Rasul and Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747",
        ),
        DataSetRecord(
            name="kmnist",
            open="infogan_dist.data.torchvision_sets:open_mnist_layout",
            size=28,
            classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
            read_labels="infogan_dist.evaluation.labels:torchvision_labels",
            augmentation="digits",
            noun="character",
            drawn_by_hand=True,
            ink_box=1.0,
            torchvision="KMNIST",
            licence="CC BY-SA 4.0",
            citation="Clanuwat et al. 2018, Deep learning for classical Japanese literature, arXiv:1812.01718",
        ),
        DataSetRecord(
            name="sprites",
            open="infogan_dist.data.sprites:open_sprites",
            uses_root=False,
            factors=("shape", "scale", "rotation", "x", "y"),
            noun="shape",
            read_factors="infogan_dist.evaluation.labels:sprite_factors",
            licence="MIT, as this package",
            citation="drawn here, after dSprites (Matthey, Higgins, Hassabis and Lerchner 2017)",
        ),
        DataSetRecord(
            name="folder",
            open="infogan_dist.data.folder:open_folder",
            channels=(1, 3),
            needs_root=True,
            has_test_part=False,
        ),
    ],
)
