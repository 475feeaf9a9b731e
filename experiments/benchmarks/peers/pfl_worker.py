"""pfl 0.6.0: ``SimulatedBackend`` with ``FederatedAveraging``.

Variants: ``processes_2``, two processes of one thread, which its authors recommend; ``processes_1``, one process of two threads.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

from experiments.benchmarks.peers.protocol import Job, Orders
from experiments.benchmarks.workload import BATCH_SIZE, LEARNING_RATE, Arrays, Workload

PARTNER = "PFL_WORKER_RANK"


def surroundings(rank: int, port: int) -> dict[str, str]:
    """The environment from which pfl and torch.distributed learn who they are."""
    ours = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}
    theirs = {PARTNER: rank, "PFL_WORKER_ADDRESSES": f"127.0.0.1:{port},127.0.0.1:{port + 1}"}
    return {name: str(value) for name, value in (ours | theirs | {"OMP_NUM_THREADS": 1}).items()}


def engage() -> subprocess.Popen:
    """Starts the second process, and makes this one the first of two."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "experiments.benchmarks.peers.pfl_worker", *sys.argv[1:]]
    partner = subprocess.Popen(command, env=os.environ | surroundings(1, port), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    os.environ.update(surroundings(0, port))
    return partner


def rounds_of_partner() -> Iterator[int]:
    """The second process's turns: a byte a round from the first one, so that it does not begin before the clock does."""
    while sys.stdin.buffer.read(1):
        yield 1


def led(turns: Iterator[int], partner: subprocess.Popen) -> Iterator[int]:
    """The first process's turns, each passed on."""
    pipe: IO[bytes] = partner.stdin  # type: ignore[assignment]
    for turn in turns:
        pipe.write(b".")
        pipe.flush()
        yield turn
    pipe.close()


def model_class() -> Any:
    """A module with the methods that pfl asks for."""
    import torch

    from experiments.benchmarks.peers import torch_models

    class Model(torch.nn.Module):
        def __init__(self, module: torch.nn.Module):
            super().__init__()
            self.module = module

        def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch_models.loss(self.module, x, y)

        def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
            return {}

    return Model


def train(workload: Workload, module: Any, cohorts: Any, turns: Iterator[int]) -> None:
    """Runs pfl's loop, which takes a turn before each round and ends with the turns."""
    import torch
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    class Turns(TrainingProcessCallback):
        def on_train_begin(self, *, model: Any) -> Metrics:
            next(turns)
            return Metrics()

        def after_central_iteration(self, metrics: Metrics, model: Any, *, central_iteration: int) -> tuple[bool, Metrics]:
            return next(turns, None) is None, Metrics()

    tensors = [_tensors(workload, client) for client in range(len(workload.sizes))]
    sampled = iter(cohorts.flatten().tolist())
    make = lambda client: PyTorchTensorDataset(tensors[client], user_id=str(client))  # noqa: E731 - as pfl's own examples do
    training, validation = FederatedDataset(make, lambda: next(sampled)), FederatedDataset(make, lambda: 0)
    central = torch.optim.SGD(module.parameters(), lr=1.0)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=len(cohorts), evaluation_frequency=10**9, train_cohort_size=cohorts.shape[1], val_cohort_size=None
        ),
        backend=SimulatedBackend(training_data=training, val_data=validation, postprocessors=[WeightByDatapoints()]),
        model=PyTorchModel(module, local_optimizer_create=torch.optim.SGD, central_optimizer=central),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=LEARNING_RATE, local_batch_size=BATCH_SIZE[workload.model]
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=None),
        callbacks=[Turns()],
        send_metrics_to_platform=False,
    )


def _tensors(workload: Workload, client: int) -> tuple[Any, Any]:
    import torch

    start, stop = workload.offsets[client : client + 2]
    return torch.from_numpy(workload.arrays["x"][start:stop]), torch.from_numpy(workload.arrays["y"][start:stop]).long()


def main() -> None:
    """Serves; in the second of two processes, follows the first."""
    follows = PARTNER in os.environ
    orders, job = (None if follows else Orders()), Job.from_command_line()
    partner = engage() if job.variant == "processes_2" and not follows else None
    from pfl.internal.ops import pytorch_ops
    from pfl.internal.ops.selector import set_framework_module

    from experiments.benchmarks.peers import torch_models

    set_framework_module(pytorch_ops)
    workload, weights = job.load()
    module = model_class()(torch_models.build(workload.model, weights))

    def arrays() -> Arrays:
        return torch_models.arrays_of(workload.model, module.module)

    turns = rounds_of_partner() if orders is None else orders.turns(arrays)
    train(workload, module, job.cohorts, turns if partner is None else led(turns, partner))


if __name__ == "__main__":
    main()
