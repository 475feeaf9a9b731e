"""Several processes as one program: flags that say which this one is, and an end of all when one of them has ended."""

import contextlib
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import jax
from absl import flags
from jax.experimental import multihost_utils

import fedjax_edu as fe

_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where all processes meet.")
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes run this program together.", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0)
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Meet as the cluster says: JAX asks SLURM, Open MPI, Kubernetes or the TPU pod.")

HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process counts as ended
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_HEAR = 5.0  # that process 0, which answers for all, stays so that the others hear who has ended


class ProcessError(fe.errors.FedjaxEduError):
    """Another process of the program has ended."""


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Meets the other processes, if flags name any, and parts from them at the end.

    Whatever ends one of them early ends all of them: a collective that one process never joins would let the others wait.

    Raises:
        ConfigError: flags that do not say where to meet.
    """
    if not _DISTRIBUTED.value and (_COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value) == (None, None, None):
        yield
        return
    _meet()
    watch = _Watch()
    watch.start()
    stopped = None
    try:
        try:
            yield
        except fe.study.Stopped as error:  # all processes, at the same point
            stopped = error
        watch.stop()
        multihost_utils.sync_global_devices("the end")
    except BaseException as error:  # Ctrl-C and sys.exit too
        if isinstance(error, jax.errors.JaxRuntimeError):
            # If it is for a process that has ended, the watch says which one, and does not return.
            watch.join(2 * HEARTBEAT_SECONDS + 2 * SECONDS_TO_HEAR)
        _end(error)
    watch.part()
    if stopped is not None:
        raise stopped


def _meet() -> None:
    if _COORDINATOR.value is not None and not re.fullmatch(r".+:\d+", _COORDINATOR.value):
        raise fe.errors.ConfigError("coordinator", _COORDINATOR.value, "use HOST:PORT, a port of process 0's host that is free")
    jax.config.update("jax_enable_recoverability", True)  # JAX would abort, with a stack trace, before the watch could say a word
    try:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except ValueError as error:
        given = f"coordinator={_COORDINATOR.value}, processes={_PROCESSES.value}, process_id={_PROCESS_ID.value}"
        remedy = f"set all three, or --distributed alone on a cluster that JAX knows ({error})"
        raise fe.errors.ConfigError("processes", given, remedy) from error


class _Watch(threading.Thread):
    """Looks once a second which processes live, and ends this one when another has ended."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._done = threading.Event()
        self._everyone = jax.devices()

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._done.wait(SECONDS_BETWEEN_LOOKS):
            if (gone := self._gone()) and not self._done.is_set():
                names = ", ".join(map(str, gone))
                what = f"process {names} of {jax.process_count()} has ended or cannot be reached, so process {jax.process_index()} ends too"
                if jax.process_index() == 0:
                    time.sleep(SECONDS_TO_HEAR)
                _end(ProcessError(f"{what}; see what {names} wrote last, then start all of them again"))

    def _gone(self) -> list[int]:
        """Numbers of the processes that have ended; all processes look at the same time."""
        try:
            with multihost_utils.live_devices(self._everyone):
                return []
        except multihost_utils.ProcessFailureError as error:
            return sorted({device.process_index for device in error.failed_devices})
        except jax.errors.JaxRuntimeError:
            return [0]  # it answers for all; JAX mostly ends this process before we can

    def stop(self) -> None:
        """Minds no longer who ends; called before the processes agree that they are done, after which any may leave."""
        self._done.set()

    def part(self) -> None:
        """Leaves, process 0 last: the others met there, and JAX would take its end for a failure."""
        self.join()
        if jax.process_index() == 0:
            self._gone()  # returns when the others have left
        jax.distributed.shutdown()


def _end(error: BaseException) -> None:
    """Ends the process at once: an orderly end would wait for the others, and they for this one."""
    if isinstance(error, fe.errors.FedjaxEduError):
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
