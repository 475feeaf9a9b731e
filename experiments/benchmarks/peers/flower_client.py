"""Flower's client, in a module of its own: Ray's actors import it by name, and keep model and data between clients."""

import functools

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from experiments.benchmarks.peers import torch_models
from experiments.benchmarks.workload import LEARNING_RATE, Workload, start

client = ClientApp()


@functools.lru_cache(maxsize=1)
def prepared(data: str) -> tuple[Workload, torch.nn.Module]:
    """What an actor keeps between its clients."""
    torch.set_num_threads(1)
    workload = Workload.load(data)
    return workload, torch_models.build(workload.model, start(workload.model))


@client.train()
def train(message: Message, context: Context) -> Message:
    """One client's local work."""
    task = message.content["config"]
    workload, module = prepared(task["data"])
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(module.parameters(), lr=LEARNING_RATE)
    for x, y in workload.batches(task["client"]):
        optimizer.zero_grad()
        torch_models.loss(module, torch.from_numpy(x), torch.from_numpy(y).long()).backward()
        optimizer.step()
    examples = MetricRecord({"num-examples": int(workload.sizes[task["client"]])})
    return Message(content=RecordDict({"arrays": ArrayRecord(module.state_dict()), "metrics": examples}), reply_to=message)
