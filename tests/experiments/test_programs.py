"""The programs from the command line: mistakes end them with one line, and the configuration is valid."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.configs.schools import get_config
from fedjax_edu.study.config import SchoolsConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "--config=experiments/configs/schools.py"


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"experiments.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((CONFIG, "--config.round=3"), "ConfigError: config.round: got '3'; "),
        ((CONFIG, "--config.model.widht=3"), "ConfigError: config.model.widht: got '3'; "),
        ((CONFIG, "--config.tasks.nobody.weight=3"), "ConfigError: config.tasks.nobody.weight: got '3'; "),
        ((CONFIG, "--config.rounds=many"), "ConfigError: flags: got --config=experiments/configs/schools.py --config.rounds=many; "),
        ((CONFIG, "--wrokdir=here"), "ConfigError: flags: got --config=experiments/configs/schools.py --wrokdir=here; "),
        (("--config=experiments/configs/absent.py",), "ConfigError: config: got experiments/configs/absent.py; "),
        ((CONFIG, "--workdir=/dev/null/run"), "ArgumentError: workdir: got /dev/null/run; "),
    ],
)
@pytest.mark.parametrize("module", ["train", "folds"])
def test_a_mistake_ends_the_program_with_one_line(module, arguments, message):
    done = run(module, *arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("--config.rounds=5", "ArgumentError: table: got absent.csv; name a file"),
        ("--config.round=5", "ConfigError: config.round: got '5'; "),
    ],
)
def test_fields_can_be_set_beside_a_table(field, message):
    done = run("train", "--csv=absent.csv", "--client=school", "--task=passed:binary", field)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(message)


def test_an_unknown_field_of_a_configuration_file_is_named(tmp_path):
    (tmp_path / "own.py").write_text((ROOT / "experiments/configs/schools.py").read_text().replace('"rounds"', '"round"'))
    done = run("train", f"--config={tmp_path / 'own.py'}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"ConfigError: config.round: got {get_config().rounds}; ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def get_config(:\n", "mend line 1: SyntaxError: "),
        ("import absent\n", "mend line 1: ModuleNotFoundError: No module named 'absent'"),
        ("def get_config():\n    return 1 / 0\n", "mend line 2: ZeroDivisionError: "),
        ("def get_config():\n    raise ValueError('no such kind')\n", "ValueError: no such kind"),
        ("rounds = 3\n", "mend its get_config(): AttributeError: "),
        ("def get_config():\n    return 3\n", "let get_config() of the configuration file return a ConfigDict"),
    ],
)
def test_a_configuration_file_that_cannot_be_run_says_where(content, message, tmp_path):
    (tmp_path / "own.py").write_text(content)
    done = run("train", f"--config={tmp_path / 'own.py'}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ConfigError: ") and message in line


def test_the_committed_configuration_keeps_the_protocol():
    config = SchoolsConfig.from_mapping(get_config().to_dict())
    assert (config.fold, config.validation) == (1, False)
    assert config.cohort <= 0.25 * 240 * 0.8 + 1  # of the schools that train
    assert config.federated.local_epochs >= 1
