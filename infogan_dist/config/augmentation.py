"""Config section of the random augmentations of the images that Q sees, and its presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from infogan_dist.config.section import NonNegativeFloat, Probability, Section

_OFF: dict[str, Any] = {
    **dict.fromkeys(("warp", "rotation", "scale", "aspect", "shear", "shift", "elastic", "cut", "paste"), 0.0),
    **dict.fromkeys(("flip", "crop", "jitter", "hue", "grey"), 0.0),
    "outside": "black",
}
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "digits": _OFF
    | {"warp": 0.8, "rotation": 0.30, "scale": 0.18, "aspect": 0.08, "shear": 0.20, "shift": 0.14, "elastic": 0.05}
    | {"cut": 0.5, "paste": 0.5},
    "objects": _OFF
    | {"warp": 0.5, "rotation": 0.15, "scale": 0.10, "aspect": 0.08, "shear": 0.10, "shift": 0.10, "outside": "border"}
    | {"flip": 0.5, "crop": 0.8, "jitter": 0.4, "hue": 0.3, "grey": 0.2},
    "none": _OFF,
}
"""The values of each `augmentation.preset`."""

HIDDEN: dict[str, str] = {
    "digits": "how an image is rotated, sized, slanted, bent and placed; and small strokes, which are cut out and pasted",
    "objects": "colour, brightness and contrast; left from right; how an image is framed, rotated, sized and placed",
    "none": "nothing: no augmentation",
}
"""What a class cannot encode under each preset."""


class AugmentationConfig(Section):
    """Random augmentations of the images that Q sees. A class cannot encode anything that they randomise.

    `preset` sets all other keys. Keys that are given override it.
    """

    preset: Literal["auto", "digits", "objects", "none"] = "digits"
    """`digits`: for light handwriting on black; a class cannot encode rotation, size, slant, place or small strokes. `objects`: for
    photographs; a class cannot encode colour, brightness, left or right, framing, rotation, size or place. `none`: no augmentation.
    `auto`, the default in a config: chosen by `data.name`."""
    warp: Probability = 0.8
    """Share of the images that are warped: rotated, scaled, sheared, shifted and elastically deformed."""
    rotation: NonNegativeFloat = 0.30
    """Largest rotation, radians."""
    scale: NonNegativeFloat = 0.18
    """Largest natural logarithm of the scale factor."""
    aspect: NonNegativeFloat = 0.08
    """Largest natural logarithm of the factor that multiplies width and divides height."""
    shear: NonNegativeFloat = 0.20
    """Largest horizontal shear factor."""
    shift: NonNegativeFloat = 0.14
    """Largest shift along each axis, in half image sides."""
    elastic: NonNegativeFloat = 0.05
    """Standard deviation of the displacement at each point of a 5 x 5 grid, in half image sides."""
    cut: Probability = 0.5
    """Share of the images in which a random rectangle is set to the background."""
    paste: Probability = 0.5
    """Share of the images that get a random rectangle of another image, by pixelwise maximum if `outside` is black."""
    outside: Literal["black", "border"] = "black"
    """The background that warps pad with and cuts leave. `black`: for light ink on black. `border`: the nearest border pixel, and for
    cuts the mean colour of the border."""
    flip: Probability = 0.0
    """Share of the images that are mirrored, left to right. Set it to 0 where a mirror image is of another kind, as with letters."""
    crop: Probability = 0.0
    """Share of the images of which a random part, 0.6 to 1 of each side, is enlarged to the full size."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest relative change of brightness, contrast and saturation."""
    hue: Annotated[float, Field(ge=0, le=3.15)] = 0.0
    """Largest rotation of the hue, radians."""
    grey: Probability = 0.0
    """Share of the images that become grey."""

    @property
    def warps(self) -> bool:
        return bool(self.warp and any((self.rotation, self.scale, self.aspect, self.shear, self.shift, self.elastic)))

    @property
    def changes_colours(self) -> bool:
        return bool(self.jitter or self.hue or self.grey)

    @property
    def changes_nothing(self) -> bool:
        return not (self.warps or self.flip or self.crop or self.changes_colours or self.cut or self.paste)
