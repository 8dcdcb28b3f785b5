"""Sources of images and the endless global stream over one of them."""

from infogan_dist.data.sources import ImageSource, open_images
from infogan_dist.data.stream import ImageStream

__all__ = ["ImageSource", "ImageStream", "open_images"]
