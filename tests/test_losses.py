from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from infogan_dist.config.model import NoiseConfig
from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.latents import Codes, LatentSpec
from infogan_dist.losses import (
    CodePosterior,
    clustering_losses,
    contrastive_loss,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    information_bound,
    information_ceilings,
    information_loss,
    mutual_information,
    negative_log_likelihoods,
    squared_gradients,
)

SPEC = LatentSpec((NoiseConfig(dim=1),), categorical=(10, 3), continuous=2)
LEARNED = ObjectiveConfig()
CODES = Codes(torch.tensor([[3, 2], [9, 0]]), torch.tensor([[0.5, -0.2], [-1.0, 0.7]]))


def bounds(output: Tensor, objective: ObjectiveConfig = LEARNED) -> dict[str, float]:
    nll = negative_log_likelihoods(CodePosterior.from_output(output, SPEC, objective), CODES, SPEC)
    return {name: value.item() for name, value in information_bound(nll, SPEC).items()}


def test_adversarial_losses_are_the_papers_cross_entropies() -> None:
    real, fake = torch.randn(50, 1) * 3, torch.randn(50, 1) * 3
    ones, zeros = torch.ones(50, 1), torch.zeros(50, 1)
    expected = binary_cross_entropy(real.sigmoid(), ones) + binary_cross_entropy(fake.sigmoid(), zeros)
    torch.testing.assert_close(discriminator_loss(real, fake, ObjectiveConfig()), expected)
    torch.testing.assert_close(
        generator_loss(fake, None, ObjectiveConfig()), binary_cross_entropy(fake.sigmoid(), ones)
    )


def test_undecided_discriminator_has_loss_two_ln_2() -> None:
    zeros = torch.zeros(4, 1)
    assert discriminator_loss(zeros, zeros, ObjectiveConfig()).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(zeros, None, ObjectiveConfig()).item() == pytest.approx(math.log(2))


def test_losses_are_finite_and_have_gradients_at_saturated_logits() -> None:
    logits = torch.tensor([[-200.0]], requires_grad=True)
    generator_loss(logits, None, ObjectiveConfig()).backward()
    assert logits.grad is not None
    assert logits.grad.item() == -1


def test_half_precision_logits_are_converted_to_float32() -> None:
    half = torch.zeros(2, 1).bfloat16()
    assert discriminator_loss(half, half, ObjectiveConfig()).dtype == torch.float32
    assert CodePosterior.from_output(torch.zeros(2, 17).bfloat16(), SPEC, ObjectiveConfig()).mean.dtype == torch.float32


def test_bound_of_a_perfect_q_is_ln_k_and_of_a_uniform_q_0() -> None:
    perfect = torch.zeros(2, SPEC.posterior_dim)
    for row, (first, second) in enumerate(CODES.categorical.tolist()):
        perfect[row, first] = perfect[row, 10 + second] = 100
    assert bounds(perfect)["categorical_0"] == pytest.approx(math.log(10))
    assert bounds(perfect)["categorical_1"] == pytest.approx(math.log(3))
    uniform = bounds(torch.zeros(2, SPEC.posterior_dim))
    assert uniform["categorical_0"] == pytest.approx(0, abs=1e-6)
    assert uniform["categorical_1"] == pytest.approx(0, abs=1e-6)


def test_continuous_codes_are_scored_by_their_gaussian_density() -> None:
    output = torch.zeros(2, SPEC.posterior_dim)
    mean, log_variance = torch.tensor([[0.1, 0.0], [-0.5, 0.3]]), torch.tensor([[-1.0, 0.5], [0.2, -3.0]])
    output[:, 13:15], output[:, 15:17] = mean, log_variance
    density = stats.norm.logpdf(CODES.continuous, mean, (0.5 * log_variance).exp())
    scored = bounds(output)
    assert scored["continuous_0"] == pytest.approx(math.log(2) + density[:, 0].mean())
    assert scored["continuous_1"] == pytest.approx(math.log(2) + density[:, 1].mean())


def test_bound_never_exceeds_the_entropy_of_a_categorical_code() -> None:
    torch.manual_seed(0)
    for scale in (0.1, 1, 10, 100):
        scored = bounds(torch.randn(2, SPEC.posterior_dim) * scale)
        assert scored["categorical_0"] <= math.log(10) + 1e-5


def test_information_loss_is_weighted_by_kind_of_code() -> None:
    nll = dict(zip(SPEC.code_names, map(torch.tensor, (1.0, 2.0, 3.0, 4.0)), strict=True))
    objective = ObjectiveConfig(lambda_categorical=2.0, lambda_continuous=0.5)
    assert information_loss(nll, SPEC, objective).item() == 2 * (1 + 2) + 0.5 * (3 + 4)
    no_codes = LatentSpec(SPEC.noise, (), 0)
    assert information_loss({}, no_codes, objective).item() == 0


def test_gradient_penalty_of_a_known_function() -> None:
    """D(x) = a · x + b |x|² has ∇D = a + 2 b x."""
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    a, b = torch.randn(1, 2, 2, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    squared = squared_gradients((a * x + b * x.square()).sum((1, 2, 3))[:, None], x)
    torch.testing.assert_close(squared, (a + 2 * b * x).square().sum((1, 2, 3)))
    objective = ObjectiveConfig(r1_gamma=3.0, r2_gamma=0.5)
    penalty = gradient_penalty(squared, 2 * squared, None, objective)
    torch.testing.assert_close(penalty, 1.5 * squared.mean() + 0.25 * (2 * squared).mean())
    (by_b,) = torch.autograd.grad(penalty, b)
    torch.testing.assert_close(by_b, (2.0 * 2 * (a + 2 * b * x) * 2 * x).sum((1, 2, 3)).mean())
    assert gradient_penalty(None, None, None, objective) is None


def test_gradient_penalty_between_reals_and_fakes_is_least_for_norm_1() -> None:
    objective = ObjectiveConfig(lambda_gradient_penalty=10.0)
    norms = torch.tensor([1.0, 3.0, 0.0, 0.5], dtype=torch.float64)
    squared = norms.square().requires_grad_()
    penalty = gradient_penalty(None, None, squared, objective)
    assert penalty is not None
    assert penalty.item() == pytest.approx(10 * (0 + 4 + 1 + 0.25) / 4)
    (gradient,) = torch.autograd.grad(penalty, squared)
    expected = (
        10 * torch.tensor([0, 1 - 1 / 3, 0, 1 - 1 / 0.5], dtype=torch.float64) / 4
    )  # 0 where |∇D| is 0, not infinite
    torch.testing.assert_close(gradient, expected, atol=1e-9, rtol=1e-9)
    both = gradient_penalty(squared, None, squared, ObjectiveConfig(r1_gamma=2.0, lambda_gradient_penalty=10.0))
    torch.testing.assert_close(both, penalty + squared.mean())


def test_relativistic_losses_compare_pairs() -> None:
    real, fake = torch.randn(50, 1), torch.randn(50, 1)
    relativistic = ObjectiveConfig(adversarial="relativistic")
    torch.testing.assert_close(discriminator_loss(real, fake, relativistic), -(real - fake).sigmoid().log().mean())
    torch.testing.assert_close(generator_loss(fake, real, relativistic), -(fake - real).sigmoid().log().mean())
    moved = discriminator_loss(real + 7, fake + 7, relativistic)  # only differences count
    torch.testing.assert_close(moved, discriminator_loss(real, fake, relativistic), rtol=1e-4, atol=1e-5)


REALS, FAKES = torch.tensor([[2.0], [0.5]]), torch.tensor([[-3.0], [0.5]])


@pytest.mark.parametrize(
    ("adversarial", "of_D", "of_G"),
    [
        ("hinge", (0 + 0.5) / 2 + (0 + 1.5) / 2, (3 - 0.5) / 2),
        ("least-squares", 0.5 * (1 + 0.25) / 2 + 0.5 * (4 + 2.25) / 2, 0.5 * (9 + 0.25) / 2),
        ("wasserstein", (-3 + 0.5) / 2 - (2 + 0.5) / 2, (3 - 0.5) / 2),
    ],
)
def test_adversarial_losses_of_known_logits(adversarial: str, of_D: float, of_G: float) -> None:
    objective = ObjectiveConfig(adversarial=adversarial)
    assert discriminator_loss(REALS, FAKES, objective).item() == pytest.approx(of_D)
    assert generator_loss(FAKES, None, objective).item() == pytest.approx(of_G)


def test_label_smoothing_lowers_the_target_of_reals_alone() -> None:
    real, fake = torch.randn(50, 1), torch.randn(50, 1)
    targets, zeros = torch.full((50, 1), 0.9), torch.zeros(50, 1)
    expected = binary_cross_entropy(real.sigmoid(), targets) + binary_cross_entropy(fake.sigmoid(), zeros)
    torch.testing.assert_close(discriminator_loss(real, fake, ObjectiveConfig(label_smoothing=0.1)), expected)
    squares = ObjectiveConfig(adversarial="least-squares", label_smoothing=0.25)
    expected = 0.5 * (real - 0.75).square().mean() + 0.5 * (fake + 1).square().mean()
    torch.testing.assert_close(discriminator_loss(real, fake, squares), expected)
    for objective in (ObjectiveConfig(), squares.model_copy(update={"label_smoothing": 0.0})):
        smoothed = objective.model_copy(update={"label_smoothing": 0.2})
        assert torch.equal(generator_loss(fake, None, smoothed), generator_loss(fake, None, objective))


@pytest.mark.parametrize(
    ("adversarial", "smoothing"),
    [("standard", 0.0), ("standard", 0.1), ("hinge", 0.0), ("least-squares", 0.0), ("least-squares", 0.1)],
)
def test_the_best_logit_of_a_real_is_its_target(adversarial: str, smoothing: float) -> None:
    objective = ObjectiveConfig(adversarial=adversarial, label_smoothing=smoothing)
    logits = torch.linspace(-10, 10, 2001)
    best = logits[
        torch.stack([discriminator_loss(r.view(1, 1), r.new_zeros(1, 1), objective) for r in logits]).argmin()
    ]
    target = {"standard": 10.0 if not smoothing else math.log(0.9 / 0.1), "hinge": 1.0, "least-squares": 1 - smoothing}
    assert best.item() == pytest.approx(target[adversarial], abs=0.011)


def one_code(logits: torch.Tensor) -> CodePosterior:
    return CodePosterior((logits,), torch.zeros(len(logits), 0), torch.zeros(len(logits), 0))


def clustering_of(first: CodePosterior, second: CodePosterior, entropy_weight: float = 1.0) -> torch.Tensor:
    (loss,) = clustering_losses(first, second, entropy_weight)
    return loss


def test_clustering_loss_is_minus_ln_k_for_certain_balanced_pairs() -> None:
    certain = 50 * torch.eye(10)[torch.arange(100) % 10]
    assert clustering_of(one_code(certain), one_code(certain)).item() == pytest.approx(-math.log(10), abs=2e-3)
    merged = 50 * torch.eye(10)[(torch.arange(100) % 10) // 2]
    assert clustering_of(one_code(merged), one_code(merged)).item() == pytest.approx(-math.log(5), abs=2e-3)


def test_clustering_loss_is_0_for_unrelated_pairs_and_for_a_single_class() -> None:
    rows = torch.arange(100)
    first, second = 50 * torch.eye(10)[rows % 10], 50 * torch.eye(10)[rows // 10]
    assert clustering_of(one_code(first), one_code(second)).item() == pytest.approx(0, abs=1e-3)
    single_class = 50 * torch.eye(10)[torch.zeros(100, dtype=torch.int64)]
    assert clustering_of(one_code(single_class), one_code(single_class)).item() == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("entropy_weight", [1.0, 1.5, 2.0])
def test_clustering_entropy_weight_multiplies_the_marginal_entropies(entropy_weight: float) -> None:
    certain = 50 * torch.eye(3)[torch.tensor([0, 0, 1, 2] * 8)]
    entropy = 1.5 * math.log(2)  # of c, of c' and of (c, c')
    loss = clustering_of(one_code(certain), one_code(certain), entropy_weight).item()
    assert loss == pytest.approx(entropy - 2 * entropy_weight * entropy, abs=1e-3)


def test_clustering_loss_of_a_split_batch_needs_the_mean_joint_distribution() -> None:
    first, second = torch.randn(40, 10), torch.randn(40, 10)
    joints = []
    for part in range(2):
        rows = slice(20 * part, 20 * part + 20)
        clustering_losses(
            one_code(first[rows]), one_code(second[rows]), mean_of_all=lambda joint: joints.append(joint) or joint
        )
    whole = clustering_of(one_code(first), one_code(second))
    torch.testing.assert_close(-mutual_information((joints[0] + joints[1]) / 2), whole)
    separate = clustering_of(one_code(first[:20]), one_code(second[:20]))
    assert abs(separate - whole) > 1e-3


def test_adversarial_none_has_zero_loss_and_zero_gradients() -> None:
    control = ObjectiveConfig(adversarial="none")
    real, fake = (torch.randn(5, 1).requires_grad_() for _ in range(2))
    loss = discriminator_loss(real, fake, control) + generator_loss(fake, None, control)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(real.grad, torch.zeros(5, 1))  # type: ignore[arg-type]
    assert torch.equal(fake.grad, torch.zeros(5, 1))  # type: ignore[arg-type]


def test_losses_without_codes_are_on_the_device_of_the_logits() -> None:
    """A CPU tensor could not be averaged with CUDA tensors. `meta` represents any other device."""
    spec = LatentSpec((NoiseConfig(dim=2),), (), 0)
    posterior = CodePosterior.from_output(torch.zeros(3, 0, device="meta"), spec, ObjectiveConfig())
    assert information_loss({}, spec, ObjectiveConfig(), posterior.mean.device).device.type == "meta"


def output_of(mean: Tensor) -> Tensor:
    """Q's output with these means, perfect classes and a log-variance of 3 for the continuous codes, [2, 17]."""
    classes = [20 * torch.nn.functional.one_hot(CODES.categorical[:, i], width) for i, width in enumerate((10, 3))]
    return torch.cat([*(each.float() for each in classes), mean, torch.full_like(mean, 3.0)], dim=1)


def test_a_fixed_variance_of_1_has_its_own_ceiling_which_a_perfect_q_reaches() -> None:
    fixed = ObjectiveConfig(continuous_likelihood="fixed")
    ceilings = information_ceilings(SPEC, fixed)
    assert ceilings["continuous_0"] == pytest.approx(math.log(2) - 0.5 * math.log(2 * math.pi))
    assert bounds(output_of(CODES.continuous), fixed) == pytest.approx(ceilings, abs=1e-6)
    off = bounds(output_of(CODES.continuous + 0.6), fixed)
    assert off["continuous_1"] == pytest.approx(ceilings["continuous_1"] - 0.6**2 / 2, abs=1e-6), (
        "half the squared error"
    )
    assert set(information_ceilings(SPEC, ObjectiveConfig())) == {"categorical_0", "categorical_1"}


def test_the_contrastive_loss_is_ln_n_of_a_useless_q_and_0_where_only_the_shared_code_agrees() -> None:
    shared = torch.tensor([0, 2])
    assert contrastive_loss(torch.zeros(4, 3), shared, 0.25).item() == pytest.approx(math.log(3))
    apart = torch.tensor([[0.5, -1, -1], [0.5, 1, 1], [-1, -1, 0.1], [1, 1, 0.1]])
    assert contrastive_loss(apart, shared, 0.25).item() == pytest.approx(0, abs=1e-6)
    by_hand = torch.tensor([[0.0, 0.0], [0.5, 0.0]])  # the first differs by two standard deviations
    assert contrastive_loss(by_hand, torch.tensor([0]), 0.25).item() == pytest.approx(2 + math.log(1 + math.exp(-2)))
