"""Our engine (variant: the lanes of its plan). It draws the cohorts itself; the schedule that rivals follow is its own."""

import jax

import fedjax_edu as fe
from experiments.benchmarks import ours
from experiments.benchmarks.peers.protocol import Job, Orders
from experiments.benchmarks.workload import Arrays


def main() -> None:
    """Serves."""
    orders, job = Orders(), Job.from_command_line()
    fe.configure()
    workload, _ = job.load()
    engine, state = ours.build(workload, job.cohorts.shape[1], lanes=job.variant if job.variant == "auto" else int(job.variant))

    def arrays() -> Arrays:
        return ours.arrays(state)

    for rounds in orders.turns(arrays, together=True):
        state, _ = engine.run(state, rounds=rounds)
        jax.block_until_ready(state.params)


if __name__ == "__main__":
    main()
