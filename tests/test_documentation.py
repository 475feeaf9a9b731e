"""What the documentation says is true: its examples run, its commands and links lead somewhere."""

import ast
import doctest
import importlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "BUILD.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").rglob("*.md"))
SOURCES = {"fedjax_edu": ROOT / "fedjax_edu", "fedjax_edu.kernels": ROOT / "kernels", "experiments": ROOT / "experiments"}


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of every fenced block of a language."""
    for match in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        yield page.read_text()[: match.start(1)].count("\n") + 1, match[1]


def documented_modules() -> Iterator[tuple[str, Path]]:
    """(module, path) of every file that shows an example in a docstring."""
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            if ">>>" in path.read_text():
                leaf = path.relative_to(folder).with_suffix("").parts
                yield ".".join([package, *(leaf[:-1] if leaf[-1] == "__init__" else leaf)]), path


def docstrings(path: Path) -> Iterator[tuple[str, int, str]]:
    """(name, line, text) of every docstring, read from the source: a jitted or cached function hides its own from ``inspect``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and ">>>" in text:
                yield getattr(node, "name", path.stem), node.body[0].lineno - 1, text


def failures(module: str, path: Path) -> list[str]:
    """Runs the examples of a file, each docstring in a copy of its module's names; returns what went wrong."""
    found: list[str] = []
    names = vars(importlib.import_module(module))
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for name, line, text in docstrings(path):
        runner.run(doctest.DocTestParser().get_doctest(text, dict(names), name, str(path), line), out=found.append)
    assert runner.tries > 0, f"{path}: an example outside any docstring"
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if list(blocks(page, "python"))], ids=lambda page: page.name)
def test_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for line, text in blocks(page, "python"):
        exec(compile("\n" * (line - 1) + text, page, "exec"), names)


@pytest.mark.parametrize(("module", "path"), [pytest.param(*found, id=found[0]) for found in documented_modules()])
def test_examples_of_docstrings(module: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if wrong := failures(module, path):
        pytest.fail("".join(wrong), pytrace=False)


def test_a_wrong_example_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = '@jax.jit\ndef one(x):\n    """Adds one.\n\n    >>> int(one(1))\n    3\n    """\n    return x + 1\n'
    source = f"import jax\n\n\n{function}"
    (tmp_path / "planted_example.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    (report, *_) = failures("planted_example", tmp_path / "planted_example.py")
    assert "line 8" in report
    assert "Expected:\n    3\nGot:\n    2" in report


def wrong_commands(script: str) -> list[str]:
    """Commands of a shell block that name a make target, a Python module or a file of ours that does not exist."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    wrong = []
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "make" in words:
            asked = [word for word in words[words.index("make") + 1 :] if "=" not in word and not word.startswith("-")]
            wrong += [f"make {word}" for word in asked if word not in targets]
        if "-m" in words and (module := words[words.index("-m") + 1]).split(".")[0] in ("experiments", "fedjax_edu", "tests"):
            path = ROOT / module.replace(".", "/")
            wrong += [] if path.with_suffix(".py").is_file() or (path / "__main__.py").is_file() else [f"-m {module}"]
        paths = [word.split("=")[-1] for word in words]
        ours = [path for path in paths if re.match(r"(constraints|docs|experiments|fedjax_edu|kernels|tests)/[\w./]+$", path)]
        wrong += [path for path in ours if not (ROOT / path).exists()]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_exist(page: Path) -> None:
    assert [wrong for _, script in blocks(page, "bash") for wrong in wrong_commands(script)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def planned(*arguments: str) -> str:
    """What make would do, as if no other make had called this one."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CONFIG", "ARGS")}
    command = ["make", "--dry-run", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def test_commands_of_the_makefile_exist() -> None:
    commands = re.findall(r"python -m experiments\..*", planned("train", "study"))
    assert len(commands) == 2
    assert wrong_commands("\n".join(commands)) == []


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ((), "experiments/configs/m3t.py"),
        (("ARGS=--config.rounds=3",), "experiments/configs/m3t.py"),
        (("ARGS=--csv=own.csv --client=school",), "experiments/configs/table.py"),
        (("CONFIG=own.py",), "own.py"),
    ],
)
def test_make_trains_on_the_configuration_that_fits(arguments: tuple[str, ...], config: str) -> None:
    """A table has no studies, which the default configuration names."""
    assert f"--config={config}" in planned("train", *arguments).split()


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("make fly", 1),
        ("PYTHON=python3.12 make test ARGS='-k fly'", 0),
        ("python -m experiments.fly --config=experiments/configs/fly.py", 2),
        ("python -m \\\n    fedjax_edu.fly  # a comment with make fly", 1),
        ("pip install -c constraints/python3.11.txt .", 0),
    ],
)
def test_a_wrong_command_is_found(script: str, count: int) -> None:
    assert len(wrong_commands(script)) == count
