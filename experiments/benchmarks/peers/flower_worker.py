"""Flower 1.41.0 with its Ray backend: a ``FedAvg`` strategy over one actor a core, each of one thread (variant ``actors_2``)."""

import time
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from experiments.benchmarks.peers import torch_models
from experiments.benchmarks.peers.flower_client import client
from experiments.benchmarks.peers.protocol import Job, Orders
from experiments.benchmarks.workload import Arrays, Workload, start


class Scheduled(FedAvg):
    """FedAvg over given cohorts; it takes a turn before each round and ends the process with the turns."""

    def __init__(self, orders: Orders, job: Job, model: str):
        super().__init__(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
        self._job, self._model, self._cohorts = job, model, iter(job.cohorts)
        self._turns = orders.turns(self._arrays)
        self._present: ArrayRecord | None = None

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> list[Message]:
        """One message a client of the round's cohort."""
        self._present = arrays
        nodes = self._nodes(grid)
        if next(self._turns, None) is None:
            raise SystemExit
        cohort = next(self._cohorts)
        return [self._message(arrays, int(member), node) for member, node in zip(cohort, nodes, strict=False)]

    def _message(self, arrays: ArrayRecord, member: int, node: int) -> Message:
        task = ConfigRecord({"client": member, "data": self._job.data})
        return Message(content=RecordDict({"arrays": arrays, "config": task}), message_type=MessageType.TRAIN, dst_node_id=node)

    def _nodes(self, grid: Grid) -> list[int]:
        """One node a client of a cohort, once all have come."""
        while len(nodes := sorted(grid.get_node_ids())) < self._job.cohorts.shape[1]:
            time.sleep(0.1)
        return nodes

    def _arrays(self) -> Arrays:
        module = torch_models.build(self._model, start(self._model))
        module.load_state_dict(self._present.to_torch_state_dict())  # type: ignore[union-attr]
        return torch_models.arrays_of(self._model, module)


def server_app(orders: Orders, job: Job) -> ServerApp:
    """The server, whose rounds are the orders'."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        model = Workload.load(job.data).model
        arrays = ArrayRecord(torch_models.build(model, start(model)).state_dict())
        Scheduled(orders, job, model).start(grid=grid, initial_arrays=arrays, num_rounds=len(job.cohorts) + 1)

    return app


def main() -> None:
    """Serves."""
    orders, job = Orders(), Job.from_command_line()
    actors = int(job.variant.removeprefix("actors_"))
    ray: dict[str, Any] = {"num_cpus": actors, "include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": ray}
    run_simulation(server_app=server_app(orders, job), client_app=client, num_supernodes=job.cohorts.shape[1], backend_config=backend)


if __name__ == "__main__":
    main()
