"""One training in several processes, which `torchrun` starts, or in a single process.

    torchrun --nproc-per-node 2 cli.py train …

DistributedDataParallel averages the gradients. Every process takes its part of each batch and of each
evaluation, and process 0 alone decides and writes.
"""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import NoReturn

import torch
from torch import Tensor, distributed, nn

from errors import UserError

# A process waits for a slower one, or for process 0 while that writes, but never for ten minutes.
_PATIENCE = timedelta(minutes=10)
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Processes:
    """One process among all processes of a training.

    Attributes:
        rank: the number of this process, from 0.
        count: the number of all processes.
        local_rank: the number of this process among those on the same machine, which is the number of the GPU
            too.
        local_count: the number of processes on the same machine, which share the memory of the host.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == 0

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return the network with the weights of process 0 and with gradients averaged over all processes."""
        if self.count == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def agree(self, value: int, device: torch.device) -> int:
        """Return, in every process, the value that process 0 passes."""
        if self.count == 1:
            return value
        told = torch.tensor(value, device=device)
        distributed.broadcast(told, 0)
        return int(told)

    def share(self, tensors: list[Tensor]) -> None:
        """Overwrite each tensor with the tensor that process 0 passes."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def tell(self, text: str) -> str:
        """Return, in every process, the text that process 0 passes."""
        if self.count == 1:
            return text
        told = [text]
        distributed.broadcast_object_list(told, 0)
        return told[0]

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by the sum of the tensors of all processes."""
        if self.count > 1:
            distributed.all_reduce(tensor)


def processes_in_environment() -> Processes:
    """Return the processes that torchrun describes in the environment, or one process without torchrun.

    Raises:
        UserError: a variable that torchrun sets is missing or not a number.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Processes()
    try:
        return Processes(*(int(os.environ[name]) for name in _VARIABLES))
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{', '.join(_VARIABLES[:-1])} or {_VARIABLES[-1]} is missing or not a number ({error})",
            "start several processes with `torchrun --nproc-per-node 2 cli.py train …`",
        ) from error


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """Connect the processes of the training while the body of the `with` statement runs.

    Args:
        device: "cpu", where the processes communicate through gloo, or "cuda", where they use NCCL.

    Raises:
        UserError: another process was lost. This process learns that from an error of gloo or NCCL, or
            because torchrun ends the remaining processes with SIGTERM.
    """
    processes = processes_in_environment()
    if processes.count == 1:
        yield processes
        return

    def lost() -> UserError:
        # torchrun sends SIGTERM to this process sooner or later, which must not cut its message off.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return UserError(
            f"process {processes.rank} of {processes.count} was stopped because another one was lost",
            "run the same command again, without --no-resume, to continue after the last finished epoch",
        )

    def terminated(signal_number: int, frame: FrameType | None) -> NoReturn:
        raise lost()

    if device == "cuda":
        if processes.local_count > torch.cuda.device_count():
            raise UserError(
                f"{processes.local_count} processes cannot share {torch.cuda.device_count()} GPUs",
                "start one process for each GPU: torchrun --nproc-per-node N",
            )
        torch.cuda.set_device(processes.local_rank)
    before = signal.signal(signal.SIGTERM, terminated)
    try:
        distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
        yield processes
    except RuntimeError as error:
        # A lost process is a DistError of NCCL or of the store; gloo raises a plain RuntimeError that names
        # gloo.
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise lost() from error
        raise
    finally:
        if distributed.is_initialized():
            # DistributedDataParallel and its hooks refer to each other and to the group. Left to the end of
            # the interpreter, they would stop the threads of the group then, which sometimes aborts the
            # process.
            gc.collect()
            distributed.destroy_process_group()
        if signal.getsignal(signal.SIGTERM) is terminated:
            signal.signal(signal.SIGTERM, before)
