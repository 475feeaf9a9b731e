"""The engine: a population, an algorithm and a plan, compiled once and run for any number of rounds."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Algorithm, Meta, Stage
from fedjax_edu.core.chain import Chain
from fedjax_edu.core.errors import ArgumentError, check_flag, check_integer
from fedjax_edu.core.keys import Purpose, check_seed, fold
from fedjax_edu.core.link import Link
from fedjax_edu.core.modules import Modules, assign
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.engine import checks, collectives, evaluation, processes, rounds, tiles
from fedjax_edu.engine.cohorts import Cohort
from fedjax_edu.engine.cohorts.sampler import synchronous
from fedjax_edu.engine.lanes import measuring, measuring_stage
from fedjax_edu.engine.partition import partition
from fedjax_edu.engine.plan import AXIS, ExecutionPlan
from fedjax_edu.engine.reporting import Traffic, to_info, traffic
from fedjax_edu.engine.resident import Feed, Resident, filled, place
from fedjax_edu.engine.schedule import LocalRows, replay_round
from fedjax_edu.engine.seating import seat, seating
from fedjax_edu.engine.state import Evaluation, Info, State
from fedjax_edu.engine.streaming import Stream, parts
from fedjax_edu.engine.tuning import choose

TILES_AT_ONCE = 16
CLIENTS_AT_ONCE = 4096
MODELS = ("personal", "global")


class Engine:
    """Runs a federated algorithm over a population of clients.

    Args:
        population: the clients and their examples.
        algorithm: what to run, for instance ``fe.algorithms.fedavg(...)``.
        cohort: who takes part in a round.
        aggregator: what happens between clients and server, for instance ``chain(clip(1.0), mean())``.
        modules: which parts of the model are shared, personal, frozen; None shares everything.
        plan: how it is laid out on the hardware; it changes results by float rounding at most.
        measure_after: also report the loss after local training (``info.loss_after``), which costs a pass over the data.
        report_rejected: also report the ids of clients whose update was not finite (``info.rejected_ids``).

    Raises:
        ArgumentError: an argument that cannot work, before anything is compiled.

    >>> import optax, fedjax_edu as fe
    >>> population = fe.data.Population.from_arrays({"y": np.arange(6.0)}, offsets=[0, 2, 6])
    >>> algorithm = fe.algorithms.fedavg(
    ...     lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
    ...     client_optimizer=optax.sgd(1.0), local=fe.LocalTraining(epochs=1))
    >>> engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    >>> state, info = engine.run(engine.init({"mean": jnp.zeros(())}, seed=0), rounds=1)
    >>> float(state.params["mean"]), int(info.participants[0])
    (2.5, 2)
    """

    def __init__(
        self,
        population: Population,
        algorithm: Algorithm,
        *,
        cohort: Cohort,
        aggregator: Link | Chain,
        modules: Modules | None = None,
        plan: ExecutionPlan = ExecutionPlan(),
        measure_after: bool = False,
        report_rejected: bool = False,
    ):
        self._chain = checks.check_parts(population, algorithm, cohort, aggregator, modules, plan)
        self.population = population
        self._algorithm = algorithm
        self._sampler = cohort.bind(population.ids, population.attributes, population.sizes)
        checks.check_links(self._chain, population, cohort, self._sampler.capacity)
        self._cohort = cohort
        self.layout = plan.resolve(self._sampler.capacity, None if population.loaded else trees.byte_size(population.arrays))
        checks.check_stream(cohort, self.layout)
        whole = "describe all clients in every process, with the same sizes, ids and attributes; each reads the rows that it needs"
        processes.check_alike("population", (population.offsets, population.ids, population.attributes), whole, self.layout.mesh)
        self._modules = modules
        self._longest = int(population.sizes.max())
        self._measured = check_flag("measure_after", measure_after)
        self._report_rejected = check_flag("report_rejected", report_rejected)
        self._x64 = trees.float_dtype() == jnp.float64
        self._replicated = NamedSharding(self.layout.mesh, PartitionSpec())
        self._stream = self._open_stream()
        self._programs: dict[Any, _Compiled] = {}

    def init(self, params: Tree, seed: int = 0) -> State:
        """The state before the first round.

        Args:
            params: pytree of floating-point arrays; copied.
            seed: root of all randomness.

        Returns:
            The state.

        Raises:
            ArgumentError: parameters that cannot be trained, or modules assigned from other parameters.
            LossError: the loss does not return one number an example.
        """
        checks.check_precision(self._x64)
        seed = check_seed(seed)
        checks.check_params(params, self.population)
        processes.check_alike("params", (params, seed), "start from the same parameters and seed in every process", self.layout.mesh)
        params, key = jax.tree.map(jnp.array, params), jax.random.key(seed)
        sharding = self._compiled(params).sharding
        everyone = jnp.arange(self.population.num_clients, dtype=jnp.int32)
        if not self.layout.host_states:
            return processes.spread(self._begin(self._resident, params, key, everyone), sharding)
        clients = []
        for start in range(0, len(everyone), CLIENTS_AT_ONCE):
            few = everyone[start : start + CLIENTS_AT_ONCE]
            state = self._begin(self._resident, params, key, few)
            clients.append(jax.tree.map(np.asarray, (state.clients, state.links_clients)))
        states, links_states = jax.tree.map(lambda *leaves: np.concatenate(leaves), *clients)
        bare = processes.spread(*(each._replace(clients=(), links_clients=()) for each in (state, sharding)))
        return bare._replace(clients=states, links_clients=links_states)

    def keep_lanes(self, lanes: int) -> None:
        """Takes the number of lanes that an earlier run of this plan found best, instead of measuring anew; before :meth:`init`.

        A plan that names a number, and an engine that has measured, keep theirs.

        Args:
            lanes: of each device, as in ``engine.layout.lanes``.

        Raises:
            ArgumentError: not a positive integer.
        """
        lanes = check_integer("lanes", lanes)
        if self.layout.lanes is None:
            self.layout = self.layout._replace(lanes=min(lanes, self._share), reason="found best by an earlier run")

    def _begin(self, resident: Resident, params: Tree, key: jax.Array, clients: jax.Array) -> State:
        """The first state, with the states of `clients` (int32 [K]) alone."""
        modules = self._assigned(params)
        split = modules.split(params)
        if not jax.tree.leaves((split.shared, split.personal)):
            raise ArgumentError("modules", modules.kinds, "leave at least one module shared or personal: there is nothing to train")
        checks.check_holders(self.population, modules)
        meta = Meta(self.population.sizes, modules, self.population.holds, self.population.attributes)
        infos = resident.infos(clients, jnp.zeros_like(clients), 0, len(self._algorithm.stages[0].phases), modules)
        return State(
            round=jnp.int32(0),
            key=key,
            server=self._algorithm.init_server(split, meta),
            clients=jax.vmap(lambda info: self._algorithm.init_client(split, info))(infos),
            links_server=self._chain.init_server(split, meta),
            links_clients=jax.vmap(lambda info: self._chain.init_client(split, info))(infos),
            cohort=self._sampler.init(fold(key, Purpose.SAMPLER)),
        )

    def run(self, state: State, rounds: int) -> tuple[State, Info]:
        """Runs rounds; any number of them reuses one compiled program. The arguments stay valid, unless the plan donates them.

        States of several runs that are stacked leaf by leaf run side by side: their clients wait in one queue.
        :func:`fedjax_edu.study.sweep` stacks them.

        Args:
            state: from :meth:`init` or an earlier run, or several of them stacked.
            rounds: how many, 0 or more.

        Returns:
            The state after, and what each round reported, leaves [rounds, ...]; of stacked states [rounds, members, ...].
        """
        checks.check_rounds(rounds)
        self._check(state, stacked=True)
        compiled = self._compiled(_one(state).params)
        chunks: list[Any] = []
        for after, records, active in self._chunks(compiled, state, int(rounds)):
            state = after
            chunks.append(jax.tree.map(lambda leaf, active=active: leaf[:active], records))
        records = jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)
        return state, to_info(records, compiled.program, compiled.traffic)

    def _chunks(self, compiled: "_Compiled", state: State, left: int) -> Iterator[tuple[State, Any, int]]:
        """The state and NumPy records after each chunk of rounds, and how many rounds it had; one chunk at least."""
        chunk = compiled.chunk if state.members is None else self._side_by_side(compiled, state.members)
        if self._stream is not None:
            ahead = not (self._cohort.adaptive or self._cohort.stale)
            yield from self._stream.run(chunk, self._sampler, compiled.program.seating, ahead, state, self._resident, left)
            return
        while True:
            active = min(left, self.layout.chunk)
            state, records = chunk(state, self._resident, jnp.int32(active), None)
            yield state, jax.tree.map(np.asarray, records), active
            left -= active
            if not left:
                return

    def evaluate(self, state: State, population: Population, which: str = "personal") -> Evaluation:
        """Weighted means of losses and metrics, overall and per client.

        Args:
            state: the state whose parameters are used.
            population: any clients with the same leaves.
            which: the models of clients: ``"personal"``, those of clients that the engine knows are their own, where the algorithm
                gives them any, and the federation's elsewhere; ``"global"``, the federation's.

        Returns:
            An :class:`~fedjax_edu.engine.Evaluation`.
        """
        models, server, clients = self._models(state, population, which)
        key, found = fold(processes.here(state.key, self.layout.mesh), Purpose.EVALUATE), []
        for arrays, cut, start in self._tiled(population, models.hosted):
            report = evaluation.losses(models, self._algorithm.loss, server, clients, arrays, cut, key)
            real = np.asarray(cut.valid).any(axis=-1)
            found.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[real], (report, start + cut.client)))
        report, owners = self._together(population, found)
        return evaluation.summarise(report, owners, population.num_clients)

    def predict(self, state: State, population: Population, fn: Callable[..., Any], which: str = "personal") -> Any:
        """Outputs of a model for every row of a population.

        Args:
            state: the state whose parameters are used.
            population: any clients with the same leaves.
            fn: ``(params, batch) -> pytree of [B, ...]``.
            which: as for :meth:`evaluate`.

        Returns:
            NumPy arrays [N, ...] in the population's row order.
        """
        checks.check_function(fn)
        models, server, clients = self._models(state, population, which)
        outputs = []
        for arrays, cut, _ in self._tiled(population, models.hosted):
            outputs.append(evaluation.in_row_order(evaluation.predictions(models, fn, server, clients, arrays, cut), cut))
        return self._together(population, outputs)

    def _models(self, state: State, population: Population, which: str) -> tuple[tiles.Models, Any, Tree]:
        """How the clients of a population come to their models, and the server's and the clients' states on this process's devices."""
        if which not in MODELS:
            raise ArgumentError("which", which, f"use one of {', '.join(MODELS)}")
        self._check(state)
        checks.check_like(population, self.population)
        modules = self._assigned(state.params)
        checks.check_holders(population, modules)
        clients = state.clients if which == "personal" else ()
        whole = self._stream is not None or population.loaded or self.layout.mesh.is_multi_process  # tiles come part by part
        hosted = None if whole or not jax.tree.leaves(clients) else self._compiled(state.params).program.seating.hosted
        models = tiles.Models(self._algorithm.model, processes.own(self.layout.mesh), modules, hosted)
        return models, *processes.here((state.server, clients), self.layout.mesh)

    def schedule(self, state: State, rounds: int) -> tuple[list[np.ndarray], list[LocalRows]]:
        """Who will take part in the next rounds and which rows each local step will see; nothing is trained.

        Args:
            state: the state before those rounds.
            rounds: how many.

        Raises:
            ArgumentError: more than one round of a sampler that depends on what training finds.

        Returns:
            ``(cohorts, rows)``: ``cohorts[r]`` are the participants' positions in the population (int32), and
            ``rows[r][i][s]`` are the rows of the population that participant i sees in its local step s.
        """
        checks.check_rounds(rounds)
        self._check(state)
        if self._cohort.adaptive and rounds > 1:
            raise ArgumentError("rounds", rounds, f"ask for one round at a time: {self._cohort.name} draws by what training finds")
        losses = partial(self._compiled(state.params).losses, state, self._resident)
        replay = partial(replay_round, self._sampler, self._algorithm.stages, self._resident, self._longest, losses)
        cohorts, rows = [], []
        for _ in range(rounds):
            clients, seen, state = replay(state)
            cohorts.append(clients)
            rows.append(seen)
        return cohorts, rows

    def finalise(self, state: State) -> State:
        """Runs the algorithm's work after the federation on every client; without any, the state comes back as it is."""
        self._check(state)
        if not self._algorithm.final:
            return state
        compiled = self._compiled(state.params)
        if self._stream is not None:
            return self._stream.finalise(compiled.final, compiled.program.seating, state, self._resident)
        everyone = jnp.arange(self.population.num_clients, dtype=jnp.int32)
        seats = seat(synchronous(everyone), self._resident, compiled.program.seating)
        return compiled.final(state, self._resident, seats)

    def memory(self, params: Tree) -> dict[str, int]:
        """Bytes of one compiled chunk of rounds, from the compiler's own analysis; nothing runs.

        Args:
            params: parameters, as for :meth:`init`.

        Returns:
            ``peak`` (temporaries, state and results on a device, the population's arrays left out), ``temporary`` and ``population``.
        """
        compiled, feed = self._compile(params)
        analysis: Any = compiled.memory_analysis()
        population = trees.byte_size(self._resident) + trees.byte_size(feed) // (1 if feed is None else self.layout.mesh.shape[AXIS])
        peak = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes - population
        return {"peak": peak, "temporary": analysis.temp_size_in_bytes, "population": population}

    def collectives(self, params: Tree) -> dict[str, int]:
        """Bytes that each device contributes to what the devices exchange in one compiled round, by kind; nothing runs.

        Args:
            params: parameters, as for :meth:`init`.

        Returns:
            ``{"all-reduce": bytes}`` and so on, from the compiled program; empty on one device.
        """
        return collectives.count_bytes(self._compile(params)[0].as_text() or "", self.layout.mesh.size)

    def _compile(self, params: Tree) -> tuple[jax.stages.Compiled, Feed | None]:
        """A chunk of rounds, compiled, and rows of the shapes that it is fed."""
        state = self.init(params)
        compiled, given, feed = self._compiled(state.params), state, None
        if self._stream is not None:
            given, feed = self._stream.example(state, compiled.program.seating, self._sampler.capacity)
        return compiled.chunk.lower(given, self._resident, jnp.int32(1), feed).compile(), feed

    @cached_property
    def _resident(self) -> Resident:
        measuring = (measuring_stage(self._algorithm, self._measuring_batch),) if self._cohort.measures else ()
        return place(self.population, (*self._stages, *self._algorithm.final, *measuring), self.layout.mesh, self.layout.budget is None)

    def _assigned(self, params: Tree) -> Modules:
        return self._modules or assign(params)

    @property
    def _donated(self) -> tuple[int, ...]:
        """Which arguments of a chunk it writes over: the state, if the plan says so."""
        return (0,) if self.layout.donate and self._stream is None else ()

    @property
    def _share(self) -> int:
        """A device's share of a cohort."""
        return -(-self._sampler.capacity // self.layout.mesh.shape[AXIS])

    def _open_stream(self) -> Stream | None:
        """Reads rows chunk by chunk; None where they are resident."""
        if self.layout.budget is None:
            return None
        return Stream(self.population, self.layout.mesh, self.layout.budget, self.layout.chunk, self.layout.host_states)

    @property
    def _measuring_batch(self) -> int | None:
        """Rows of a batch where losses are measured: as many as where they are trained on."""
        return self._algorithm.stages[-1].phases[-1].data.batch_size

    @cached_property
    def _stages(self) -> tuple[Stage, ...]:
        *stages, last = self._algorithm.stages
        if self._measured:
            phase = measuring(last, self._algorithm.loss, self._measuring_batch)
            last = last._replace(phases=(*last.phases, phase))
        return (*stages, last)

    def _tiled(self, population: Population, hosted: int | None) -> Iterator[tuple[Tree, tiles.Tiles, int]]:
        """Arrays on this process's devices, their tiles and the first client, part by part."""
        mesh, size = processes.own(self.layout.mesh), tiles.tile_size(population)
        if population is self.population and self.layout.budget is None and mesh is self.layout.mesh:
            yield self._resident.arrays, tiles.cut(population, self.population.ids, TILES_AT_ONCE, mesh, size, hosted=hosted), 0
            return
        clients = range(population.num_clients)
        if self._divides(population):
            clients = processes.share(population.offsets, jax.process_count(), jax.process_index())
        for part, start, rows, count in parts(population, self.layout.budget, size, clients):
            padded = jax.tree.map(lambda leaf, rows=rows: filled(leaf, rows - len(leaf)), part.arrays)
            arrays = jax.device_put(padded, NamedSharding(mesh, PartitionSpec()))
            yield arrays, tiles.cut(part, self.population.ids, TILES_AT_ONCE, mesh, size, count, hosted), start

    def _divides(self, population: Population) -> bool:
        """Whether each process goes through a part of the clients; where there are fewer clients than processes, each goes through all."""
        return self.layout.mesh.is_multi_process and population.num_clients >= jax.process_count()

    def _together(self, population: Population, found: list[Any]) -> Any:
        """What was found part by part, and process by process, as one."""
        own = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
        return processes.together(own) if self._divides(population) else own

    def _check(self, state: State, stacked: bool = False) -> None:
        checks.check_state(state, self._x64, stacked and self._stream is None)
        checks.check_form(_one(state), self._compiled(_one(state).params).form)

    def _side_by_side(self, compiled: "_Compiled", members: int) -> jax.stages.Wrapped:
        """The program that runs several members, whose clients wait in one queue."""
        if members not in compiled.side_by_side:
            chunk = partial(rounds.run_chunk, compiled.program, self._sampler, self.layout.chunk)
            together = jax.vmap(chunk, in_axes=(0, None, None, None), out_axes=(0, 1))
            program = compiled.program
            sharding = rounds.state_sharding(program.mesh, program.seating, program.partition, compiled.form, stacked=True)
            compiled.side_by_side[members] = jax.jit(together, out_shardings=(sharding, self._replicated), donate_argnums=self._donated)
        return compiled.side_by_side[members]

    def _compiled(self, params: Tree) -> "_Compiled":
        """The programs for parameters of this structure; there is one structure in an engine's life, save for rare reuse."""
        form = jax.tree.structure(params), tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(params))
        if form not in self._programs:
            everyone = jnp.arange(self.population.num_clients, dtype=jnp.int32)
            shapes = jax.eval_shape(partial(self._begin, self._resident), params, jax.eval_shape(lambda: jax.random.key(0)), everyone)
            metrics = checks.check_losses(self._algorithm, params, self.population, self._longest)
            split = partition(params, self.layout.mesh, self.layout.partition)
            states, devices = (shapes.clients, shapes.links_clients), self.layout.mesh.shape[AXIS]
            seats = seating(states, self.population.num_clients, devices, self.layout.host_states)
            sharding = rounds.state_sharding(self.layout.mesh, seats, split, shapes)
            if self.layout.lanes is None:
                placed = jax.tree.map(lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), shapes, sharding)
                choice = choose(self._stages[0], placed, self._resident, self.population, self.layout, self._share)
                self.layout = self.layout._replace(lanes=choice.lanes, reason=choice.reason)
            program = rounds.Program(
                algorithm=self._algorithm._replace(stages=self._stages),
                chain=self._chain,
                modules=self._assigned(params),
                metrics=metrics,
                mesh=self.layout.mesh,
                lanes=self.layout.lanes or 1,
                longest=self._longest,
                measured=self._measured,
                measuring_batch=self._measuring_batch,
                report_rejected=self._report_rejected,
                streamed=self.layout.budget is not None,
                partition=split,
                seating=seats,
            )
            chunk = partial(rounds.run_chunk, program, self._sampler, self.layout.chunk)
            bytes_ = traffic(program, shapes, self._resident)
            checks.check_channels(self._chain, {name for stage in bytes_.up for name in stage})
            self._programs[form] = _Compiled(
                program=program,
                form=shapes,
                sharding=sharding,
                traffic=bytes_,
                chunk=jax.jit(chunk, out_shardings=(sharding, self._replicated), donate_argnums=self._donated),
                final=jax.jit(partial(rounds.run_final, program), out_shardings=sharding),
                losses=jax.jit(partial(rounds.losses, program)),
                side_by_side={},
            )
        return self._programs[form]


def _one(state: State) -> State:
    """A state, or the shapes of one of several stacked ones."""
    if not isinstance(state, State) or state.members is None:
        return state
    return jax.eval_shape(lambda state: state.member(0), state)


class _Compiled(NamedTuple):
    """An engine's programs for one structure of parameters; they compile when they are first called."""

    program: rounds.Program
    form: State
    sharding: State
    traffic: Traffic
    chunk: jax.stages.Wrapped
    final: jax.stages.Wrapped
    losses: jax.stages.Wrapped
    side_by_side: dict[int, jax.stages.Wrapped]
