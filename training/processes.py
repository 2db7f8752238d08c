"""One training in several processes, as `torchrun` starts them; a single process is the plain case.

    torchrun --nproc-per-node 2 cli.py train …

Gradients are averaged by DistributedDataParallel; every process takes its part of the same batches and of
the evaluation, and process 0 alone decides and writes.
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

# Longer than the slowest process lags behind, or writing keeps process 0 from the others.
_PATIENCE = timedelta(minutes=10)
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Processes:
    """One process among those of the training.

    Attributes:
        rank: its number, from 0.
        count: of all processes.
        local_rank: its number on its machine; chooses its GPU.
        local_count: of those on its machine, which share the memory.
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
        """The network with gradients averaged over the processes, and process 0's weights in all."""
        if self.count == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def agree(self, value: int, device: torch.device) -> int:
        """Process 0's value, in every process."""
        if self.count == 1:
            return value
        told = torch.tensor(value, device=device)
        distributed.broadcast(told, 0)
        return int(told)

    def share(self, tensors: list[Tensor]) -> None:
        """Overwrite each tensor with process 0's."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def tell(self, text: str) -> str:
        """Process 0's text, in every process."""
        if self.count == 1:
            return text
        told = [text]
        distributed.broadcast_object_list(told, 0)
        return told[0]

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes."""
        if self.count > 1:
            distributed.all_reduce(tensor)


def processes_in_environment() -> Processes:
    """What torchrun says in the environment; one process where it does not.

    Raises:
        UserError: the variables are not what torchrun sets.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Processes()
    try:
        return Processes(*(int(os.environ[name]) for name in _VARIABLES))
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{', '.join(_VARIABLES[:-1])} or {_VARIABLES[-1]} is missing or no number ({error})",
            "start several processes with `torchrun --nproc-per-node 2 cli.py train …`",
        ) from error


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """Join the other processes for the time of the body.

    Args:
        device: "cpu" or "cuda": through gloo or NCCL.

    Raises:
        UserError: another process was lost, or torchrun ends this one, which it does when another was.
    """
    processes = processes_in_environment()
    if processes.count == 1:
        yield processes
        return

    def lost() -> UserError:
        # torchrun ends this process too, sooner or later: not before it has had its say.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return UserError(
            f"process {processes.rank} of {processes.count} was stopped because another one was lost",
            "run the same command again, without --no-resume: it goes on after the last finished epoch",
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
        # gloo has no type of its own for it; DistError is NCCL's and the store's.
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise lost() from error
        raise
    finally:
        if distributed.is_initialized():
            # What still refers to the group, such as DistributedDataParallel and its hooks in circles, would
            # end its threads while the interpreter is taken down, which now and then aborts the process.
            gc.collect()
            distributed.destroy_process_group()
        if signal.getsignal(signal.SIGTERM) is terminated:
            signal.signal(signal.SIGTERM, before)
