"""What a run refuses, in words and without a change: other runs, damaged files, folders of others."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import Run, Saving
from fedjax_edu.study.run import CHECKPOINTS
from tests.study.run.small import PARAMS, ROUNDS, bits, build, contents, make, population


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: make(folder, config={"rate": 0.1}), r"config\.rate was missing and is 0\.1"),
        (lambda folder: make(folder, build(clients=population(2.0))), r"data\.digest was \w+ and is \w+"),
        (lambda folder: Run(build(), PARAMS, folder, seed=6), r"seed was 5 and is 6"),
    ],
    ids=["configuration", "data", "seed"],
)
def test_another_run_is_refused_and_nothing_is_changed(halfway, change, message):
    before = contents(halfway)
    with pytest.raises(fe.errors.CheckpointError, match=rf"^workdir: got .*run\.json is of another run; .*{message}"):
        change(halfway).train(ROUNDS)
    assert contents(halfway) == before


def test_another_algorithm_is_told_by_its_state(halfway):
    before = contents(halfway)
    with pytest.raises(fe.errors.CheckpointError, match=r"checkpoint: got .*/4; use the model, algorithm and population.* and is missing"):
        make(halfway, build(algorithm=fe.algorithms.fedavg)).train(ROUNDS)
    after = contents(halfway)
    assert {path: after[path] for path in before if path.name != "log.txt"} == {p: before[p] for p in before if p.name != "log.txt"}


def test_a_foreign_checkpoint_is_refused(halfway, engine, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Run(engine, PARAMS, other, seed=8, saving=Saving(rounds=2), console=Console(quiet=True)).train(6)
    shutil.copytree(other / CHECKPOINTS / "6", halfway / CHECKPOINTS / "6")
    with pytest.raises(fe.errors.CheckpointError, match=r"checkpoints/6 is of another run; .*seed was 8 and is 5"):
        make(halfway, engine).train(ROUNDS)


def test_a_newer_checkpoint_is_refused(halfway, engine):
    path = halfway / CHECKPOINTS / "4" / "facts" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(fe.errors.CheckpointError, match=r"/4; use a newer fedjax_edu: it has format 99"):
        make(halfway, engine).train(ROUNDS)


def test_truncated_files_are_refused_by_name(halfway, engine):
    """Whatever file of a checkpoint is cut, nothing wrong is ever read."""
    expected = bits(make(halfway, engine).restore(4))
    originals = {path: path.read_bytes() for path in (halfway / CHECKPOINTS / "4").rglob("*") if path.is_file() and path.stat().st_size}
    assert len(originals) > 5
    refused = []
    for path, content in originals.items():
        path.write_bytes(content[: len(content) // 2])
        try:
            found = bits(make(halfway, engine).restore(4))
        except fe.errors.CheckpointError as error:
            refused.append(str(error))
        else:
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        path.write_bytes(content)
    assert len(refused) >= 3
    for message in refused:
        assert f"{CHECKPOINTS}/4" in message
        assert "remove that folder to go on from round 2" in message


def test_records_that_lack_rounds_are_refused(halfway, engine):
    path = halfway / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(fe.errors.CheckpointError, match=r"^metrics\.jsonl: got 2 rounds; put back its lines up to round 4"):
        make(halfway, engine).train(ROUNDS)


def test_a_second_process_is_refused(halfway, engine):
    run = make(halfway, engine)
    with run.folder.locked(), pytest.raises(fe.errors.ArgumentError, match=r"^workdir: got .*; name another folder: a process is running"):
        make(halfway, engine).train(ROUNDS)
    make(halfway, engine).train(ROUNDS)


def test_results_of_an_unknown_run_are_refused(engine, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(fe.errors.CheckpointError, match=r"its metrics\.jsonl is of an unknown run"):
        make(tmp_path, engine).train(1)
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_a_refused_start_changes_nothing(halfway, engine):
    for name in ("run.json", "metrics.jsonl"):
        (halfway / name).unlink()
    before = contents(halfway)
    with pytest.raises(fe.errors.CheckpointError, match="of another run"):
        Run(engine, PARAMS, halfway, seed=9, console=Console(quiet=True)).train(ROUNDS)
    assert contents(halfway) == before


@pytest.mark.parametrize("line", ["\0\0\0\n", "[]\n", '{"round": 7}\n', "\udc80\n"])
def test_a_line_that_is_not_the_record_of_its_round_is_refused(halfway, engine, line):
    path = halfway / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_bytes("".join([lines[0], line, *lines[2:]]).encode(errors="surrogateescape"))
    with pytest.raises(fe.errors.CheckpointError, match=r"^metrics\.jsonl: got line 2: .*; put back its lines up to round 4"):
        make(halfway, engine).train(ROUNDS)


def test_a_record_that_was_changed_is_refused(halfway, engine):
    """A round that no checkpoint has yet may say what it likes: it is run again."""
    path, run = halfway / "metrics.jsonl", make(halfway, engine)
    before = path.read_text()
    lines = before.splitlines(keepends=True)
    record = json.loads(lines[1])
    path.write_text("".join([lines[0], json.dumps(record | {"loss": record["loss"] + 1}) + "\n", *lines[2:]]))
    with pytest.raises(fe.errors.CheckpointError, match=r"^metrics\.jsonl: got other records than those of the first 4 rounds; put back"):
        run.train(ROUNDS)
    path.write_text("".join(lines[:4]) + '{"round": 5, "loss": 0.0}\n')
    assert len(run.train(ROUNDS)[1].rounds) == ROUNDS


def test_records_that_change_while_the_run_goes_on_are_noticed(engine, tmp_path):
    def score(state):
        if int(state.round) == 3:
            (tmp_path / "metrics.jsonl").unlink()
        return {}

    with pytest.raises(fe.errors.CheckpointError, match=r"^metrics\.jsonl: got other records than this run wrote; start the run again"):
        make(tmp_path, engine, score=score).train(ROUNDS)


def test_a_path_that_checkpoints_cannot_be_read_from_is_refused(engine, tmp_path):
    """Orbax takes what stands in brackets for a pattern."""
    with pytest.raises(fe.errors.ArgumentError, match=r"^workdir: got .*run\[seed=1\].*; name a folder without square brackets"):
        make(tmp_path / "run[seed=1]", engine)
    with pytest.raises(fe.errors.ArgumentError, match=r"name a folder without square brackets"):
        fe.study.Checkpoints(tmp_path / "run[seed=1]")


def test_checkpoints_that_are_no_folder_are_refused_before_anything(halfway, engine):
    shutil.rmtree(halfway / CHECKPOINTS)
    (halfway / CHECKPOINTS).write_text("")
    before = contents(halfway)
    with pytest.raises(fe.errors.CheckpointError, match=r"^checkpoint: got .*; remove it: this is no folder"):
        make(halfway, engine).train(ROUNDS)
    assert contents(halfway) == before


def test_a_folder_that_was_removed_before_training_is_made_again(engine, tmp_path):
    run = make(tmp_path / "run", engine)
    shutil.rmtree(tmp_path / "run")
    assert len(run.train(1)[1].rounds) == 1


def test_a_lock_that_is_no_file_is_refused(engine, tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(fe.errors.ArgumentError, match=r"^workdir: got .*; name a folder you may write to"):
        make(tmp_path, engine).train(1)


def test_strangers_among_the_checkpoints_do_no_harm(halfway, engine):
    for name in ("mine", "8.orbax-checkpoint-tmp"):
        (halfway / CHECKPOINTS / name / "metrics").mkdir(parents=True)
        (halfway / CHECKPOINTS / name / "metrics" / "metrics").write_text("")
    assert len(make(halfway, engine).train(ROUNDS)[1].rounds) == ROUNDS


@pytest.mark.parametrize(
    ("name", "value", "message"), [("run", None, "of another run"), ("plan", 3, "no plan"), ("keys", [], "name one that")]
)
def test_a_checkpoint_without_its_facts_is_refused(halfway, engine, name, value, message):
    path = halfway / CHECKPOINTS / "4" / "facts" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(fe.errors.CheckpointError, match=message):
        make(halfway, engine).train(ROUNDS)


def test_a_run_that_begins_anew_says_so(halfway, engine):
    shutil.rmtree(halfway / CHECKPOINTS)
    assert len(make(halfway, engine).train(ROUNDS)[1].rounds) == ROUNDS
    assert "begins anew, though there are records of 4 rounds" in (halfway / "log.txt").read_text()


def test_records_that_are_no_file_are_refused(halfway, engine):
    (halfway / "metrics.jsonl").unlink()
    (halfway / "metrics.jsonl").mkdir()
    with pytest.raises(fe.errors.CheckpointError, match=r"^metrics\.jsonl: got .*Is a directory.*; put the file back"):
        make(halfway, engine).train(ROUNDS)


@pytest.mark.parametrize("content", ["{}", "[]", '{"loss": "0.5"}', "", "3", "[" * 100_000])
def test_a_checkpoint_without_its_loss_is_refused(halfway, engine, content):
    (halfway / CHECKPOINTS / "4" / "metrics" / "metrics").write_text(content)
    with pytest.raises(fe.errors.CheckpointError, match=r"checkpoints/4; remove that folder to go on from round 2: it cannot be read"):
        make(halfway, engine).train(ROUNDS)


@pytest.mark.parametrize("content", ["[]", '"x"', "3"])
def test_an_identity_that_is_none_is_refused(halfway, engine, content):
    (halfway / "run.json").write_text(content)
    with pytest.raises(fe.errors.CheckpointError, match=r"where run\.json is of another run"):
        make(halfway, engine).train(ROUNDS)


def test_a_folder_that_cannot_be_written(engine):
    with pytest.raises(fe.errors.ArgumentError, match=r"^workdir: got /dev/null/run; "):
        make(Path("/dev/null/run"), engine)


def test_a_run_whose_folder_was_removed_leaves_the_next_one_alone(engine, tmp_path):
    """Somebody removes the folder of a run that is going on, and starts another one there."""
    folder = tmp_path / "run"

    def score(state):
        if int(state.round) == 3 and not (tmp_path / "begun").exists():
            (tmp_path / "begun").touch()
            shutil.rmtree(folder)
            make(folder, build()).train(3)
        return {}

    with pytest.raises(fe.errors.CheckpointError, match="start the run again: the folder was removed while it was going on"):
        make(folder, engine, score=score, saving=Saving(rounds=100)).train(ROUNDS)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_second_thread_is_refused(engine, tmp_path):
    run, refused = make(tmp_path, engine), []

    def again():
        with pytest.raises(fe.errors.ArgumentError, match="a process is running in this one"):
            run.train(1)
        refused.append(True)

    with run.folder.locked():
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
    assert refused == [True]


def test_a_configuration_that_json_cannot_hold_is_refused_before_anything(engine, tmp_path):
    with pytest.raises(fe.errors.ConfigError, match=r"^config\.model\.act: got .*sqrt.*; use numbers, words, lists"):
        make(tmp_path, engine, config={"model": {"act": np.sqrt}})
    assert not list(tmp_path.iterdir())


def test_parameters_that_are_no_arrays_are_refused_before_anything(engine, tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match=r"^params\.offset: got 0\.0; use arrays as leaves"):
        Run(engine, PARAMS | {"offset": 0.0}, tmp_path, console=Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_a_refused_start_is_not_in_the_log_of_the_run(halfway, engine):
    log = (halfway / "log.txt").read_bytes()
    with pytest.raises(fe.errors.CheckpointError):
        make(halfway, engine, config={"rate": 2}).train(ROUNDS)
    assert (halfway / "log.txt").read_bytes() == log


def test_a_removed_folder_is_not_written_to_at_all(engine, tmp_path):
    """Neither results nor the log: both may be another run's by now."""
    run = make(tmp_path / "run", engine)
    with run.folder.locked():
        run.train(2)
        shutil.rmtree(run.folder.path)
        run.folder.path.mkdir()
        for write in (lambda: run.folder.write_text("final.json", "{}"), lambda: run.folder.append_text("log.txt", "round 3")):
            with pytest.raises(fe.errors.CheckpointError, match="the folder was removed while it was going on"):
                write()
        assert not list(run.folder.path.iterdir())
