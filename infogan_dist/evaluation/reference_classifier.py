"""The classifier: a small digit classifier that reads samples, trained once on labelled train digits and kept in the user's cache.

It only looks at finished images: no gradient of it reaches a training, and nothing is chosen by it. It is trained on the CPU
by one thread, so images drawn on any device by any number of processes meet the same classifier.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad

from infogan_dist.data.sources import scaled
from infogan_dist.files import atomic_write, check_safetensors_header, read_regular
from infogan_dist.networks.loading import first_mismatch
from infogan_dist.randomness import DataOrder, Stream

RECIPE = 2  # to be raised with any change that alters a classifier's weights
DIGITS = 10
FEATURES = 64
SIZE = 28  # pixels: images of other sizes are brought to it, so every size meets one standard
WIDTH = 16  # channels of the first of three convolutions
STEPS = 1500  # 3.2 epochs of MNIST; twice as many read its test digits no better
BATCH = 128
RATE = 0.005  # Adam's, after a warm-up and before it falls to 0 (one cycle, Smith & Topin 2018)
WARM_UP = 0.25  # of the steps
SHIFT = 2  # pixels: training digits are moved by up to so much
NON_DIGITS = 32  # beside each batch: a classifier that never saw one is as sure of a grey blob as of a digit
NON_DIGIT_WEIGHT = 0.5  # of their loss (outlier exposure, Hendrycks et al. 2019, section 4.3)
PATCH = 7  # pixels: no digit survives when its patches of this size are shuffled
BLOBS = (1, 2, 4, 7, 14, 28)  # nodes along a side of the random fields: from plain grey to noise
THREADS = 1  # the order of float additions depends on it; one thread is never kept waiting by another
FILE_LIMIT = 16 * 2**20  # bytes of a classifier's file: ours has 400,000
_SEED = 0
_DIGEST = "tensors_sha256"  # the one key of the file's metadata: several would be written in any order


@dataclass(frozen=True)
class Reading:
    """What the classifier makes of images: penultimate activations [N, FEATURES] and logits [N, DIGITS]."""

    features: Tensor
    logits: Tensor

    @property
    def digits(self) -> Tensor:
        """The digits read, int64 [N]."""
        return self.logits.argmax(1)

    @property
    def confidences(self) -> Tensor:
        """The probability given to the digit read, float64 [N]."""
        return self.logits.double().softmax(1).amax(1)


class ReferenceClassifier(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to one table [B, FEATURES + DIGITS], which `reading` takes apart."""

    def __init__(self) -> None:
        super().__init__()
        maps = 4 * WIDTH * (SIZE // 8) ** 2
        self.body = nn.Sequential(
            nn.Conv2d(1, WIDTH, kernel_size=5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            *_stage(WIDTH, 2 * WIDTH),
            *_stage(2 * WIDTH, 4 * WIDTH),
            nn.Flatten(),
            nn.Linear(maps, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, DIGITS)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(as_seen(images))
        return torch.cat((features, self.head(features)), dim=1)


def as_seen(images: Tensor) -> Tensor:
    """Images [B, C, H, W] as the classifier sees them: grey, [B, 1, SIZE, SIZE]."""
    grey = images.mean(1, keepdim=True)
    if grey.shape[2:] == (SIZE, SIZE):
        return grey
    return interpolate(grey, (SIZE, SIZE), mode="bilinear", antialias=True)


def reading(table: Tensor) -> Reading:
    features, logits = table.split((FEATURES, DIGITS), dim=1)
    return Reading(features, logits)


def classifier_file(images: Tensor, labels: Tensor, data_name: str, steps: int = STEPS) -> bytes:
    """The safetensors file of the classifier of these digits: from the cache, or trained now and put there.

    images: uint8 [N, C, H, W]; labels: int64 [N]. Rank zero alone calls it. A file that does not verify is made anew; a
    cache that cannot be written is done without.
    """
    path = cache_folder() / f"classifier-{data_name}-{images.shape[-1]}-{_key(images, labels, steps)}.safetensors"
    cached = _cached(path)
    if cached is not None:
        return cached
    print(f"training the classifier once, which takes about a minute; it is kept as {path}", flush=True)
    with _fixed_threads():
        classifier = train_classifier(images, labels, steps)
    tensors = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    written = save(tensors, metadata={_DIGEST: _digest(tensors)})
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_bytes(written)
    return written


def classifier_from(file: bytes) -> ReferenceClassifier:
    """The classifier whose safetensors file this is, ready to read images."""
    classifier = _blank()
    classifier.load_state_dict(load(file))
    return classifier.eval().requires_grad_(False)


def sha256(file: bytes) -> str:
    """What tells one classifier from another, in every table it fed."""
    return hashlib.sha256(file).hexdigest()


def train_classifier(images: Tensor, labels: Tensor, steps: int = STEPS) -> ReferenceClassifier:
    """A classifier of uint8 images [N, C, H, W] with their digits int64 [N]: the same one every time.

    It learns to read shifted digits, and to be sure of nothing where there is no digit.
    """
    classifier = _initial(_blank())
    optimizer = torch.optim.Adam(classifier.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=WARM_UP)
    order, shifts = DataOrder(_SEED, len(images)), Stream(_SEED, "judge/shifts")
    odd = Stream(_SEED, "judge/non-digits")
    for step in range(steps):
        positions = torch.arange(step * BATCH, (step + 1) * BATCH)
        chosen = order.at(positions)
        digits = _shifted(as_seen(scaled(images[chosen])), shifts.integers(positions, 2, below=2 * SHIFT + 1))
        others = _non_digits(digits[:NON_DIGITS], odd, positions[:NON_DIGITS])
        digit_logits, other_logits = reading(classifier(torch.cat((digits, others)))).logits.split((BATCH, NON_DIGITS))
        unsure = -other_logits.log_softmax(1).mean()  # cross-entropy to every digit alike
        loss = cross_entropy(digit_logits, labels[chosen]) + NON_DIGIT_WEIGHT * unsure
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def cache_folder() -> Path:
    """Where judges are kept: infogan_dist below XDG_CACHE_HOME, or below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infogan_dist"


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    """Half the size in either direction, 3 x 3 convolution with batch norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU()]


def _blank() -> ReferenceClassifier:
    """A classifier of any weights. torch draws some: its ambient generator stands afterwards where it stood."""
    with torch.random.fork_rng(devices=[]):
        return ReferenceClassifier()


def _initial(classifier: ReferenceClassifier) -> ReferenceClassifier:
    """He et al. 2015, Eq. 10, from our own stream."""
    for name, parameter in classifier.named_parameters():
        if parameter.dim() > 1:
            drawn = Stream(_SEED, f"judge/{name}").normal(torch.arange(len(parameter)), parameter[0].numel())
            parameter.data = drawn.view_as(parameter) * math.sqrt(2 / parameter[0].numel())
    classifier.head.bias.data.zero_()
    return classifier


def _shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Each image moved by its row of shifts [B, 2] less SHIFT, in pixels down and right, filled with black."""
    count, _, height, width = images.shape
    rows = shifts[:, :1] + torch.arange(height)
    columns = shifts[:, 1:] + torch.arange(width)
    padded = pad(images, (SHIFT, SHIFT, SHIFT, SHIFT), value=-1.0)
    image = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _non_digits(digits: Tensor, stream: Stream, positions: Tensor) -> Tensor:
    """As many images as digits [B, 1, SIZE, SIZE]: half of them with their patches shuffled, half random fields."""
    half, side = len(digits) // 2, SIZE // PATCH
    patches = digits[:half].unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).reshape(half, side * side, PATCH * PATCH)
    order = stream.derived("patches").bits(positions[:half], side * side).argsort(stable=True)
    shuffled = patches.gather(1, order[:, :, None].expand_as(patches)).view(half, side, side, PATCH, PATCH)
    shuffled = shuffled.transpose(2, 3).reshape(half, 1, SIZE, SIZE)
    fields = []
    for number, nodes in enumerate(BLOBS):
        rows = positions[half:][number :: len(BLOBS)]
        ground, contrast = stream.derived("ground").uniform(rows, 2).split(1, dim=1)
        values = 2 * ground - 1 + contrast * stream.derived("field").normal(rows, nodes * nodes)
        fields.append(interpolate(values.view(-1, 1, nodes, nodes), (SIZE, SIZE), mode="bilinear"))
    return torch.cat((shuffled, *fields)).clamp(-1, 1)


def _key(images: Tensor, labels: Tensor, steps: int) -> str:
    digest = hashlib.sha256(f"{RECIPE} {steps} {tuple(images.shape)}".encode())
    digest.update(images.contiguous().numpy().data)
    digest.update(labels.long().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _cached(path: Path) -> bytes | None:
    """The file at `path` where it holds a classifier that verifies."""
    try:
        check_safetensors_header(path)
        content = read_regular(path, FILE_LIMIT)
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None
    if first_mismatch(tensors, _blank().state_dict()) is not None:
        return None
    return content if header.get("__metadata__", {}).get(_DIGEST) == _digest(tensors) else None


@contextmanager
def _fixed_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
