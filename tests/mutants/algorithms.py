"""Algorithms."""

from tests.mutants.mutant import Mutant

SUITE = "tests/algorithms/test_suite.py"
FORMS = "tests/algorithms/test_closed_forms.py"
PERSONAL = "tests/algorithms/test_personal.py"
TAP = "tests/algorithms/test_tap.py"
LOW_RANK = "tests/algorithms/test_low_rank.py"
WIDTHS = "tests/algorithms/test_heterofl.py"
NEAREST = "tests/personalization"
SEEN = "tests/algorithms/test_representations.py"
GRAPHS = "tests/algorithms/test_fedmsplit.py"
HELD = "tests/algorithms/test_held_modules.py"
LEVELS = "tests/algorithms/test_hierarchy.py"

MUTANTS = (
    Mutant(
        "FedMSplit: those not heard of are mixed in",
        "algorithms/fedmsplit.py",
        "jnp.where(weights[None] > 0, scores, -jnp.inf)",
        "scores",
        GRAPHS,
    ),
    Mutant("FedMSplit: lengths count", "algorithms/fedmsplit.py", "units @ units.T", "models @ models.T", GRAPHS),
    Mutant("FedMSplit: all rows travel", "algorithms/fedmsplit.py", "entries=count", "entries=1", GRAPHS),
    Mutant("representations: not centred", "algorithms/representations.py", "rows - jnp.mean(rows, axis=0, keepdims=True)", "rows", SEEN),
    Mutant(
        "representations: rows as long as they are",
        "algorithms/representations.py",
        "rows = _unit(",
        "rows = (lambda values, axis: values)(",
        SEEN,
    ),
    Mutant(
        "representations: what is not finite swallowed", "algorithms/representations.py", "none = square == 0", "none = ~(square > 0)", SEEN
    ),
    Mutant(
        "CKA graph: those who lack a module in its graph",
        "aggregation/cka_graph.py",
        "jnp.where(held[:, None], seen, jnp.zeros_like(seen))",
        "seen",
        SEEN,
    ),
    Mutant(
        "CKA graph: nobody where nothing is seen",
        "aggregation/cka_graph.py",
        "jnp.where(jnp.any(found > 0), found, held.astype(found.dtype))",
        "found",
        SEEN,
    ),
    Mutant(
        "SCAFFOLD: sign of the correction",
        "algorithms/scaffold.py",
        "jnp.subtract, state.control, client.control",
        "jnp.subtract, client.control, state.control",
        FORMS,
        "scaffold",
    ),
    Mutant(
        "SCAFFOLD: cohort for population",
        "algorithms/scaffold.py",
        "scaled(1 / state.population)",
        "scaled(1 / aggregates['control'].weight)",
        SUITE,
        "scaffold and twin",
    ),
    Mutant(
        "SCAFFOLD: K for K_i",
        "algorithms/scaffold.py",
        "jnp.maximum(info.steps[-1] if",
        "jnp.maximum(jnp.int32(4) if",
        SUITE,
        "scaffold and twin",
    ),
    Mutant(
        "SCAFFOLD: the client keeps its old variate",
        "algorithms/scaffold.py",
        "ScaffoldClient(personal, control), weight",
        "ScaffoldClient(personal, own.control), weight",
        FORMS,
        "scaffold",
    ),
    Mutant(
        "FedDyn: sign of the memory", "algorithms/feddyn.py", "lambda h, total: h - total", "lambda h, total: h + total", FORMS, "feddyn"
    ),
    Mutant("FedDyn: g_k not updated", "algorithms/feddyn.py", "g - state.alpha.astype(g.dtype) * delta", "g", FORMS, "feddyn"),
    Mutant("FedNova: the effective length forgotten", "algorithms/fednova.py", "update.scaled(path)", "update", FORMS, "fednova"),
    Mutant("FedProx: pulled away", "algorithms/fedprox.py", "* (y - w)", "* (w - y)", FORMS, "fedprox"),
    Mutant(
        "Mime: statistics move on the client",
        "algorithms/mime.py",
        "training=own.training._replace(params=moved.params)",
        "training=moved",
        SUITE,
        "mime and twin",
    ),
    Mutant(
        "Mime: stale statistics",
        "algorithms/mime.py",
        "state._replace(statistics=statistics), observed",
        "state, observed",
        SUITE,
        "mime and twin",
    ),
    Mutant("FedYogi: sign", "algorithms/fedopt.py", "jnp.sign(v - square)", "jnp.sign(square - v)", SUITE, "fedyogi and twin"),
    Mutant(
        "FedAdam: second moment from zero",
        "algorithms/fedopt.py",
        "jnp.full_like(leaf, tau**2)",
        "jnp.zeros_like(leaf)",
        SUITE,
        "fedadam and twin",
    ),
    Mutant(
        "moments of idle modules decay",
        "algorithms/server.py",
        "jnp.where(trained.weight[owner] > 0, new, old)",
        "new",
        "tests/algorithms/test_server.py",
    ),
    Mutant(
        "FedBuff: history never moves",
        "algorithms/fedbuff.py",
        "jnp.concatenate([new[None], old[:-1]])",
        "old",
        "tests/engine/test_asynchronous.py",
        "twin",
    ),
    Mutant(
        "IFCA: the worst cluster",
        "algorithms/ifca.py",
        "jnp.argmin(jnp.where(jnp.isnan",
        "jnp.argmax(jnp.where(jnp.isnan",
        SUITE,
        "ifca and twin",
    ),
    Mutant("q-FFL: weight used twice", "algorithms/qffl.py", "share * power)", "share * power * power)", SUITE, "qffl and twin"),
    Mutant(
        "AFL: the simplex sums to two",
        "algorithms/afl.py",
        "falling), falling, 0)) - 1",
        "falling), falling, 0)) - 2",
        SUITE,
        "afl and twin",
    ),
    Mutant("TERM: exponents from the wrong risk", "algorithms/term.py", "found = state.risk + jnp.log", "found = jnp.log", FORMS, "tilted"),
    Mutant("Ditto: pushed away", "algorithms/ditto.py", "* (v - w), slope", "* (w - v), slope", PERSONAL, "ditto"),
    Mutant(
        "FedRep: the body trains with the old head",
        "algorithms/fedrep.py",
        "Phase(head, lambda state, own, info: own, step_head)",
        "Phase(head, lambda state, own, info: own, lambda state, own, batch, key: (own, None))",
        PERSONAL,
        "fedrep",
    ),
    Mutant(
        "pFedMe: the copy takes the whole way",
        "algorithms/pfedme.py",
        "stride = state.rate * state.pull",
        "stride = state.rate",
        PERSONAL,
        "pfedme or twin",
    ),
    Mutant(
        "APFL: the mixture away from what is better",
        "algorithms/apfl.py",
        "now.mixing - state.mixing_rate",
        "now.mixing + state.mixing_rate",
        PERSONAL,
        "mixing or mixtures",
    ),
    Mutant("APFL: one's own model takes whole steps", "algorithms/apfl.py", "now.own, scaled)", "now.own, slope)", PERSONAL, "mixtures"),
    Mutant("TAP: the margin on the other side", "algorithms/tap.py", "+ state.margin <", "- state.margin <", TAP, "twin"),
    Mutant(
        "TAP: the teacher learns from the pupil",
        "algorithms/tap.py",
        "for logits in (teacher, student)]",
        "for logits in (student, teacher)]",
        TAP,
        "formula",
    ),
    Mutant("TAP: the temperature forgotten", "algorithms/tap.py", "distillation.temperature**2 * total", "total", TAP, "formula"),
    Mutant(
        "TAP: modules of several tasks all the same",
        "algorithms/tap.py",
        "return uses if replace_shared else",
        "return uses if True else",
        TAP,
        "several",
    ),
    Mutant(
        "FedEx-LoRA: the covariance lost", "algorithms/low_rank.py", "scale * (product - now.a @ now.b)", "0 * product", LOW_RANK, "fedex"
    ),
    Mutant(
        "FLoRA: added twice",
        "algorithms/low_rank.py",
        "return Factored(fresh, jnp.zeros_like(now.b)",
        "return Factored(fresh, now.b",
        LOW_RANK,
        "flora",
    ),
    Mutant(
        "FlexLoRA: squared singular values",
        "algorithms/low_rank.py",
        "root = jnp.sqrt(size[..., :rank])",
        "root = size[..., :rank]",
        LOW_RANK,
        "flexlora",
    ),
    Mutant(
        "low rank: everybody has all of it",
        "algorithms/low_rank.py",
        "cut_ranks(state.params.shared, info.attributes[ranks])",
        "state.params.shared",
        LOW_RANK,
        "rank",
    ),
    Mutant(
        "hierarchy: weights of earlier meetings stay",
        "algorithms/hierarchy.py",
        "weight=jnp.where(met, 0, weight)",
        "weight=weight",
        LEVELS,
        "since",
    ),
    Mutant(
        "hierarchy: one round late",
        "algorithms/hierarchy.py",
        "state.rounds + 1 >= every",
        "state.rounds >= every",
        SUITE,
        "hierarchy and twin",
    ),
    Mutant(
        "HeteroFL: those who lack a number count",
        "algorithms/heterofl.py",
        'there = cut(jax.tree.map(jnp.ones_like, channels["update"].value), own.width)',
        'there = jax.tree.map(jnp.ones_like, channels["update"].value)',
        WIDTHS,
        "mean",
    ),
    Mutant("kNN-Per: weights of far rows", "personalization/nearest.py", "np.exp(-(distances", "np.exp((distances", NEAREST, "weighed"),
    Mutant(
        "kNN-Per: rows of the next client",
        "personalization/nearest.py",
        "population.offsets[client : client + 2]",
        "population.offsets[client - 1 : client + 1]",
        NEAREST,
        "weighed",
    ),
    Mutant(
        "holding: a client's own copy of what it lacks acts",
        "engine/lanes.py",
        "            state = work.modules.keep_held(state, info.held)",
        "            pass",
        HELD,
        "nobody and ditto",
    ),
    Mutant(
        "holding: nothing divided by nobody",
        "core/algorithm.py",
        "return jnp.where(self.weight[owner] > 0, leaf * factor[owner].astype(leaf.dtype), jnp.zeros_like(leaf))",
        "return leaf * factor[owner].astype(leaf.dtype)",
        HELD,
        "nobody and scaffold",
    ),
)
