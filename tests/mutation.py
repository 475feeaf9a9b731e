"""Plants one bug at a time in a copy of the package and shows which test turns red: ``python -m tests.mutation``.

Run by hand, not by pytest: a mutant takes half a minute. A mutant that no test catches is an error, and so is one whose line
is no longer there. Names given on the command line choose mutants.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants import MUTANTS
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[1]


def planted(mutant: Mutant, place: Path) -> Path:
    """A copy of the repository with the bug; its package finds its kernels as an installed one does."""
    copy = place / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "runs", "__pycache__", "*.egg-info"))
    if not (copy / "fedjax_edu/kernels").exists():
        (copy / "fedjax_edu/kernels").symlink_to(copy / "kernels")
    file = copy / "fedjax_edu" / mutant.file
    text = file.read_text()
    if text.count(mutant.right) != 1:
        sys.exit(f"{mutant.bug}: {mutant.right!r} occurs {text.count(mutant.right)} times in {mutant.file}; adapt the mutant")
    file.write_text(text.replace(mutant.right, mutant.wrong))
    return copy


def caught_by(mutant: Mutant) -> str | None:
    """The first test that fails on the mutant, or None."""
    with tempfile.TemporaryDirectory() as place:
        copy = planted(mutant, Path(place))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *mutant.tests.split()]
        command += ["-k", mutant.chosen] if mutant.chosen else []
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    red = [line.removeprefix("FAILED ").split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode != 1 or not red:
        sys.exit(f"{mutant.bug}: no test ran or failed\n{done.stdout[-2000:]}")
    return red[0]


def main(names: list[str]) -> None:
    """Runs the mutants whose description contains one of the names, or all."""
    survivors = 0
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.bug for name in names)]
    if not chosen:
        sys.exit(f"no mutant is called {' or '.join(names)}; there are\n" + "\n".join(mutant.bug for mutant in MUTANTS))
    for mutant in chosen:
        red = caught_by(mutant)
        survivors += red is None
        print(f"{mutant.bug}: {red or 'SURVIVED'}", flush=True)
    sys.exit(f"{survivors} mutants survived" if survivors else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
