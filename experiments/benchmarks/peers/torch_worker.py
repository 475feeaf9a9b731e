"""A loop written by hand in PyTorch, tuned: fused optimiser steps, no copies, one thread a process or several.

Variants: ``threads_1``, ``threads_2``, and ``processes_2``, which deals each cohort to two processes of one thread.
"""

import copy
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch
from torch import multiprocessing

from experiments.benchmarks.peers import torch_models
from experiments.benchmarks.peers.protocol import Job, Orders
from experiments.benchmarks.workload import LEARNING_RATE, Workload

Tensors = list[torch.Tensor]


class Trainer:
    """One model that becomes every client in turn.

    Args:
        workload: the clients.
        module: the model.
    """

    def __init__(self, workload: Workload, module: torch.nn.Module):
        self._batches = [_batches(workload, client) for client in range(len(workload.sizes))]
        self._module = module
        self._params = list(module.parameters())
        self._optimizer = torch.optim.SGD(self._params, lr=LEARNING_RATE, foreach=True)

    def train(self, shared: Tensors, clients: np.ndarray, weights: np.ndarray, total: Tensors) -> None:
        """Trains clients from the shared parameters and writes the weighted sum of their parameters to `total`."""
        torch._foreach_zero_(total)
        for client, weight in zip(clients, weights, strict=True):
            with torch.no_grad():
                torch._foreach_copy_(self._params, shared)
            for x, y in self._batches[client]:
                self._optimizer.zero_grad(set_to_none=True)
                torch_models.loss(self._module, x, y).backward()
                self._optimizer.step()
            torch._foreach_add_(total, [param.detach() for param in self._params], alpha=float(weight))


def _batches(workload: Workload, client: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.from_numpy(x), torch.from_numpy(y).long()) for x, y in workload.batches(client)]


class Partner(NamedTuple):
    """Another process that trains a share of each cohort: what it is sent, where its sum lands, its end of the line."""

    connection: Connection
    total: Tensors
    process: multiprocessing.Process


def engage(trainer: Trainer, shared: Tensors) -> Partner:
    """Starts a process that shares the memory of `shared` and of its own sum with this one."""
    ours, theirs = multiprocessing.Pipe()
    total = [torch.zeros_like(tensor).share_memory_() for tensor in shared]
    process = multiprocessing.get_context("fork").Process(target=_assist, args=(theirs, trainer, shared, total), daemon=True)
    process.start()
    return Partner(ours, total, process)


def _assist(connection: Connection, trainer: Trainer, shared: Tensors, total: Tensors) -> None:
    while clients := connection.recv_bytes():
        weights = connection.recv_bytes()
        trainer.train(shared, np.frombuffer(clients, np.int64), np.frombuffer(weights), total)
        connection.send_bytes(b"done")


def deal(sizes: np.ndarray, clients: np.ndarray, shares: int) -> list[np.ndarray]:
    """Clients in shares of equal work: the largest first, each to the share that has least."""
    dealt: list[list[int]] = [[] for _ in range(shares)]
    loads = [0] * shares
    for client in clients[np.argsort(-sizes[clients], kind="stable")]:
        least = int(np.argmin(loads))
        dealt[least].append(int(client))
        loads[least] += int(sizes[client])
    return [np.array(share, np.int64) for share in dealt]


def train_round(trainer: Trainer, partners: list[Partner], sizes: np.ndarray, cohort: np.ndarray, shared: Tensors, total: Tensors) -> None:
    """One round of federated averaging; `shared` becomes the mean."""
    mine, *theirs = deal(sizes, cohort, 1 + len(partners))
    examples = float(sizes[cohort].sum())
    for partner, share in zip(partners, theirs, strict=True):
        partner.connection.send_bytes(share.tobytes())
        partner.connection.send_bytes((sizes[share] / examples).tobytes())
    trainer.train(shared, mine, sizes[mine] / examples, total)
    for partner in partners:
        partner.connection.recv_bytes()
        torch._foreach_add_(total, partner.total)
    torch._foreach_copy_(shared, total)


def main() -> None:
    """Serves."""
    orders, job = Orders(), Job.from_command_line()
    kind, count = job.variant.split("_")
    torch.set_num_threads(int(count) if kind == "threads" else 1)
    workload, weights = job.load()
    module = torch_models.build(workload.model, weights)
    shared = [param.detach().clone().share_memory_() for param in module.parameters()]
    trainer = Trainer(workload, module)
    partners = [engage(trainer, shared) for _ in range(int(count) - 1)] if kind == "processes" else []
    total, cohorts = [torch.zeros_like(tensor) for tensor in shared], iter(job.cohorts)
    result = copy.deepcopy(module)

    def arrays() -> dict[str, np.ndarray]:
        with torch.no_grad():
            torch._foreach_copy_(list(result.parameters()), shared)
        return torch_models.arrays_of(workload.model, result)

    for _ in orders.turns(arrays):
        train_round(trainer, partners, workload.sizes, next(cohorts), shared, total)


if __name__ == "__main__":
    main()
