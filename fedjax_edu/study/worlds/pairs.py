"""One model for more and more pairs of a modality and a task."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from fedjax_edu.data import Population
from fedjax_edu.data.worlds.world import TASKS, score
from fedjax_edu.study.tables import Cell, Table, counted
from fedjax_edu.study.worlds.setting import Setting, SettingConfig, shown

Pair = tuple[str, str]  # modality, task
PAIRS: tuple[Pair, ...] = (
    ("sequence", "passed"),
    ("text", "stays"),
    ("tabular", "score"),
    ("image", "grade"),
    ("audio", "stays"),
    ("sequence", "score"),
    ("tabular", "grade"),
    ("image", "passed"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairsConfig(SettingConfig):
    """How many pairs.

    Attributes:
        counts: of pairs in a federation: the first so many of :data:`PAIRS`, each of which an eighth of the world's institutions have.
    """

    counts: list[int]

    @property
    def of_a_pair(self) -> int:
        """Institutions that have a pair."""
        return self.institutions // len(PAIRS)


def make_table(config: PairsConfig, seeds: range, say: Callable[[str], None]) -> Table:
    """What the server's model scores on pairs, against federations of one pair, by the number of pairs.

    Args:
        config: the world and the training.
        seeds: of splits, models and cohorts.
        say: is told how far it is.
    """
    population = paired(shown(config.draw(lacking=(0,), missing=0.0, labelled=1.0), config.modalities), config.of_a_pair)
    own = {pair: [_scores(config, population, [pair], seed, 1)[pair] for seed in seeds] for pair in PAIRS[: max(config.counts)]}
    say("alone: " + ", ".join(f"{modality} for {task} {np.mean(found):.3f}" for (modality, task), found in own.items()))
    rows: list[list[Cell]] = []
    for count in config.counts:
        pairs, cells = PAIRS[:count], list[float]()
        for growth in (1, count):
            found = [_scores(config, population, pairs, seed, growth) for seed in seeds]
            shares = [np.mean([one[pair] / own[pair][number] for pair in pairs]) for number, one in enumerate(found)]
            cells += [float(np.mean(shares)), float(np.min(shares)), float(np.max(shares))]
        say(f"{count} pairs: {cells[0]:.3f}, {cells[3]:.3f}")
        rows.append([str(count), *cells])
    note = (
        f"A synthetic world; {config.of_a_pair} institutions have each pair of a modality and a task, and nothing else. R², or "
        f"2 AUC - 1, of the server's model on other students, divided by that of a federation of the one pair; mean over pairs, and over "
        f"{counted(len(seeds), 'seed')} (least, most). Either {config.cohort} institutions a round whatever the number of pairs, so that "
        "each pair takes part less often, or as many more as there are pairs."
    )
    columns = ("pairs", "same cohort", "least", "most", "cohort grows", "least", "most")
    return Table("", columns, rows, note)


def paired(population: Population, each: int) -> Population:
    """Institutions with one modality and one task: the first `each` the first of :data:`PAIRS`, and so on.

    Args:
        population: of institutions that have everything.
        each: how many have each pair.
    """
    pair = np.minimum(np.arange(population.num_clients) // each, len(PAIRS) - 1)
    modality, task = (np.array([PAIRS[number][side] for number in pair]) for side in (0, 1))
    arrays, rows = population.arrays, population.row_clients
    contents = {name: one._replace(present=(one.present.T & (modality[rows] == name)).T) for name, one in arrays["contents"].items()}
    wanted = {name: one._replace(present=one.present & (task[rows] == name)) for name, one in arrays["wanted"].items()}
    held = {f"encoders.{name}": modality == name for name in contents} | {f"heads.{name}": task == name for name in wanted}
    return Population.from_arrays({**arrays, "contents": contents, "wanted": wanted}, population.offsets, ids=population.ids).holding(held)


def _scores(config: PairsConfig, population: Population, pairs: Sequence[Pair], seed: int, growth: int) -> dict[Pair, float]:
    """The scores of the server's model on each pair, trained on those alone."""
    each = config.of_a_pair
    clients = np.concatenate([np.arange(each) + each * PAIRS.index(pair) for pair in pairs])
    setting = Setting(population.select(clients), config, seed)
    engine = setting.engine(setting.fedadam(setting.loss), min(config.cohort * growth, len(clients)))
    state, _ = engine.run(engine.init(setting.params, seed), config.rounds)
    predicted = engine.predict(state, setting.test, setting.means)
    owners = setting.test.row_clients // each
    return {pair: _score(setting.test, pair[1], predicted, owners == number) for number, pair in enumerate(pairs)}


def _score(test: Population, task: str, predicted: np.ndarray, rows: np.ndarray) -> float:
    kind, wanted = TASKS[task].kind, test.arrays["wanted"][task].values
    found = score(kind, wanted[rows], predicted[rows, list(TASKS).index(task)])
    return 2 * found - 1 if kind == "binary" else found
