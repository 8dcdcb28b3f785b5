"""The reference classifier: a small digit classifier, trained once on labelled train digits and cached in the user's cache folder.

It only evaluates images: it trains nothing and selects nothing. It is trained on the CPU by one thread, so its weights do not
depend on the device or the number of processes.
"""

from __future__ import annotations

import hashlib
import json
import math
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
from infogan_dist.files import atomic_write, cache_folder, check_safetensors_header, read_regular
from infogan_dist.networks.loading import first_mismatch
from infogan_dist.randomness import DataOrder, Stream

RECIPE = 2  # raise it with any change that alters the classifier's weights
DIGITS = 10
FEATURES = 64
SIZE = 28  # pixels; images of other sizes are resized, so that all sizes are scored alike
WIDTH = 16  # channels of the first of three convolutions
STEPS = 1500  # 3.2 epochs of MNIST; twice as many give the same test accuracy
BATCH = 128
RATE = 0.005  # Adam's largest learning rate, after warm-up and before decay to 0 (one cycle, Smith & Topin 2018)
WARM_UP = 0.25  # of the steps
SHIFT = 2  # pixels; the largest random shift of a training digit
NON_DIGITS = 32  # per batch; without them the classifier is as confident on a grey blob as on a digit
NON_DIGIT_WEIGHT = 0.5  # of their loss (outlier exposure, Hendrycks et al. 2019, section 4.3)
PATCH = 7  # pixels; no digit is readable when its patches of this size are shuffled
BLOBS = (1, 2, 4, 7, 14, 28)  # nodes along a side of the random fields: from plain grey to noise
THREADS = 1  # the order of float additions depends on it
FILE_LIMIT = 16 * 2**20  # bytes of a classifier's file; ours has 400,000
_SEED = 0
_DIGEST = "tensors_sha256"  # the only metadata key: safetensors writes several in no fixed order


@dataclass(frozen=True)
class ClassifierOutput:
    """The classifier's output on images: penultimate activations [N, FEATURES] and logits [N, DIGITS]."""

    features: Tensor
    logits: Tensor

    @property
    def digits(self) -> Tensor:
        """The predicted digits, int64 [N]."""
        return self.logits.argmax(1)

    @property
    def confidences(self) -> Tensor:
        """The probability of the predicted digit, float64 [N]."""
        return self.logits.double().softmax(1).amax(1)


class ReferenceClassifier(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to features and logits, [B, FEATURES + DIGITS], which `split_output` splits."""

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
        features = self.body(to_input(images))
        return torch.cat((features, self.head(features)), dim=1)


def to_input(images: Tensor) -> Tensor:
    """Images [B, C, H, W] as grey images [B, 1, SIZE, SIZE], the classifier's input."""
    grey = images.mean(1, keepdim=True)
    if grey.shape[2:] == (SIZE, SIZE):
        return grey
    return interpolate(grey, (SIZE, SIZE), mode="bilinear", antialias=True)


def split_output(output: Tensor) -> ClassifierOutput:
    """Split the classifier's output [N, FEATURES + DIGITS]."""
    features, logits = output.split((FEATURES, DIGITS), dim=1)
    return ClassifierOutput(features, logits)


def classifier_file(images: Tensor, labels: Tensor, data_name: str, steps: int = STEPS) -> bytes:
    """The safetensors file of the classifier for these digits, from the cache or trained now. Only rank zero calls it.

    images: uint8 [N, C, H, W]; labels: int64 [N]. A cached file that does not verify is replaced. Without a writable cache the
    file is not kept.
    """
    path = cache_folder() / f"classifier-{data_name}-{images.shape[-1]}-{_key(images, labels, steps)}.safetensors"
    cached = _cached(path)
    if cached is not None:
        return cached
    print(f"training the reference classifier, about a minute, once; cached as {path}", flush=True)
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
    """The classifier in a safetensors file, in evaluation mode."""
    classifier = _blank()
    classifier.load_state_dict(load(file))
    return classifier.eval().requires_grad_(False)


def untrained() -> ReferenceClassifier:
    """The classifier before training, in evaluation mode: its features are random functions of the image."""
    return _initial(_blank()).eval().requires_grad_(False)


def sha256(file: bytes) -> str:
    """Identifies the classifier in the metrics that used it."""
    return hashlib.sha256(file).hexdigest()


def train_classifier(images: Tensor, labels: Tensor, steps: int = STEPS) -> ReferenceClassifier:
    """A classifier trained on uint8 images [N, C, H, W] and their digits, int64 [N]. The same input gives the same weights.

    Digits are shifted at random; on non-digits it is trained towards a uniform prediction.
    """
    classifier = _initial(_blank())
    optimizer = torch.optim.Adam(classifier.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=WARM_UP)
    order, shifts = DataOrder(_SEED, len(images)), Stream(_SEED, "judge/shifts")
    non_digits = Stream(_SEED, "judge/non-digits")
    for step in range(steps):
        positions = torch.arange(step * BATCH, (step + 1) * BATCH)
        chosen = order.at(positions)
        digits = _shifted(to_input(scaled(images[chosen])), shifts.integers(positions, 2, below=2 * SHIFT + 1))
        others = _non_digits(digits[:NON_DIGITS], non_digits, positions[:NON_DIGITS])
        digit_logits, other_logits = split_output(classifier(torch.cat((digits, others)))).logits.split(
            (BATCH, NON_DIGITS)
        )
        uniform = -other_logits.log_softmax(1).mean()  # cross-entropy to the uniform distribution over digits
        loss = cross_entropy(digit_logits, labels[chosen]) + NON_DIGIT_WEIGHT * uniform
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    """Layers that halve height and width: 3 x 3 convolution, max pooling, batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return [convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU()]


def _blank() -> ReferenceClassifier:
    """An untrained classifier. The state of torch's global generator is restored."""
    with torch.random.fork_rng(devices=[]):
        return ReferenceClassifier()


def _initial(classifier: ReferenceClassifier) -> ReferenceClassifier:
    """The classifier with initial weights of He et al. 2015, Eq. 10, from our own stream."""
    for name, parameter in classifier.named_parameters():
        if parameter.dim() > 1:
            drawn = Stream(_SEED, f"judge/{name}").normal(torch.arange(len(parameter)), parameter[0].numel())
            parameter.data = drawn.view_as(parameter) * math.sqrt(2 / parameter[0].numel())
    classifier.head.bias.data.zero_()
    return classifier


def _shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Each image moved by SHIFT minus its row of `shifts` [B, 2], in pixels down and right, filled with black."""
    count, _, height, width = images.shape
    rows = shifts[:, :1] + torch.arange(height)
    columns = shifts[:, 1:] + torch.arange(width)
    padded = pad(images, (SHIFT, SHIFT, SHIFT, SHIFT), value=-1.0)
    image = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _non_digits(digits: Tensor, stream: Stream, positions: Tensor) -> Tensor:
    """Non-digits, as many as `digits` [B, 1, SIZE, SIZE]: half of them with shuffled patches, half random fields."""
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
    """The file at `path`; None where it holds no classifier that verifies."""
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
