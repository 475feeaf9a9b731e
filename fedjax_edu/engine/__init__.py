"""How a round runs: cohorts, lanes with a work queue, meshes, compiled rounds and the execution plan."""

from fedjax_edu.engine.engine import Engine
from fedjax_edu.engine.plan import ExecutionPlan
from fedjax_edu.engine.state import Evaluation, Info, State

__all__ = ["Engine", "Evaluation", "ExecutionPlan", "Info", "State"]
