"""Several processes training one model, started by torchrun.

Two processes of one thread each get more out of two shared cores than one process of two threads:
a process waits for its other half once a step, not once an operator. Without torchrun there is one
worker and every function here does nothing.
"""

import os

import torch
import torch.distributed as dist
from torch import Tensor


def start_workers() -> None:
    """Meet the other processes, if torchrun started any."""
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("gloo")


def worker() -> int:
    """This process's number; worker 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def workers() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_workers(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all workers."""
    if workers() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(total.view(tensor.shape))


def largest_over_workers(value: float) -> float:
    if workers() == 1:
        return value
    found = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return float(found)
