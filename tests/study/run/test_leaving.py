"""Signals: a run saves and leaves with a code."""

import io
import json
import os
import signal

import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import Checkpoints, Saving, Stopped
from fedjax_edu.study.stopping import stoppable
from tests.study.run.small import ROUNDS, assert_same_bits, make


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_saves_and_leaves_with_a_code(straight, engine, tmp_path, name, code):
    folder, expected, _ = straight
    signum, text = getattr(signal, name), io.StringIO()
    before = signal.getsignal(signum)

    def score(state):
        if int(state.round) == 3 and not raised:
            raised.append(True)
            signal.raise_signal(signum)
        return {"w": float(state.params["network"]["w"][0, 0])}

    raised = []
    with pytest.raises(Stopped) as stopped:
        make(tmp_path, engine, score=score, console=Console(file=text, width=200)).train(ROUNDS)
    assert stopped.value.code == code
    assert signal.getsignal(signum) is before
    assert f"{name} after round 3, which is saved" in text.getvalue()
    assert text.getvalue() == (tmp_path / "log.txt").read_text()
    state, _ = make(tmp_path, engine, score=score).train(ROUNDS)
    assert json.loads((tmp_path / "starts.jsonl").read_text().splitlines()[-1])["round"] == 3
    assert_same_bits(state, expected)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


def test_a_second_ctrl_c_interrupts_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in its background with the signal ignored
    try:
        with stoppable(Console(quiet=True)) as requests:
            signal.raise_signal(signal.SIGINT)
            assert requests.signal == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_outlives_its_terminal(engine, tmp_path):
    class Gone:
        def print(self, *objects, **style):
            raise SystemExit(1)  # what Rich does when its pipe is broken

    state, _ = make(tmp_path, engine, console=Gone()).train(3)
    assert int(state.round) == 3
    assert "round    3 of 3" in (tmp_path / "log.txt").read_text()


def test_a_signal_while_the_last_save_is_written_ends_the_run(engine, tmp_path, monkeypatch):
    wait, waits = Checkpoints.wait, []

    def late(self):
        waits.append(wait(self))
        if len(waits) == 1:  # at the end
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Checkpoints, "wait", late)
    with pytest.raises(fe.study.Stopped):
        make(tmp_path, engine, saving=Saving(rounds=3)).train(3)
