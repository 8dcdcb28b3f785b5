"""Prepares and runs training steps on any number of processes, with Accelerate."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.optim import Optimizer

from infogan_dist.config.running import ProcessesConfig
from infogan_dist.config.schema import Config
from infogan_dist.config.section import Precision
from infogan_dist.distributed.group import Group
from infogan_dist.distributed.launcher import Launch
from infogan_dist.distributed.masked import masked
from infogan_dist.distributed.reductions import Traffic, gather_from, reduce_gradients
from infogan_dist.errors import UserError
from infogan_dist.networks.batch_norm import BatchNorm
from infogan_dist.networks.freeze import frozen


class Cluster(Group):
    """The processes of a run and the engine of its steps. DDP, mixed precision and the loss scaler are Accelerate's."""

    def __init__(self, launch: Launch, threads: int | str, processes: ProcessesConfig):
        super().__init__(launch, threads, processes)
        self.traffic = Traffic()
        self._accelerator: Accelerator | None = None
        self._warming_up = False

    def close(self) -> None:
        self._drop_accelerator()
        super().close()

    def configure(self, config: Config) -> None:
        """Set precision and gradient compression. Not in `__init__`, because a resumed run reads them from its recorded config."""
        self._drop_accelerator()
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every step has the same shapes: search for the fastest kernels once
            allow_tf32(not config.objective.has_gradient_penalty)
        self._compression = config.processes.compress_gradients
        self._accelerator = Accelerator(
            cpu=self.device.type == "cpu",
            mixed_precision=config.train.precision if config.train.precision in ("bf16", "fp16") else "no",
            dynamo_backend="no",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )
        self.dtype = torch.float64 if config.train.precision == "fp64" else torch.float32

    def prepare(self, module: nn.Module, *not_owned: nn.Module) -> nn.Module:
        """Make a module ready for training: on the device, in the run's precision, wrapped in DDP if there are several processes. DDP
        reduces its gradients once, without those of its `not_owned` networks."""
        name = type(module).__name__
        for layer in module.modules():
            if type(layer) is BatchNorm and self.processes > 1:
                layer.parts = self.processes
                layer.gather_parts = gather_from(self.processes, self.rank, self.traffic)
        alone = self.processes == 1
        with (
            frozen(*not_owned),
            warnings.catch_warnings(),
        ):  # DDP reduces parameters that require gradients when it is built
            warnings.filterwarnings(
                "ignore", ".*broadcast_buffers.*", FutureWarning
            )  # Accelerate has no newer argument
            prepared = cast(nn.Module, self._accelerate.prepare_model(module, evaluation_mode=alone))
        # harmless: with one channel the unused strides of a convolution's gradient differ
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
        reduce_gradients(prepared, name, self._compression, self.traffic)
        return prepared

    def alone(self) -> Cluster:
        """A copy of this rank that acts as the only one, so that modules it prepares reduce nothing. To measure the cost of reductions."""
        alone = copy.copy(self)
        alone.processes, alone.rank, alone.is_main = 1, 0, True
        return alone

    def prepare_optimizer(self, optimizer: Optimizer) -> Optimizer:
        return cast(Optimizer, self._accelerate.prepare_optimizer(optimizer))

    def warm_up_ddp(self, networks: Iterable[nn.Module], step: Callable[[], object]) -> None:
        """Run `step` once before the first step of this process, and undo its effect on networks and optimizers.

        DDP rebuilds its buckets after their first use, and the order of summation depends on the buckets. After a warm-up a resumed
        run sums in the same order as an uninterrupted one, on any number of ranks.
        """
        if self.processes == 1:
            return
        before = [(network, copy.deepcopy(network.state_dict())) for network in networks]
        self._warming_up = True
        step()
        self._warming_up = False
        for network, state in before:
            network.load_state_dict(state)
            network.zero_grad()
        self.traffic.clear()

    # The engine of the steps

    def autocast(self) -> AbstractContextManager[None]:
        self.heartbeat("forward of G alone")
        return self._accelerate.autocast()

    def gradients_of(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        self.heartbeat(f"forward and backward of {type(getattr(module, 'module', module)).__name__}")
        return nullcontext() if last else self._accelerate.no_sync(module)

    def backward(self, loss: Tensor) -> None:
        self._accelerate.backward(loss)

    def mean_of_all(self, statistic: Tensor, what: str) -> Tensor:
        if self.processes == 1:
            return statistic
        gathered = gather_from(self.processes, self.rank, self.traffic, what)
        return gathered(statistic.flatten()).mean(0).view_as(statistic)

    def unscale(self, optimizer: Optimizer) -> None:
        if self._scaler is not None and not self._warming_up:
            self._scaler.unscale_(_unwrapped(optimizer))

    def update(self, optimizer: Optimizer, skip: Tensor) -> None:
        if self._warming_up:
            return
        if self._scaler is None:
            masked(_unwrapped(optimizer), skip)
            optimizer.step()
        else:  # Accelerate's optimizer would also update the scale, once for each of the two
            self._scaler.step(_unwrapped(optimizer))  # it skips non-finite updates itself

    def end_step(self) -> None:
        if self._scaler is not None and not self._warming_up:
            self._scaler.update()

    # This rank's part of a batch

    def micro_batch_positions(self, images_seen: int, global_batch: int, accumulate: int) -> list[Tensor]:
        """This rank's global positions in each micro-batch of the next step, int64 on the CPU."""
        return rank_positions(images_seen, global_batch, accumulate, self.processes, self.rank)

    # The loss scaler

    def scaler_state(self) -> dict[str, float]:
        """The state of fp16's loss scaler; empty in other precisions."""
        return dict(self._scaler.state_dict()) if self._scaler is not None else {}

    def restore_scaler(self, state: dict[str, float]) -> None:
        if self._scaler is not None:
            self._scaler.load_state_dict(state)

    def _drop_accelerator(self) -> None:
        if self._accelerator is not None:
            self._accelerator.state._reset_state(reset_partial_state=False)

    @property
    def _accelerate(self) -> Accelerator:
        assert self._accelerator is not None, "call configure() first"
        return self._accelerator

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        return cast("torch.amp.GradScaler | None", self._accelerate.scaler)


def rank_positions(images_seen: int, global_batch: int, accumulate: int, processes: int, rank: int) -> list[Tensor]:
    """The global positions of one rank in each micro-batch of the step after `images_seen` images, int64 on the CPU.

    The batch is split into micro-batches first, and each micro-batch over the ranks.
    """
    positions = torch.arange(images_seen, images_seen + global_batch)
    return [micro.chunk(processes)[rank] for micro in positions.chunk(accumulate)]


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Replace `auto` by bf16 or fp32. Raises UserError for fp16 on a CPU, because Accelerate would silently train in fp32.

    A CPU needs AMX for bf16: with AVX-512's bf16 instructions alone a step takes 1.5 times as long as in fp32.
    """
    cpu = device.type == "cpu"
    if precision == "fp16" and cpu:
        raise UserError("train.precision = fp16 needs a GPU; use bf16 or fp32 on a CPU")
    if precision != "auto":
        return precision
    fast_bf16 = torch.cpu._is_amx_tile_supported() if cpu else torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast_bf16 else "fp32"


def allow_tf32(allowed: bool) -> None:
    """Set whether float32 matrix products and convolutions on a GPU may use TF32, for the whole process.

    It is set for the run and not just for the penalty, whose second derivative is computed later, in the step's backward. These
    are torch's older settings: torch refuses to read them after `fp32_precision` was set.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside Accelerate's."""
    return cast(Optimizer, getattr(optimizer, "optimizer", optimizer))
