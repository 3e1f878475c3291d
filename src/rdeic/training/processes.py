"""The processes of one run: this one alone, or several started together, each with its share of every batch.

A launcher (`accelerate launch`, `torchrun`) says so in the environment; accelerate then opens the connections and
chooses the devices. The rest is done here: gradients are averaged after the last micro-batch, and whatever else must
agree is gathered from all processes or sent by process 0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rdeic.errors import CheckpointError, ConfigError, TrainingError

BUCKET_VALUES = 1 << 24  # averaged at a time: 64 MiB
PATIENCE = timedelta(hours=1)  # a process may decode pictures for long before the first step
OTHER_ENGINES = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_MEGATRON_LM")


@dataclass(frozen=True)
class Processes:
    """One process among its peers. Methods that exchange something must be called by all of them, in one order."""

    rank: int  # of this process, from 0
    count: int
    device: torch.device  # of this process

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def share(self, batch: int, accumulate: int) -> range:
        """The positions of a batch that this process takes. Raises ConfigError if it cannot be split evenly."""
        if batch % (self.count * accumulate):
            raise ConfigError(
                f"batch = {batch} cannot be split over {self.count} processes with accumulate = {accumulate}; "
                f"make it a multiple of {self.count * accumulate}"
            )
        own = batch // self.count
        return range(self.rank * own, (self.rank + 1) * own)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes; one that is missing everywhere stays missing."""
        if self.count == 1:
            return
        present = self.any([parameter.grad is not None for parameter in parameters])
        gradients = []
        for parameter, wanted in zip(parameters, present, strict=True):
            if wanted and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            self.average(flat)
            pieces = flat.split([gradient.numel() for gradient in bucket])
            for gradient, piece in zip(bucket, pieces, strict=True):
                gradient.copy_(piece.view(gradient.shape))

    def average(self, value: Tensor) -> Tensor:
        """`value`, replaced by its mean over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
            value /= self.count
        return value

    def gather(self, value: Tensor) -> Tensor:
        """The processes' equally shaped tensors one after the other: (n, ...) -> (count * n, ...)."""
        if self.count == 1:
            return value
        value = value.contiguous()
        parts = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(parts, value)
        return torch.cat(parts)

    def collect(self, value: Any) -> list[Any]:
        """The processes' picklable values, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag whether it is set in at least one process."""
        if self.count == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Replaces the tensors by those of process 0."""
        if self.count > 1:
            for tensor in tensors:
                dense = tensor.detach().contiguous()
                dist.broadcast(dense, src=0)
                tensor.detach().copy_(dense)

    def first_says(self, value: int) -> int:
        """The value that process 0 has, in every process."""
        return int(self.collect(value)[0])


ALONE = Processes(0, 1, torch.device("cpu"))


@contextmanager
def joined() -> Iterator[Processes]:
    """The current process among those it was started with, until the end of the `with` block.

    Raises TrainingError without accelerate, where it is needed, or for an engine that shards the model.
    """
    for variable in OTHER_ENGINES:
        if _flag(variable):
            raise TrainingError(
                f"{variable} is set, but this program shares out pictures, not weights; launch it with --multi_gpu"
            )
    cpu = _flag("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(0, 1, torch.device("cpu" if cpu else "cuda"))
        return
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise TrainingError("several processes need accelerate; pip install 'rdeic[train]'") from error
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    try:
        yield Processes(state.process_index, state.num_processes, state.device)
    except (TrainingError, ConfigError, CheckpointError) as error:
        raise type(error)(f"process {state.process_index} of {state.num_processes}: {error}") from error
    # Not after an error: the others may be waiting for this process, and it for them. The launcher ends them.
    state.wait_for_everyone()
    state.destroy_process_group()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive tensors, together about as large as one exchange should be."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(one.numel() for one in bucket) >= BUCKET_VALUES:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def _flag(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true")
