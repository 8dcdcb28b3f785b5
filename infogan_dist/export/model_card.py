"""The model card of a hub folder: what the model draws, how well, from which data, its weaknesses and its licence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from infogan_dist.errors import UserError
from infogan_dist.export.model import Model
from infogan_dist.registry.data_sets import DATA_SETS
from infogan_dist.sampling.pretrained import title

TASK = "unconditional-image-generation"
SCORES = {  # of an evaluation during training, by key: as the card calls it, and what it is
    "code_error": ("code error", "share of images whose class is not the one matched to their label; lower is better"),
    "nmi": ("NMI", "normalised mutual information of classes and labels; 1 is best"),
    "ari": ("ARI", "adjusted Rand index of classes and labels; 1 is best"),
    "calibration_error": ("calibration error", "how far Q's probabilities are from its accuracy; 0 is best"),
}


def write_card(model: Model, folder: Path, picture: str, path: Path, repo: str) -> None:
    """Write the card of the model files in `folder`. Raises UserError where huggingface_hub is not installed."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError:
        raise UserError("--to huggingface needs huggingface_hub: pip install 'infogan-dist[hub]'") from None
    config = model.G.config
    name, data = title(config, model.G.provenance), config.data.name
    licence = DATA_SETS[data].licence
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=data,
            dataset_name=data,
            metric_type=key,
            metric_name=metric,
            metric_value=round(value, 4),
        )
        for key, (metric, _) in SCORES.items()
        if (value := model.scores.get(key)) is not None
    ]
    header = ModelCardData(
        license=licence.partition(",")[0].lower().replace(" ", "-") or None,
        library_name="infogan_dist",
        pipeline_tag=TASK,
        tags=["infogan", "gan", "pytorch"],
        datasets=[data] if licence else None,  # a folder of one's own has no name that means something to others
        model_name=name if results else None,
        eval_results=results or None,
    )
    files = sorted({file.name for file in folder.iterdir()} - {picture})
    paragraphs = [
        f"# {name}",
        "A generator of images whose latent codes were learned to mean something, without labels "
        "([InfoGAN, Chen et al. 2016](https://arxiv.org/abs/1606.03657)).",
        f'<img src="{picture}" width="600" alt="samples">',
        _reading_the_picture(model),
        "## Use",
        _use(model, files, repo),
        "## Results",
        "\n".join(_results(model)),
        "## Training",
        "\n".join(f"- {line}" for line in _training(model)),
        "## Weaknesses",
        "\n".join(f"- {line}" for line in _weaknesses(model)),
        "## Licence",
        _licence(licence),
    ]
    path.write_text(f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(paragraphs) + "\n", encoding="utf-8")


def _reading_the_picture(model: Model) -> str:
    spec, names = model.G.spec, model.code_names
    if not spec.categorical:
        return "Each image has a noise z of its own; all codes are 0."
    said = "Each row is a class of `categorical_0`, from 0 at the top; each column is one noise z; the other codes are held."
    if names is None or names.code not in spec.categorical_names:
        return f"{said} What a class draws was learned, so its number means nothing: look at the picture."
    width = spec.categorical[spec.categorical_names.index(names.code)]
    rows = "".join(f"| {number} | {label} |\n" for number, label in enumerate(names.of(torch.arange(width))))
    return f"{said}\n\n| class of `{names.code}` | label matched to it after training |\n| --- | --- |\n{rows}".rstrip()


def _use(model: Model, files: list[str], repo: str) -> str:
    spec, size = model.G.spec, model.G.config.data.image_size
    codes = f", {spec.code_names[0]}={'7' if spec.categorical and spec.categorical[0] > 7 else '0'}"
    lines = [
        "from infogan_dist import Generator" + (", Recognizer" if model.Q is not None else ""),
        "",
        f'G = Generator.from_pretrained("{repo}")',
        f"images = G.sample(16{codes}, seed=0)  # [16, {model.G.config.data.channels}, {size}, {size}] in [-1, 1]",
    ]
    if model.Q is not None:
        lines += [
            f'Q = Recognizer.from_pretrained("{repo}")',
            "codes = Q.codes(images)  # classes and continuous codes of images",
        ]
    ranges = [
        f"`{name}`: a class from 0 to {width - 1}"
        for name, width in zip(spec.categorical_names, spec.categorical, strict=True)
    ]
    ranges += [f"`{name}`: -1 to 1" for name in spec.continuous_names]
    onnx = "`model.onnx` needs neither this package nor PyTorch; its metadata name the columns of `latents`.\n\n"
    return (
        "```python\n"
        + "\n".join(lines)
        + f"\n```\n\nCodes: {'; '.join(ranges)}. The noise z has {spec.noise_dim} dimensions.\n\n"
        + (onnx if "model.onnx" in files else "")
        + f"Files: {', '.join(f'`{name}`' for name in files)}."
    )


def _results(model: Model) -> Iterator[str]:
    bounds = {
        key.partition("/")[2]: value for key, value in model.scores.items() if key.startswith("mutual_information/")
    }
    measured = [(name, model.scores[key], said) for key, (name, said) in SCORES.items() if key in model.scores]
    if not measured and not bounds:
        yield "This model was not evaluated."
        return
    data = model.G.config.data
    part = (
        "held-out train images"
        if data.held_out
        else "test images"
        if DATA_SETS[data.name].has_test_part
        else "train images"
    )
    yield f"One run, seed {model.G.config.seed}, on {part} of {data.name}; labels are used for scoring alone."
    yield ""
    yield "| metric | value | meaning |"
    yield "| --- | --- | --- |"
    for name, value, said in measured:
        yield f"| {name} | {value:.4f} | {said} |"
    for code, value in bounds.items():
        ceiling = model.G.spec.ceilings().get(code)
        most = f", at most {ceiling:.3f}" if ceiling is not None else ""
        yield f"| L_I of `{code}` | {value:.3f} nats{most} | mutual information of code and image (Eq. 5), on images that G draws |"


def _training(model: Model) -> Iterator[str]:
    config, seen = model.G.config, model.G.provenance.images_seen
    record = DATA_SETS[config.data.name]
    cited = f": {record.citation}" if record.citation else ""
    yield f"Data: {config.data.name}, {config.data.image_size} x {config.data.image_size} pixels, without labels{cited}."
    if seen is not None:
        yield f"{seen:,} images seen in batches of {config.train.global_batch}, seed {config.seed}."
    yield f"Networks: `{config.networks.family}`, width {config.networks.width}; this is the averaged generator."
    yield "Every setting stands in `config.json`."


def _weaknesses(model: Model) -> Iterator[str]:
    config, scores = model.G.config, model.scores
    yield "This is one run; another seed of the same config may be better or worse."
    if "code_error" in scores:
        yield (
            f"{scores['code_error']:.1%} of the scored images are in a class that is matched to another label: "
            "a class now and then draws something else."
        )
    elif model.G.spec.categorical:
        yield "Nothing shows that its classes agree with anything that people would call a class."
    if config.objective.lambda_clustering:
        yield "Training clustered unlabelled real images beside InfoGAN's objective, so compare it with methods that do so, too."
    yield f"It draws images like those of {config.data.name} and no others, with the biases of that data."


def _licence(licence: str) -> str:
    code = "The code that trained it is MIT."
    if not licence:
        return f"{code} Its author decides on the weights: add a `license` to the header of this file."
    return (
        f"{code} The training images are {licence}, and the header of this file gives the weights the same licence: change it "
        "there to publish them under another one."
    )
