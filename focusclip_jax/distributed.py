"""Several processes that train one model: how they find each other, agree, and end together.

One process drives every device of its machine (a TPU host, one or more GPUs). All processes run the same
program; what differs is which rows of a batch they read and that only the first one writes and prints.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from focusclip_jax.errors import UserError

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")

START_SECONDS = 300  # for all processes to arrive
WATCH_SECONDS = 10  # between two meetings of the watches
SILENCE_SECONDS = 60  # that a watch waits for the others before it counts one as lost
HEARTBEAT_SECONDS = 120  # after which JAX does, should the watch not have ended the process
FIRST_SECONDS = 4 * 3600  # for what the first process does while the others wait: tokenising 100 M captions
LEAVING_SECONDS = 5  # for processes that fail for the same reason to say so, before the first one is gone


def initialize() -> None:
    """Join the other processes, if there are any; before anything touches a device.

    Which they are is said by the variables ADDRESS, COUNT and INDEX, by Slurm's of a task of several, or by
    a TPU slice; elsewhere nothing is asked and nothing is waited for. Raises UserError where the variables
    are incomplete or malformed, or the processes do not find each other.
    """
    arguments = _from_variables(os.environ) or _from_slurm(os.environ)
    if arguments is None and _on_tpu(os.environ):
        arguments = {}  # JAX asks the slice
    if arguments is None:
        return
    if arguments.get("process_id"):
        _find(arguments["coordinator_address"])
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError, OSError) as error:  # JAX's own errors are RuntimeErrors
        where = arguments.get("coordinator_address", "the coordinator")
        raise UserError(f"the processes did not meet at {where}: {_first_line(error)}") from None


def _from_variables(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize` from the three variables; None where none of them is set."""
    given = [name for name in (ADDRESS, COUNT, INDEX) if environment.get(name)]
    if not given:
        return None
    lacking = [name for name in (ADDRESS, COUNT, INDEX) if name not in given]
    if lacking:
        raise UserError(f"{', '.join(given)} is set but not {', '.join(lacking)}; set all three or none")
    address = environment[ADDRESS]
    if not re.fullmatch(r"(\[[\da-fA-F:]+\]|[\w.-]+):\d+", address):
        raise UserError(f"{ADDRESS}={address}: expected HOST:PORT of the first process")
    count, index = _number(environment, COUNT), _number(environment, INDEX)
    if not 0 <= index < count:
        raise UserError(f"{INDEX}={index}: expected a number from 0 to {COUNT} - 1 = {count - 1}")
    arguments: dict[str, Any] = {
        "coordinator_address": address,
        "num_processes": count,
        "process_id": index,
    }
    if not environment.get("JAX_LOCAL_DEVICE_IDS"):
        arguments["cluster_detection_method"] = "deactivate"  # the variables have said it all
    if address.rsplit(":", 1)[0] in ("localhost", "127.0.0.1", "[::1]"):
        arguments["coordinator_bind_address"] = address  # else it listens on every network
    return arguments


def _find(address: str) -> None:
    """Wait until the first process listens; without it JAX would end this one by a fatal error."""
    host, port = address.rsplit(":", 1)
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise UserError(
                    f"{ADDRESS}={address}: the first process does not answer ({error.strerror or error}) "
                    f"after {START_SECONDS} s"
                ) from None
            time.sleep(0.2)


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise UserError(f"{name}={environment[name]}: expected a whole number") from None


def _from_slurm(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The same for a task of several that `srun` started; None elsewhere, as in an interactive shell.

    JAX takes addresses and numbers from Slurm's variables, and gives each task the GPU of its local number.
    That is wrong where a task has its node to itself, or where Slurm shows each task only its own GPU.
    """
    if any(name not in environment for name in SLURM) or _number(environment, "SLURM_NTASKS") < 2:
        return None
    alone = re.match(r"1(\(|,|$)", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    shown = environment.get("CUDA_VISIBLE_DEVICES", "")
    if alone or (shown and "," not in shown):
        return {"cluster_detection_method": "slurm", "local_device_ids": []}  # all that it sees
    return {"cluster_detection_method": "slurm"}


def _on_tpu(environment: Mapping[str, str]) -> bool:
    """Whether this is a host of a TPU slice.

    Kubernetes names the hosts of a slice in variables. On Compute Engine the metadata server knows them, as
    it knows the topology that the TPU's own runtime asks it for. JAX forbids that question by a variable
    where it finds no TPU chip.
    """
    if environment.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu" or not importlib.util.find_spec(
        "libtpu"
    ):
        return False
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    slices = environment.get("MEGASCALE_NUM_SLICES", "1")
    if hosts:
        return "," in hosts or slices != "1"
    return "TPU_SKIP_MDS_QUERY" not in environment


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


_meetings = itertools.count()


def wait_for_all(seconds: int = START_SECONDS) -> None:
    """Return once every process came here. Raises JaxRuntimeError after `seconds`, or where one is lost."""
    _meet(f"focusclip {next(_meetings)}", seconds)


def _meet(name: str, seconds: int) -> None:
    """A barrier on the host, which any thread may wait at; its name is used once."""
    from orbax.checkpoint import multihost  # it takes a second to import

    multihost.get_barrier_sync_fn()(key=name, timeout_ms=1000 * seconds)


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """The first process runs the block, then all others do, who find what it wrote.

    Where it fails there, the others run into the same.
    """
    if not is_first():
        wait_for_all(FIRST_SECONDS)
    try:
        yield
    finally:
        if is_first():
            wait_for_all(FIRST_SECONDS)


def of_first(ask: Callable[[], int]) -> int:
    """What `ask` returns on the first process, on all of them; it is called nowhere else.

    Where it raises UserError or OSError there, all processes raise a UserError.
    """
    if jax.process_count() == 1:
        return ask()
    answer, error = 0, None
    if is_first():
        try:
            answer = int(ask())
        except (UserError, OSError) as raised:
            error = raised
    answer, failed = multihost_utils.broadcast_one_to_all((np.int32(answer), np.int32(error is not None)))
    if error is not None:
        raise error
    if failed:
        raise UserError("the first process cannot go on; its message says why")
    return int(answer)


def told_to_stop(step: int) -> bool:
    """Whether `step` is the last, since some process got a SIGTERM; all processes ask once for every step.

    JAX's preemption service sees the signal within a second and lets all processes agree on a step that none
    has passed yet. It takes the place of Python's handler of SIGTERM.
    """
    return multihost_utils.reached_preemption_sync_point(step)


@contextlib.contextmanager
def only_first_speaks() -> Iterator[None]:
    """All but the first process print nothing to stdout, and draw no progress bars."""
    if is_first():
        yield
        return
    drawing = tqdm.__init__
    tqdm.__init__ = functools.partialmethod(drawing, disable=True)  # type: ignore[assignment,method-assign]
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        tqdm.__init__ = drawing  # type: ignore[method-assign]


@contextlib.contextmanager
def ending_together(last_good: Callable[[], str]) -> Iterator[None]:
    """With several processes: leave once all are done, or at once where one fails or is lost.

    A process that fails must not wait for the others, who wait for it. It says what happened in one sentence
    and is gone; the others find it lost, say so, and go too. last_good: names the last whole checkpoint.
    """
    if jax.process_count() == 1:
        yield
        return
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(done, last_good), daemon=True)
    watch.start()
    try:
        yield
        wait_for_all(FIRST_SECONDS)
    except BaseException as error:
        _leave(error, last_good)
    done.set()
    watch.join()
    jax.distributed.shutdown()


def _watch(done: threading.Event, last_good: Callable[[], str]) -> None:
    """Meet the other processes' watches again and again, and leave where one does not come.

    A computation that waits for a lost process may wait for ever, and JAX's own heartbeat ends a process
    without a word of the checkpoint.
    """
    for meeting in itertools.count():
        ended = done.wait(WATCH_SECONDS)
        try:
            _meet(f"focusclip watch {meeting}", SILENCE_SECONDS)
        except Exception as error:
            _leave(error, last_good)
        if ended:
            return


_leaving = threading.Lock()


def _leave(error: BaseException, last_good: Callable[[], str]) -> None:
    """Say what happened and end this process, whatever its other threads wait for."""
    _leaving.acquire()  # never released: one sentence is enough
    who = f"process {jax.process_index()} of {jax.process_count()}"
    if isinstance(error, UserError | OSError):
        print(f"\nerror: {who}: {error}", file=sys.stderr)  # below the progress bar
    elif is_loss(error):
        print(
            f"\nerror: {who}: another process is gone or gives no sign of life ({_first_line(error)}); "
            f"{last_good()}; start all processes again and they go on from there",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    with contextlib.suppress(Exception):  # whatever it is, this process ends now
        _meet("focusclip leaving", LEAVING_SECONDS)
    os._exit(130 if isinstance(error, KeyboardInterrupt) else 2)


_LOSS = re.compile(
    r"gloo|nccl|heartbeat|barrier|connection|socket|unavailable|deadline.exceeded", re.IGNORECASE
)


def is_loss(error: BaseException) -> bool:
    """Whether this error of JAX's speaks of another process rather than of this one."""
    # Gloo's come as ValueError, the others as JaxRuntimeError.
    return isinstance(error, jax.errors.JaxRuntimeError | ValueError) and bool(_LOSS.search(str(error)))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
