"""Sources of images and the endless global stream over one of them."""

from infogan_dist.data.fingerprint import Fingerprint, fingerprint
from infogan_dist.data.neighbours import nearest_neighbours
from infogan_dist.data.sources import ImageSource, open_images
from infogan_dist.data.stream import ImageShelf, ImageStream

__all__ = [
    "Fingerprint",
    "ImageShelf",
    "ImageSource",
    "ImageStream",
    "fingerprint",
    "nearest_neighbours",
    "open_images",
]
