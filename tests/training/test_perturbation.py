"""D sees perturbed images; Q does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from infogan_dist.config.schema import Config
from infogan_dist.data.diff_augment import COLUMNS
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.errors import UserError
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.cuda_graph import GraphedStep
from infogan_dist.training.modules import DiscriminatorModule, GeneratorModule
from infogan_dist.training.perturbation import USES, Perturbation
from infogan_dist.training.schedule import instance_noise
from infogan_dist.training.step import MicroBatch, fake_score, train_step
from infogan_dist.training.train_state import build_train_state
from tests.conftest import ONE_PROCESS, tiny
from tests.training.test_cuda_graph import Script, state_after

AUGMENTED = "diff_augment: [colour, translation, cutout]"
NOISY = "instance_noise: 0.5, instance_noise_until: 0.5"  # 0 from step 4 on


def batches_of(config: Config, steps: range, micro_batches: int = 1) -> list[MicroBatch]:
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        stream = BatchStream(config, cluster, open_images(config.data))
        return [batch for step in steps for batch in stream.at(step)]


def test_noise_falls_linearly_to_zero() -> None:
    config = tiny("x", f"objective={{{NOISY}}}")
    assert [instance_noise(config, images) for images in (0, 9, 18, 36, 72)] == [0.5, 0.375, 0.25, 0.0, 0.0]
    batches = batches_of(config, range(1, 7))
    assert [batch.perturb is None for batch in batches] == [False] * 3 + [True] * 3
    noise = batches[1].perturb.noise  # type: ignore[union-attr]
    assert noise is not None
    assert noise.shape == (12, 3, 1, 28, 28)
    assert noise.std().item() == pytest.approx(0.5 * (1 - 12 / 36), rel=0.02)


def test_perturbations_depend_on_the_global_position_only() -> None:
    """Micro-batches and a stream that starts later get the same rows."""
    objective = f"objective={{{AUGMENTED}, {NOISY}, adversarial: relativistic}}"
    whole = batches_of(tiny("x", objective), range(1, 3))[1].perturb
    parts = [batch.perturb for batch in batches_of(tiny("x", objective, "train.accumulate=3"), range(2, 3))]
    assert whole is not None
    for tensor in ("draws", "noise"):
        assert torch.equal(torch.cat([getattr(part, tensor) for part in parts]), getattr(whole, tensor))
        by_use = getattr(whole, tensor).flatten(2)
        assert by_use.shape[1] == len(USES)
        rows = by_use.flatten(0, 1)
        assert len(rows.unique(dim=0)) == len(rows)  # different for each image, reals, fakes and both updates


def test_only_a_perturbed_input_of_d_changes() -> None:
    images = torch.rand(2, 3, 8, 8)
    draws, noise = torch.rand(2, len(USES), COLUMNS), torch.ones(2, len(USES), 3, 8, 8)
    for use in USES:
        assert torch.equal(Perturbation((), draws, noise)(images, use), images + 1)
        changed = Perturbation(("colour",), draws, None)(images, use)
        assert not torch.equal(changed, images)


class Recorded(nn.Module):
    """FE as the identity on flattened images, D as their sum and Q as themselves."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def total(x: Tensor) -> Tensor:
    return x.sum(1, keepdim=True)


@pytest.mark.parametrize("penalty", ["r1_gamma: 0", "r2_gamma: 1"])
def test_d_scores_the_perturbed_images_and_q_reads_the_others(penalty: str) -> None:
    objective = tiny("x", f"objective={{{penalty}}}").objective
    FE, D, Q = Recorded(), Recorded(), Recorded()
    FE.weight, D.forward = nn.Parameter(torch.zeros(1)), total  # type: ignore[method-assign, assignment]
    reals, fakes, augmented, positives, for_real, for_fake = (torch.full((2, 1, 2, 2), float(n)) for n in range(6))
    out = DiscriminatorModule(FE, D, Q, objective)(reals, fakes, augmented, positives, for_D=(for_real, for_fake))
    assert (out.real_logits[0].item(), out.fake_logits[0].item()) == (4 * 4, 4 * 5)
    posteriors = out.real_posterior, out.fake_posterior, out.augmented_posterior, out.positive_posterior
    assert [each[0, 0].item() for each in posteriors if each is not None] == [0, 1, 2, 3]
    of_G = GeneratorModule(nn.Identity(), FE, D, Q)(fakes, augmented, for_real, for_fake)
    assert of_G.real_logits is not None
    assert (of_G.real_logits[0].item(), of_G.fake_logits[0].item()) == (4 * 4, 4 * 5)
    assert of_G.augmented_posterior is not None
    assert (of_G.fake_posterior[0, 0].item(), of_G.augmented_posterior[0, 0].item()) == (1, 2)


@pytest.mark.parametrize("learner", ["heads", "trunk"])
def test_a_perturbation_changes_both_losses_and_not_the_information_loss(learner: str) -> None:
    """D's learning rate is near 0, because FE would differ after the D step."""
    objective = f"objective={{{AUGMENTED}, information_trains: {learner}, adversarial: relativistic}}"
    config = tiny("x", objective, "networks={width: 4, norm_D: none}", "optimizer.D.lr=1e-15")
    (batch,) = batches_of(config, range(1, 2))
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        metrics = []
        for each in (batch, replace(batch, perturb=None)):
            state = build_train_state(config, cluster)
            score = fake_score(state, [each])
            metrics.append(train_step(state, [each]) | score)
    changed = {key for key in metrics[0] if metrics[0][key].item() != pytest.approx(metrics[1][key].item(), rel=1e-9)}
    assert {"loss/D", "loss/G", "score/fake_after_G"} <= changed
    assert not changed & {"loss/info", "mi/categorical_0", "mi/continuous_0"}


def test_each_update_gives_d_its_own_perturbation_of_the_same_images() -> None:
    config = tiny("x", f"objective={{{AUGMENTED}, adversarial: relativistic}}")
    (batch,) = batches_of(config, range(1, 2))
    inputs: list[tuple[Tensor, ...]] = []
    with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
        cluster.configure(config)
        state = build_train_state(config, cluster)
        for module in (state.discriminator_module, state.generator_module):
            module.register_forward_pre_hook(lambda _, given: inputs.append(given))
        train_step(state, [batch])
    (reals, fakes, *_, for_D), (fakes_again, _, compared, for_G) = inputs
    assert batch.perturb is not None
    assert torch.equal(reals, batch.reals)
    assert torch.equal(fakes, fakes_again)
    expected = [batch.perturb(images, use) for images, use in zip((reals, fakes, fakes, reals), USES, strict=True)]
    assert all(torch.equal(*pair) for pair in zip((*for_D, for_G, compared), expected, strict=True))


def test_cuda_graph_with_perturbations_equals_the_plain_run() -> None:
    config, graphed = tiny("x", f"objective={{{AUGMENTED}, {NOISY}}}"), {}
    take_step = lambda state, batch: graphed.setdefault("step", GraphedStep(state, Script()))(batch)  # noqa: E731
    ours, plain = state_after(config, take_step), state_after(config, train_step)
    assert all(torch.equal(ours[name], tensor) for name, tensor in plain.items())


def test_noise_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.instance_noise = 0\.1 ends before .* raise it"):
        tiny("x", "objective={instance_noise: 0.1, instance_noise_until: 0}")
