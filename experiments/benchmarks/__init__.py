"""What `experiments.benchmark` measures with: the workload, rivals, suites, floors, reports."""
