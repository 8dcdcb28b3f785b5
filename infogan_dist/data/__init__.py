"""Sources of images and the endless global stream over one of them."""

from infogan_dist.data.neighbours import nearest_neighbours
from infogan_dist.data.sources import ImageSource, open_images
from infogan_dist.data.stream import ImageShelf, ImageStream

__all__ = ["ImageShelf", "ImageSource", "ImageStream", "nearest_neighbours", "open_images"]
