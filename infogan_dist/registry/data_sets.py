"""The data sets, one record each. To add one, add a record, and a function that opens it if no existing function can."""

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
    """A data set. Its images are uint8, with the config's size and channels."""

    name: str
    open: str
    """`module:function` that maps (DataConfig, "train" or "test") to an ImageSource. With `data.held_out` only "train" is opened."""
    scan: str = ""
    """`module:function` that maps DataConfig to the FileIndex of its images, if they are the user's own files."""
    channels: tuple[int, ...] = (1,)
    """Supported values of data.channels."""
    size: int | None = None
    """Side of the original images in pixels; None if they have no fixed size."""
    needs_root: bool = False
    """Whether data.root is required."""
    uses_root: bool = True
    """Whether it reads from data.root."""
    of_mnist: bool = False
    """Whether it is made from the digits of mnist in data.root, or of mnist-mini if data.root is not given."""
    has_test_part: bool = True
    """Whether "test" gives other images than "train"."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by label; empty if there are no labels."""
    factors: tuple[str, ...] = ()
    """Names of the generative factors; empty if they are unknown."""
    read_labels: str = ""
    """`module:function` that maps (DataConfig, "train" or "test") to the labels, int64 [N]. Only evaluation imports it."""
    read_classes: str = ""
    """`module:function` that maps DataConfig to the names of the classes, by label, if they depend on the files. Only evaluation
    imports it."""
    read_factors: str = ""
    """`module:function` that maps (DataConfig, "train" or "test") to evaluation's Variables, a column for each of `factors`. Only
    evaluation imports it."""
    augmentation: Literal["digits", "objects", "none"] = "none"
    """The augmentation preset that preserves its classes."""
    noun: str = "image"
    """The singular noun for one of its images."""
    drawn_by_hand: bool = False
    """Whether a person can draw such an image with a pen."""
    ink_box: float | None = None
    """For light ink on black, centred by its mass: the larger side of the ink's bounding box, as a fraction of the image side."""
    handwritten_digits: bool = False
    """Whether its images are light handwritten digits on black, for which the reference classifier and the stroke metrics are made."""
    torchvision: str = ""
    """The class of torchvision.datasets that reads it, a key of data/torchvision_layouts.py; empty if there is none."""
    licence: str = ""
    citation: str = ""
    redrawn: str = ""
    """How its images have changed since checkpoints that do not record a fingerprint."""

    def __post_init__(self) -> None:
        known = {"classes": self.classes or self.read_classes, "factors": self.factors}
        for names, reader in (("classes", "read_labels"), ("factors", "read_factors")):
            if bool(known[names]) != bool(getattr(self, reader)):
                raise ValueError(f"{names} and {reader} of a data set must be set together")
        if self.drawn_by_hand and self.ink_box is None:
            raise ValueError("a data set with drawn_by_hand needs an ink_box")


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
            name="stacked-mnist",
            open="infogan_dist.data.mnist_variants:open_stacked_mnist",
            of_mnist=True,
            channels=(3,),
            size=28,
            factors=("red_digit", "green_digit", "blue_digit"),
            read_factors="infogan_dist.evaluation.labels:stacked_factors",
            augmentation="digits",
            noun="digit triple",
            licence="CC BY-SA 3.0",
            citation="Metz, Poole, Pfau and Sohl-Dickstein 2017, Unrolled generative adversarial networks, arXiv:1611.02163",
        ),
        DataSetRecord(
            name="imbalanced-mnist",  # labels decided its train images, once: evaluation/imbalanced_subset.py
            open="infogan_dist.data.mnist_variants:open_imbalanced_mnist",
            of_mnist=True,
            size=28,
            classes=DIGITS,
            read_labels="infogan_dist.evaluation.labels:imbalanced_labels",
            augmentation="digits",
            noun="digit",
            drawn_by_hand=True,
            ink_box=MNIST_INK_BOX,
            handwritten_digits=True,
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
            name="svhn",
            open="infogan_dist.data.torchvision_sets:open_svhn",
            channels=(3,),
            size=32,
            classes=DIGITS,
            read_labels="infogan_dist.evaluation.labels:svhn_labels",
            noun="house number",
            torchvision="SVHN",
            citation="Netzer et al. 2011, Reading digits in natural images with unsupervised feature learning",
        ),
        DataSetRecord(
            name="cifar10",
            open="infogan_dist.data.torchvision_sets:open_cifar10",
            channels=(3,),
            size=32,
            classes=(
                *("airplane", "automobile", "bird", "cat", "deer"),
                *("dog", "frog", "horse", "ship", "truck"),
            ),
            read_labels="infogan_dist.evaluation.labels:torchvision_labels",
            noun="photo",
            torchvision="CIFAR10",
            citation="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        ),
        DataSetRecord(
            name="celeba",
            open="infogan_dist.data.torchvision_sets:open_celeba",
            channels=(1, 3),
            noun="face",
            torchvision="CelebA",
            citation="Liu, Luo, Wang and Tang 2015, Deep learning face attributes in the wild",
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
            name="scenes",
            open="infogan_dist.data.scenes:open_scenes",
            channels=(3,),
            uses_root=False,
            factors=("floor_hue", "wall_hue", "object_hue", "shape", "scale", "viewpoint"),
            noun="scene",
            read_factors="infogan_dist.evaluation.labels:scene_factors",
            licence="MIT, as this package",
            citation="drawn here, after Shapes3D (Burgess and Kim 2018)",
        ),
        DataSetRecord(
            name="folder",
            open="infogan_dist.data.folder:open_folder",
            scan="infogan_dist.data.folder:scan",
            channels=(1, 3),
            needs_root=True,
            has_test_part=False,
            read_classes="infogan_dist.evaluation.folder_labels:classes_of",
            read_labels="infogan_dist.evaluation.folder_labels:labels_of",
        ),
        DataSetRecord(
            name="shards",
            open="infogan_dist.data.shards:open_shards",
            scan="infogan_dist.data.shards:scan_shards",
            channels=(1, 3),
            needs_root=True,
            has_test_part=False,
            read_classes="infogan_dist.evaluation.shard_labels:classes_of",
            read_labels="infogan_dist.evaluation.shard_labels:labels_of",
        ),
        DataSetRecord(
            name="huggingface",
            open="infogan_dist.data.hub_dataset:open_dataset",
            scan="infogan_dist.data.hub_dataset:scan_dataset",
            channels=(1, 3),
            needs_root=True,
            has_test_part=False,
            read_classes="infogan_dist.evaluation.hub_labels:classes_of",
            read_labels="infogan_dist.evaluation.hub_labels:labels_of",
        ),
    ],
)
