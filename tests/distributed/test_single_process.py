from __future__ import annotations

import pytest
import torch

from infogan_dist.distributed.single_process import SingleProcess, processes_of
from infogan_dist.errors import UserError
from tests.conftest import ONE_PROCESS


def test_one_process_does_all_itself() -> None:
    with processes_of(ONE_PROCESS) as processes:
        assert isinstance(processes, SingleProcess)
        assert processes.on_main(lambda: 7) == 7
        batches = [torch.tensor([0, 1]), torch.tensor([2, 0])]
        assert processes.map_batches(batches, lambda ours: 2 * ours).tolist() == [0, 2, 4, 0]


def test_an_error_passes_through() -> None:
    def fail() -> None:
        raise UserError("wrong")

    with pytest.raises(UserError, match="wrong"), processes_of(ONE_PROCESS) as processes:
        processes.on_main(fail)
