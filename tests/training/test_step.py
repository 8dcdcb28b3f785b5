from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from infogan_dist.config.augmentation import AugmentationConfig
from infogan_dist.config.objective import ObjectiveConfig
from infogan_dist.config.schema import Config
from infogan_dist.data.augmentation import Augmentation, draws_at
from infogan_dist.data.sources import open_images
from infogan_dist.distributed.cluster import Cluster
from infogan_dist.evaluation.evaluated_model import in_training
from infogan_dist.latents import LatentSpec
from infogan_dist.networks import build_networks
from infogan_dist.randomness import Stream
from infogan_dist.training.batches import BatchStream
from infogan_dist.training.engine import PlainEngine
from infogan_dist.training.modules import DiscriminatorModule, build_modules, owned_networks
from infogan_dist.training.optimizers import build_optimizers, set_rates
from infogan_dist.training.probe import Probe
from infogan_dist.training.step import (
    MicroBatch,
    Positives,
    discriminator_step,
    fake_score,
    generator_step,
    train_step,
)
from infogan_dist.training.train_state import TrainState, build_train_state
from infogan_dist.training.trainer import Trainer
from tests.conftest import ONE_PROCESS, tensors_of, tiny

TRACE = Path(__file__).with_name("loss_trace.json")


def plain_state(config: Config) -> TrainState:
    """A state in plain PyTorch: no Accelerate."""
    networks = build_networks(config).to(torch.device("cpu"), torch.float64)
    owned = owned_networks(networks, config.objective)
    optimizers, modules = (
        build_optimizers(*owned, config.optimizer),
        build_modules(networks, owned[0], config.objective),
    )
    spec, objective = LatentSpec.from_config(config.latents), config.objective
    return TrainState(networks, *owned, *modules, *optimizers, spec, objective, config.optimizer, PlainEngine())


def batch_of(config: Config, count: int = 6) -> MicroBatch:
    spec = LatentSpec.from_config(config.latents)
    latents = spec.draw(Stream(0, "latents"), torch.arange(count))
    torch.manual_seed(0)
    reals = torch.rand(count, 1, 28, 28, dtype=torch.float64) * 2 - 1
    return MicroBatch(reals, spec.vector(latents).double(), latents.codes)


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, value in tensors_of(module).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("learner", ["heads", "trunk"])
@pytest.mark.parametrize("kind", ["batch", "none"])
def test_each_update_changes_only_the_networks_it_owns(learner: str, kind: str) -> None:
    config = tiny(
        "x", f"objective.information_trains={learner}", f"networks={{width: 4, norm_G: {kind}, norm_D: {kind}}}"
    )
    state, batch = plain_state(config), batch_of(config)
    owners = {"D": {"FE", "D"}, "G": {"G"}}
    owners["D" if learner == "trunk" else "G"].add("Q")
    for update, step in (("D", discriminator_step), ("G", generator_step)):
        before = {name: tensors_of(network) for name, network in state.networks.named().items()}
        step(state, [batch])
        for name, network in state.networks.named().items():
            moved = changed(network, before[name])
            assert moved == (set(before[name]) if name in owners[update] else set()), (update, name)


def test_scoring_the_fakes_again_changes_no_state() -> None:
    config = tiny("x")
    state, batch = plain_state(config), batch_of(config)
    discriminator_step(state, [batch])
    generator_step(state, [batch])
    before = {name: tensors_of(network) for name, network in state.networks.named().items()}
    assert 0 < fake_score(state, [batch])["score/fake_after_G"] < 1
    assert not any(changed(network, before[name]) for name, network in state.networks.named().items())


def test_information_term_reaches_fe_only_with_trunk() -> None:
    """If only the information term differs, FE's gradients differ with `trunk` and not with `heads`."""
    gradients = {}
    for learner in ("heads", "trunk"):
        for weight in (0.0, 1.0):
            config = tiny("x", f"objective={{information_trains: {learner}, lambda_categorical: {weight}}}")
            state = plain_state(config)
            discriminator_step(state, [batch_of(config)])
            gradients[learner, weight] = state.networks.FE.from_image.weight.grad
    assert torch.equal(gradients["heads", 0.0], gradients["heads", 1.0])
    assert not torch.equal(gradients["trunk", 0.0], gradients["trunk", 1.0])


def test_g_gets_gradients_from_both_terms() -> None:
    gradients = []
    for weight in (0.0, 1.0):
        config = tiny("x", f"objective.lambda_categorical={weight}", "latents.continuous=0")
        state = plain_state(config)
        metrics = generator_step(state, [batch_of(config)])
        assert metrics["loss/G"] > 0.6  # the adversarial term: ln 2 at the start
        gradients.append(state.networks.G.to_image.weight.grad)
    assert not torch.equal(*gradients)


def test_micro_batches_equal_the_batch_without_batch_norm() -> None:
    config = tiny("x", "networks={width: 4, norm_G: none, norm_D: none}")
    whole, batch = plain_state(config), batch_of(config)
    parts = plain_state(config)
    halves = [
        MicroBatch(
            batch.reals[half],
            batch.latent[half],
            type(batch.codes)(batch.codes.categorical[half], batch.codes.continuous[half]),
        )
        for half in (slice(0, 3), slice(3, 6))
    ]
    for step in (discriminator_step, generator_step):
        a, b = step(whole, [batch]), step(parts, halves)
        assert {k: v.item() for k, v in a.items()} == pytest.approx({k: v.item() for k, v in b.items()})
    for name, network in whole.networks.named().items():
        for key, value in tensors_of(network).items():
            torch.testing.assert_close(tensors_of(parts.networks.named()[name])[key], value, atol=1e-10, rtol=0)


@pytest.mark.parametrize("learner", ["heads", "trunk"])
def test_reusing_fakes_equals_drawing_them_twice(learner: str) -> None:
    """Both updates share the images of a single micro-batch, and draw those of several twice: the same numbers and statistics."""
    config = tiny("x", f"objective.information_trains={learner}")
    once, twice, batch = plain_state(config), plain_state(config), batch_of(config)
    drawn: list[Tensor] = []
    once.networks.G.register_forward_hook(lambda module, given, images: drawn.append(images))
    for _ in range(3):
        ours = train_step(once, [batch])
        theirs = discriminator_step(twice, [batch]) | generator_step(twice, [batch])
        assert {key: value.item() for key, value in ours.items()} == {
            key: value.item() for key, value in theirs.items()
        }
    assert len(drawn) == 3
    for name, network in once.networks.named().items():
        assert not changed(network, tensors_of(twice.networks.named()[name])), name


def test_negligible_penalty_does_not_change_training() -> None:
    """Reals and fakes in one pass, or in two with a gradient penalty: the same numbers up to rounding."""
    metrics = []
    for gamma in (0.0, 1e-30):
        state = plain_state(tiny("x", f"objective.r1_gamma={gamma}"))
        metrics.append([train_step(state, [batch_of(tiny("x"))]) for _ in range(3)][-1])
    one_pass, two_passes = metrics
    two_passes.pop("loss/penalty")
    assert {k: v.item() for k, v in one_pass.items()} == pytest.approx(
        {k: v.item() for k, v in two_passes.items()}, rel=1e-9
    )


@pytest.mark.parametrize("gamma", [0, 1])
def test_compiled_networks_train_like_eager_ones(gamma: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs torch.compile's graphs without generating C++, which would take minutes."""
    compiled: list[nn.Module] = []
    real = nn.Module.compile

    def compile_without_generator(network: nn.Module, mode: str, dynamic: bool) -> None:
        compiled.append(network)
        real(network, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(nn.Module, "compile", compile_without_generator)
    torch._dynamo.reset()
    results = []
    for mode in ("false", "default"):
        config = tiny("x", f"train.compile={mode}", f"objective.r1_gamma={gamma}")
        cluster = Cluster(ONE_PROCESS, 1, config.processes)
        cluster.configure(config)
        state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
        metrics = [train_step(state, batches.at(step)) for step in (1, 2, 3)]
        results.append({key: value.item() for key, value in metrics[-1].items()})
        names = {name for name, network in state.networks.named().items() if any(network is each for each in compiled)}
        assert names == (set() if mode == "false" else {"G", "Q"} if gamma else {"G", "FE", "D", "Q"})
        cluster.close()
    assert results[0] == pytest.approx(results[1], rel=1e-9)


LATER = "lambda_clustering: 1, clustering_from: 0.24, clustering_in_full: 0.36"  # clustering starts in step 4


@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_network_falls_back_to_eager_and_measuring_compiles_nothing(
    accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All networks share one code object, of which torch compiles 8 variants by default."""
    real = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda network, mode, dynamic: real(network, backend="eager", dynamic=False)
    )
    counters, compiled = torch._dynamo.utils.counters, []
    with torch._dynamo.config.patch(recompile_limit=8):
        torch._dynamo.reset()
        counters.clear()
        config = tiny(
            "x",
            "train.compile=default",
            f"train.accumulate={accumulate}",
            f"objective={{information_trains: trunk, information_from: augmented, {LATER}}}",
            "schedule.images=100",
        )
        with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
            cluster.configure(config)
            state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
            probe = Probe(state, config.seed)
            for step in range(1, 7):
                batch = batches.at(step)
                train_step(state, batch)
                compiled.append(counters["frames"]["total"])
                probe(batch)
                state.networks.G_ema(batch[0].latent[:5])
                with in_training(state.networks, config, fresh=5) as subject:
                    subject.fakes(cluster)
                assert counters["frames"]["total"] == compiled[-1]
    assert counters["frames"]["total"] == counters["frames"]["ok"]
    assert not any("limit" in reason for reason in counters["unimplemented"])
    before, after = compiled[2], compiled[-1]
    assert compiled == [before] * 3 + [after] * 3
    assert before < after <= 16


def test_clipping_limits_the_joint_gradient_norm() -> None:
    config = tiny("x", "optimizer.D.clip_norm=1e-3")
    state = plain_state(config)
    discriminator_step(state, [batch_of(config)])
    parameters = [*state.networks.FE.parameters(), *state.networks.D.parameters()]
    assert torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm() <= 1e-3


def test_q_has_its_own_learning_rate_in_its_optimizer() -> None:
    for learner, owner in (("heads", 1), ("trunk", 0)):
        config = tiny("x", f"objective.information_trains={learner}", "optimizer.Q.lr=0.5")
        networks = build_networks(config)
        optimizer = build_optimizers(*owned_networks(networks, config.objective), config.optimizer)[owner]
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        assert rates[id(networks.Q.posterior.weight)] == 0.5


def losses() -> list[dict[str, float]]:
    """The losses of the first 20 steps on mnist-mini: fp64, one process."""
    config = tiny("x", "train.steps=20")
    cluster = Cluster(ONE_PROCESS, 1, config.processes)
    cluster.configure(config)
    state, batches = build_train_state(config, cluster), BatchStream(config, cluster, open_images(config.data))
    trace = []
    for step in range(1, 21):
        metrics = discriminator_step(state, batches.at(step)) | generator_step(state, batches.at(step))
        trace.append({key: metrics[key].item() for key in ("loss/D", "loss/G", "loss/info")})
    cluster.close()
    return trace


def test_first_20_losses_equal_the_stored_ones() -> None:
    """A refactor must not change the losses. `python -m tests.training.test_step` stores new ones."""
    for ours, stored in zip(losses(), json.loads(TRACE.read_text()), strict=True):
        assert ours == pytest.approx(stored, rel=1e-8)


if __name__ == "__main__":
    TRACE.write_text(json.dumps(losses(), indent=0) + "\n")


def with_augmentation(batch: MicroBatch, **changes: object) -> MicroBatch:
    augmentations = [
        Augmentation(AugmentationConfig(warp=1), draws_at(Stream(0, name), torch.arange(6)), torch.tensor(1.0))
        for name in "DG"
    ]
    return replace(batch, augment_D=augmentations[0], augment_G=augmentations[1], **changes)  # type: ignore[arg-type]


def test_q_sees_augmented_fakes_and_d_the_fakes() -> None:
    config = tiny("x", "objective.information_trains=trunk", "networks={width: 4, norm_G: none, norm_D: none}")
    plain, viewed = plain_state(config), plain_state(config)
    batch = batch_of(config)
    first = train_step(plain, [batch])
    second = train_step(viewed, [with_augmentation(batch)])
    assert torch.equal(first["loss/D"], second["loss/D"])
    assert not torch.equal(first["loss/info"], second["loss/info"])


def test_clustering_trains_fe_and_q_in_proportion_to_its_weight() -> None:
    config = tiny("x", "objective={information_trains: trunk, lambda_clustering: 1}")
    gradients = []
    for weight in (0.0, 1.0, 2.0):
        state, batch = plain_state(config), batch_of(config)
        positives = Positives(batch.reals.flip(3), torch.tensor(weight))
        metrics = discriminator_step(state, [with_augmentation(batch, positives=positives)])
        gradients.append(
            torch.cat([p.grad.flatten() for n in (state.networks.FE, state.networks.Q) for p in n.parameters()])
        )
        assert 0 < -metrics["loss/clustering"].item() < math.log(10) + math.log(2)
    assert (gradients[1] - gradients[0]).norm() > 1e-6
    torch.testing.assert_close(gradients[2] - gradients[0], 2 * (gradients[1] - gradients[0]), rtol=1e-6, atol=1e-12)


def test_information_trains_g_false_removes_the_term_from_g() -> None:
    gradients = []
    for objective in ("information_trains_G: false", "lambda_categorical: 0, lambda_continuous: 0"):
        state = plain_state(tiny("x", f"objective={{information_trains: trunk, {objective}}}"))
        generator_step(state, [batch_of(tiny("x"))])
        gradients.append(torch.cat([p.grad.flatten() for p in state.networks.G.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-15)
    state = plain_state(tiny("x", "objective={information_trains: trunk, information_trains_G: false}"))
    before = tensors_of(state.networks.Q)
    discriminator_step(state, [batch_of(tiny("x"))])
    assert changed(state.networks.Q, before)  # Q still learns


def test_learning_rates_follow_the_schedule() -> None:
    config = tiny("x", "objective.information_trains=trunk", "optimizer={D: {lr: 2e-4}, G: {lr: 1e-3}, Q: {lr: 5e-4}}")
    state = plain_state(config)
    for share in (0.5, 0.5, 1.0):
        set_rates((state.optimizer_D, state.optimizer_G), share)
        rates = [group["lr"] for group in (*state.optimizer_D.param_groups, *state.optimizer_G.param_groups)]
        assert rates == pytest.approx([2e-4 * share, 2e-4 * share, 5e-4 * share, 1e-3 * share])


def test_penalties_and_beta2_follow_the_schedule() -> None:
    """The first step of a run of one step has the values before the decay, the first of a long run that is over those after it."""
    penalties = "objective={r1_gamma: 1, r2_gamma: 1}", "networks.norm_D=none", "optimizer.G.beta2=0.9"
    moved = {}
    for images in (1, 10**6):
        decay = f"schedule={{kind: linear, anneal_from: 0, images: {images}, penalty_final: 0.25, beta2_final: 0.99}}"
        config = tiny("x", *penalties, decay)
        with Cluster(ONE_PROCESS, 1, config.processes) as cluster:
            cluster.configure(config)
            trainer = Trainer(config, cluster, open_images(config.data))
            metrics = trainer.step(2)
        moved[images] = metrics["loss/penalty"].item(), trainer.state.optimizer_G.param_groups[0]["betas"][1]
    (after, beta2_after), (before, beta2_before) = moved.values()
    assert after == pytest.approx(0.25 * before, rel=1e-3)
    assert beta2_before == pytest.approx(0.9, abs=1e-4)
    assert beta2_after == 0.99


def test_relativistic_loss_uses_reals_in_both_updates() -> None:
    state = plain_state(tiny("x", "objective={adversarial: relativistic, r1_gamma: 1, r2_gamma: 1}"))
    before = tensors_of(state.networks.FE)
    metrics = train_step(state, [batch_of(tiny("x"))])
    assert metrics["loss/D"].item() == pytest.approx(math.log(2), abs=0.05)  # at the start D cannot separate pairs
    assert metrics["loss/G"].isfinite()
    assert changed(state.networks.FE, before)


LOSSES = {
    "hinge": "objective={adversarial: hinge}",
    "least-squares": "objective={adversarial: least-squares, label_smoothing: 0.1}",
    "wasserstein": "objective={adversarial: wasserstein, lambda_gradient_penalty: 10}",
}


@pytest.mark.parametrize(("name", "objective"), LOSSES.items(), ids=LOSSES)
def test_D_learns_to_separate_with_every_loss(name: str, objective: str) -> None:
    config = tiny("x", objective, "networks.norm_D=none", "optimizer={D: {lr: 0.01}, G: {lr: 0.0001}}")
    state = plain_state(config)
    mix = torch.linspace(0, 0.9, 6).double() if "penalty" in objective else None
    metrics = [train_step(state, [replace(batch_of(config), mix=mix)]) for _ in range(15)]
    assert all(value.isfinite() for row in metrics for value in row.values())
    assert metrics[-1]["loss/D"] < metrics[0]["loss/D"] - 0.1
    assert metrics[-1]["score/real"] > metrics[-1]["score/fake_before_G"] + 0.1
    assert ("loss/penalty" in metrics[0]) == (mix is not None)


def test_gradient_is_penalised_between_a_real_and_its_fake() -> None:
    """With a linear D the gradient is the same everywhere; with this one it is twice the point."""
    objective = ObjectiveConfig(adversarial="wasserstein", lambda_gradient_penalty=10.0)
    D = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False)).double()
    nn.init.ones_(D[1].weight)

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x.square()

    module = DiscriminatorModule(Square(), D, None, objective)
    reals, fakes = torch.randn(2, 5, 1, 2, 2, dtype=torch.float64).unbind(0)
    mix = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.75], dtype=torch.float64)
    out = module(reals, fakes, mix=mix)
    points = mix.view(-1, 1, 1, 1) * reals + (1 - mix.view(-1, 1, 1, 1)) * fakes
    torch.testing.assert_close(out.gradients_between, (2 * points).square().sum((1, 2, 3)))
    assert out.real_gradients is out.fake_gradients is None


@pytest.mark.parametrize("learner", ["heads", "trunk"])
@pytest.mark.parametrize("norm_D", ["batch", "spectral"])
@pytest.mark.parametrize("update", ["D", "G"])
def test_nonfinite_update_changes_no_bit_and_the_next_one_trains(update: str, norm_D: str, learner: str) -> None:
    config = tiny("x", f"objective.information_trains={learner}", f"networks.norm_D={norm_D}")
    state, batch = plain_state(config), batch_of(config)
    train_step(state, [batch])
    before = state.state_dict()
    broken = (
        replace(batch, reals=batch.reals * math.nan)
        if update == "D"
        else replace(batch, latent=batch.latent * math.nan)
    )
    kept = {stem: {name: tensor.clone() for name, tensor in tensors.items()} for stem, tensors in before.items()}
    norms = train_step(state, [broken])
    assert not norms[f"gradient/{update}"].isfinite()
    of_D, of_G = state.owned_by_D, state.owned_by_G
    skipped = (
        [*of_D, "optimizer_D"] if update == "D" else [*of_G, "optimizer_G", *of_D, "optimizer_D"]
    )  # non-finite fakes also skip D's update
    for stem in skipped:
        for name, tensor in state.state_dict()[stem].items():
            assert torch.equal(tensor, kept[stem][name]), (stem, name)
    assert norms["gradient/G"].isfinite() == (update == "D")
    good = train_step(state, [batch])
    assert good["gradient/D"].isfinite()
    assert good["gradient/G"].isfinite()
    assert all(tensor.isfinite().all() for tensors in state.state_dict().values() for tensor in tensors.values())
