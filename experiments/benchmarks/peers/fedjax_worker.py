"""FedJAX 0.0.17 with its jitted backend (variant ``jit``) or one client a core (``pmap``).

FedJAX fills a client's last short batch with examples from its beginning, which nobody else does: its trajectory differs a little.
"""

import os
from typing import Any

from experiments.benchmarks.peers.protocol import Job, Orders
from experiments.benchmarks.workload import BATCH_SIZE, LEARNING_RATE, Arrays, Workload


def devices(variant: str) -> None:
    """Makes every core a device for ``pmap``; before JAX is imported."""
    if variant == "pmap":
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={len(os.sched_getaffinity(0))}"


def build(workload: Workload, params: Arrays, backend: str) -> tuple[Any, Any, dict[int, Any]]:
    """The algorithm, its first state, and a data set a client."""
    import fedjax
    import jax
    from fedjax.algorithms import fed_avg

    from experiments.benchmarks import models

    def convolve(images: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    model = fedjax.Model(
        init=lambda key: params,
        apply_for_train=lambda params, batch, key=None: models.logits(workload.model, params, batch["x"], convolve),
        apply_for_eval=lambda params, batch: models.logits(workload.model, params, batch["x"], convolve),
        train_loss=lambda batch, outputs: models.cross_entropies(outputs, batch["y"]),
        eval_metrics={},
    )
    fedjax.set_for_each_client_backend(backend)
    batches = fedjax.ShuffleRepeatBatchHParams(batch_size=BATCH_SIZE[workload.model], num_epochs=1, drop_remainder=False, skip_shuffle=True)
    optimizers = fedjax.optimizers.sgd(LEARNING_RATE), fedjax.optimizers.sgd(1.0)
    algorithm = fed_avg.federated_averaging(fedjax.model_grad(model), *optimizers, batches)
    state = algorithm.init(jax.tree_util.tree_map(jax.numpy.asarray, params))
    return algorithm, state, {client: fedjax.ClientDataset(_rows(workload, client)) for client in range(len(workload.sizes))}


def _rows(workload: Workload, client: int) -> Arrays:
    start, stop = workload.offsets[client : client + 2]
    return {name: array[start:stop] for name, array in workload.arrays.items()}


def main() -> None:
    """Serves."""
    orders, job = Orders(), Job.from_command_line()
    devices(job.variant)
    import jax
    import numpy as np

    workload, weights = job.load()
    algorithm, state, clients = build(workload, weights, job.variant)
    cohorts, root = iter(job.cohorts), jax.random.PRNGKey(0)

    def arrays() -> Arrays:
        return {name: np.asarray(value) for name, value in state.params.items()}

    for _ in orders.turns(arrays):
        keys = jax.random.split(root, job.cohorts.shape[1])
        state, _ = algorithm.apply(state, [(int(client), clients[client], key) for client, key in zip(next(cohorts), keys, strict=True)])
        jax.block_until_ready(state.params)


if __name__ == "__main__":
    main()
