"""A rival that trains nothing: it counts rounds, prints where frameworks print, and ends in the way that its variant says."""

import numpy as np

from experiments.benchmarks.peers.protocol import Job, Orders


def main() -> None:
    orders, job = Orders(), Job.from_command_line()
    workload, weights = job.load()
    trained, cohorts = np.zeros(1), iter(job.cohorts)
    params = {"rounds": trained, "start": weights["weight_0"]}
    for rounds in orders.turns(lambda: params, together=job.variant == "together"):
        print("a framework says something")
        if job.variant == "crash":
            raise RuntimeError("out of luck")
        trained += rounds
        assert max(next(cohorts)) < len(workload.sizes)


if __name__ == "__main__":
    main()
