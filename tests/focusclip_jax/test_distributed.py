"""Real processes on this machine train one model, several or one, are stopped or lost, and go on."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from focusclip_jax import config as configs
from focusclip_jax import distributed, optimizer, prepare, sharding, state
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError

STEPS = 12
# Sums over a batch are taken in another order on other numbers of devices: float32 losses agree to this.
TOLERANCE = 1e-5

# The real program, which besides notes the ids of every batch, and to which one thing may happen. It draws
# pictures only where it is asked to: they take longer than everything else.
PROGRAM = """
import ctypes, dataclasses, json, multiprocessing, os, pathlib, resource, signal, sys, types
event = os.environ.get("EVENT")
if event == "read-only" and os.geteuid() == 0 and "ORDINARY" not in os.environ:
    for capability in (1, 2):  # to write and read what permissions forbid; gone with the next program
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "ORDINARY": "1"})
from focusclip_jax import distributed, train
from focusclip_jax.__main__ import run
from jax._src import compiler

# What another process than the first compiles has a key of its own, and JAX would not write it to the cache.
compiler.distributed = types.SimpleNamespace(global_state=types.SimpleNamespace(process_id=0, client=None))
[root] = [pathlib.Path(a.partition("=")[2]) for a in sys.argv if a.startswith("--workdir=")]

def recording(batches):
    for count, batch in enumerate(batches, 1):
        step = first[0] + count
        if count == 2:
            if event == "gone":
                root.rename(root.with_name("away"))
            for worker in multiprocessing.active_children():
                if event in ("SIGKILL", "SIGSTOP"):
                    train.PATIENCE_SECONDS = 20  # from now on: a worker needs long for its first one
                    os.kill(worker.pid, getattr(signal, event))
        with open(os.environ["IDS"], "a") as file:
            file.write(json.dumps([step, batch["image_id"].tolist()]) + "\\n")
        yield batch

first, make, settings_of = [0], train.train_batches, train.loader_settings
def train_batches(*arguments, **settings):
    first[0] = settings["start_step"]
    return recording(make(*arguments, **settings))

train.train_batches = train_batches
train.loader_settings = lambda config: dataclasses.replace(settings_of(config), prefetch=1)
if "DRAW" not in os.environ:
    train.pictures.draw = lambda *_: []
distributed.WATCH_SECONDS, distributed.SILENCE_SECONDS = 1, int(os.environ.get("SILENCE", "60"))

save = train.Checkpoints.save
def after_that_happened(self, step, state):
    self.wait()
    if event == "full":  # no file may grow beyond this
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    if event == "read-only":
        root.joinpath("checkpoints").chmod(0o555)
        assert not os.access(root / "checkpoints", os.W_OK), "this user may write what is read-only"
    save(self, step, state)

train.Checkpoints.save = after_that_happened
if __name__ == "__main__":
    sys.exit(run("train", sys.argv[1:]))
"""


@pytest.fixture(scope="session")
def launch(run_module, figures, tmp_path_factory):
    """launch(root, processes, …) → the started processes of a training run on the small shards."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "recording_train.py").write_text(PROGRAM)

    def start(root: pathlib.Path, processes: int, *extra: str, devices: int = 1, roots=None, **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = []
        for index in range(processes):
            settings = {
                "PYTHONPATH": f"{folder}{os.pathsep}{pathlib.Path(__file__).parents[2]}",
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                "IDS": f"{root}.ids-{index}",
                **environment,
            }
            if processes > 1:
                settings |= {
                    distributed.ADDRESS: f"127.0.0.1:{port}",
                    distributed.COUNT: processes,
                    distributed.INDEX: index,
                }
            arguments = [
                "--config=configs/focusclip_tiny.py",
                f"--config.data.train={figures}",
                f"--config.data.validation={figures}",
                f"--config.evaluation.data_dir={figures.parent}",
                "--config.data.image_size=16",
                "--config.model.image.depth=1",
                "--config.model.text.depth=1",
                "--config.batch_size=16",
                f"--config.steps={STEPS}",
                "--config.log_every=1",
                "--config.checkpoint_every=4",
                "--config.evaluate_every=100",
                f"--workdir={(roots or [root] * processes)[index]}",
                *extra,
            ]
            started.append(run_module("recording_train", *arguments, wait=False, **settings))
        return started

    return start


def ends(processes, seconds: float = 900) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each process, which must end on its own."""
    try:
        results = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *result) for process, result in zip(processes, results, strict=True)]


def finishes(processes) -> list[str]:
    """What each process printed on stdout; all must end well."""
    results = ends(processes)
    said = "\n".join(errors[-1500:] for _, _, errors in results)
    assert [code for code, _, _ in results] == [0] * len(results), said
    return [printed for _, printed, _ in results]


def wait_for_step(root: pathlib.Path, step: int, processes) -> None:
    for _ in range(18_000):
        path = root / "metrics.jsonl"
        if path.exists() and path.read_text().count('"loss"') >= step:
            return
        assert all(process.poll() is None for process in processes), ends(processes)
        time.sleep(0.05)
    raise AssertionError(f"no step {step} within fifteen minutes: {ends(processes, 1)}")


def losses(root: pathlib.Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def ids(root: pathlib.Path, processes: int) -> dict[int, list[int]]:
    """step → ids of the global batch, of the processes in their order."""
    parts = [
        dict(json.loads(line) for line in pathlib.Path(f"{root}.ids-{i}").read_text().splitlines())
        for i in range(processes)
    ]
    return {int(step): [i for part in parts for i in part[step]] for step in parts[0]}


def evaluation(root: pathlib.Path):
    return json.loads((root / "evaluation" / f"step-{STEPS:06d}.json").read_text())


def final_params(root: pathlib.Path):
    """Restored by one process on one device, whoever wrote them."""
    config = configs.from_json(root / "config.json")
    architecture = state.architecture(config, Tokenizer.load(root / "tokenizer.json").vocab_size)
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    abstract = state.abstract(architecture, optimizer.make(config.optimizer, config.steps), mesh)
    with Checkpoints(root / "checkpoints") as checkpoints:
        return jax.device_get(checkpoints.restore(STEPS, abstract).params)


@pytest.fixture(scope="session")
def one(launch, tmp_path_factory):
    """The run of a single process, which the others must equal."""
    root = tmp_path_factory.mktemp("one") / "run"
    finishes(launch(root, 1))
    return root


@pytest.fixture(scope="session")
def two(launch, tmp_path_factory):
    root = tmp_path_factory.mktemp("two") / "run"
    printed = finishes(launch(root, 2, DRAW=1))
    assert all(pathlib.Path(line.strip()).exists() for line in printed[0].split("Pictures:")[1].split())
    assert "Report:" not in printed[1]
    assert "Pictures:" not in printed[1]
    return root


def assert_same(root: pathlib.Path, processes: int, one: pathlib.Path, first: int = 0) -> None:
    """The same examples exactly; losses, parameters, answers to a tolerance. first: steps done elsewhere."""
    wanted, found = ids(one, 1), ids(root, processes)
    for step in range(first + 1, STEPS + 1):
        assert found[step] == wanted[step]
    expected, got = losses(one), losses(root)
    assert got.keys() == expected.keys()
    np.testing.assert_allclose(
        [got[step] for step in expected], [*expected.values()], rtol=TOLERANCE, err_msg="losses"
    )
    for row, other in zip(evaluation(root), evaluation(one), strict=True):
        assert (row["task"], row["rows"], row["n"]) == (other["task"], other["rows"], other["n"])
        assert abs(row["accuracy"] - other["accuracy"]) <= 1 / row["n"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        final_params(root),
        final_params(one),
    )


@pytest.mark.slow
def test_two_processes_train_as_one_and_four_or_one_go_on_with_it(one, two, launch, tmp_path):
    """The four share the parameters by fsdp: each holds a part of them only."""
    assert_same(two, 2, one)
    for processes, fsdp in ((4, 2), (1, 1)):
        root = pathlib.Path(shutil.copytree(two, tmp_path / f"run{processes}"))
        shutil.rmtree(root / "checkpoints" / str(STEPS))
        printed = finishes(launch(root, processes, f"--config.mesh.fsdp={fsdp}"))
        assert "Going on from step 8" in printed[0]
        assert min(ids(root, processes)) == 9
        assert_same(root, processes, one, first=8)


@pytest.mark.slow
def test_two_processes_of_two_devices_train_as_one(one, launch, tmp_path):
    """With fsdp each process holds a part of the parameters only."""
    root = tmp_path / "run"
    finishes(launch(root, 2, "--config.mesh.fsdp=2", devices=2))
    assert_same(root, 2, one)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_one_step_and_others_go_on(one, launch, tmp_path):
    root = tmp_path / "run"
    processes = launch(root, 2, "--config.steps=4000", "--config.checkpoint_every=100000")
    wait_for_step(root, 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    printed = finishes(processes)
    stopped = int(printed[0].split("Stopped and saved at step ")[1].split(";")[0])
    with Checkpoints(root / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [stopped]
    assert losses(root).keys() == set(range(1, stopped + 1))


@pytest.mark.slow
@pytest.mark.parametrize("lost", [signal.SIGKILL, signal.SIGSTOP])
def test_where_one_is_lost_the_other_says_so_and_what_it_goes_on_from(launch, tmp_path, lost):
    root = tmp_path / "run"
    processes = launch(root, 2, "--config.steps=4000", "--config.keep_checkpoints=1000", SILENCE="15")
    wait_for_step(root, 9, processes)  # the save of step 8 began when that of step 4 was done
    processes[1].send_signal(lost)
    try:
        code, _, errors = ends(processes[:1])[0]
    finally:
        processes[1].kill()
    assert code == 2, errors
    sentences = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, errors[-3000:]
    assert "another process is gone or gives no sign of life" in sentences[0]
    with Checkpoints(root / "checkpoints") as checkpoints:
        last = checkpoints.steps()[-1]
        named = int(sentences[0].split("the last checkpoint is step ")[1].split(";")[0])
        assert named in checkpoints.steps()
    printed = finishes(launch(root, 1, f"--config.steps={last + 1}"))
    assert f"Going on from step {last}" in printed[0]


@pytest.mark.slow
def test_a_workdir_that_is_not_shared_is_one_sentence(launch, tmp_path):
    roots = [tmp_path / "a", tmp_path / "b"]
    results = ends(launch(tmp_path / "run", 2, roots=roots))
    assert [code for code, _, _ in results] == [2, 2]
    assert f"error: process 1 of 2: --workdir={roots[1]}: " in results[1][2]
    assert "all processes share" in results[1][2]


def the_sentence(results) -> str:
    [(code, _, errors)] = results
    assert code == 2, errors[-3000:]
    # Libraries may add lines of their own: the array store before, Python's tracker of shared memory after.
    [sentence] = [line for line in errors.splitlines() if line.startswith("error: ")]
    return sentence


def last_step(sentence: str) -> int:
    return int(sentence.split("the last checkpoint is step ")[1].split(";")[0])


@pytest.mark.slow
def test_whatever_happens_to_disk_and_loader_is_one_sentence_and_costs_no_bit(one, launch, tmp_path):
    """One run of one process meets everything in turn, is started again each time, and ends as `one` did."""
    root, written = tmp_path / "run", tmp_path / "run" / "checkpoints"

    def newest() -> int:
        return max((int(path.parent.name) for path in written.glob("*/manifest.json")), default=0)

    def meets(event: str, workers: int = 0) -> str:
        extra = ("--config.checkpoint_every=1", f"--config.data.workers={workers}")
        return the_sentence(ends(launch(root, 1, *extra, EVENT=event)))

    sentence = meets("SIGKILL", workers=1)
    assert "no batch c" in sentence  # at once; or after a while, where it died in the middle of a batch
    assert newest() - 1 <= last_step(sentence) <= newest()  # one may have been under way
    before = newest()

    sentence = meets("SIGSTOP", workers=1)
    assert "no batch came for 20 s: a loader worker or the file system of the shards hangs" in sentence
    assert newest() - 1 <= last_step(sentence) <= newest()
    assert before < newest() < STEPS - 1
    before = newest()

    for event in ("full", "read-only"):
        sentence = meets(event)
        assert f"checkpoints/{before + 1}: this checkpoint could not be written (" in sentence
        assert ("Permission denied" in sentence) == (event == "read-only")
        assert last_step(sentence) == newest() == before
    written.chmod(0o755)

    assert "no checkpoint is left" in meets("gone")
    shutil.rmtree(root, ignore_errors=True)  # what was still being written may have made it anew
    root.with_name("away").rename(root)
    before, first = newest(), before
    assert before >= first

    printed = finishes(launch(root, 1))
    assert f"Going on from step {before}" in printed[0]
    jax.tree.map(np.testing.assert_array_equal, final_params(root), final_params(one))
    assert losses(root) == losses(one)


ADDRESSED = {distributed.ADDRESS: "10.0.0.1:1234", distributed.COUNT: "4", distributed.INDEX: "3"}


def test_three_variables_say_which_processes_there_are():
    assert distributed._from_variables({}) is None
    assert distributed._from_variables(ADDRESSED) == {
        "coordinator_address": "10.0.0.1:1234",
        "num_processes": 4,
        "process_id": 3,
        "cluster_detection_method": "deactivate",
    }


@pytest.mark.parametrize("address", ["127.0.0.1:5", "localhost:5", "[::1]:5"])
def test_on_this_machine_alone_no_other_network_is_listened_on(address):
    found = distributed._from_variables({**ADDRESSED, distributed.ADDRESS: address})
    assert found["coordinator_bind_address"] == address


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({distributed.COUNT: ""}, "JAX_NUM_PROCESSES; set all three or none"),
        ({distributed.ADDRESS: "10.0.0.1"}, "JAX_COORDINATOR_ADDRESS=10.0.0.1: expected HOST:PORT"),
        ({distributed.COUNT: "four"}, "JAX_NUM_PROCESSES=four: expected a whole number"),
        ({distributed.INDEX: "4"}, "JAX_PROCESS_ID=4: expected a number from 0 to"),
    ],
)
def test_variables_that_are_incomplete_or_malformed_are_one_sentence(change, expected):
    with pytest.raises(UserError, match=expected):
        distributed._from_variables({**ADDRESSED, **change})


TASK = dict.fromkeys(distributed.SLURM, "0") | {
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "8",
}


@pytest.mark.parametrize(
    ("change", "devices"),
    [
        ({}, "of its local number"),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, "of its local number"),
        ({"CUDA_VISIBLE_DEVICES": "5"}, "all"),  # Slurm bound one to each task
        ({"SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, "all"),
    ],
)
def test_a_task_of_slurm_takes_the_gpus_that_are_its_own(change, devices):
    found = distributed._from_slurm({**TASK, **change})
    assert found["cluster_detection_method"] == "slurm"
    assert found.get("local_device_ids", "of its local number") == ([] if devices == "all" else devices)


def test_a_shell_of_slurm_is_one_process():
    assert distributed._from_slurm({**TASK, "SLURM_NTASKS": "1"}) is None
    assert distributed._from_slurm({name: "1" for name in TASK if name != "SLURM_STEP_NODELIST"}) is None


def test_a_machine_without_tpu_asks_nobody(monkeypatch):
    """JAX itself sets the variable where it finds no chip, so a laptop never waits for a metadata server."""
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: object())
    assert os.environ["TPU_SKIP_MDS_QUERY"] == "1"
    assert not distributed._on_tpu({"TPU_SKIP_MDS_QUERY": "1"})
    assert not distributed._on_tpu({"TPU_WORKER_HOSTNAMES": "localhost"})
    assert not distributed._on_tpu({"JAX_PLATFORMS": "cpu", "TPU_WORKER_HOSTNAMES": "a,b"})
    assert distributed._on_tpu({"TPU_WORKER_HOSTNAMES": "a,b"})
    assert distributed._on_tpu({})
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: None)
    assert not distributed._on_tpu({})


def test_a_first_process_that_is_not_there_is_one_sentence():
    """In a process of its own, which has not touched a device."""
    program = (
        "import os, sys; from focusclip_jax import distributed\n"
        "distributed.START_SECONDS = 2\n"
        "try: distributed.initialize()\n"
        "except distributed.UserError as error: sys.exit(f'error: {error}')\n"
    )
    variables = {distributed.ADDRESS: "127.0.0.1:9", distributed.COUNT: "2", distributed.INDEX: "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "error: JAX_COORDINATOR_ADDRESS=127.0.0.1:9: the first process does not answer (" in done.stderr


def test_of_several_that_prepare_one_does(tmp_path):
    """Real processes that start together: the data is made once."""
    folder = tmp_path / "figures"
    journal = tmp_path / "journal"
    commands = [
        f"describe --source=figures:0 --figures-count=6 --describer=geometry --out={journal}",
        f"pack --journal={journal} --split=train --dataset=figures --out={folder}",
    ]
    program = (
        "from ml_collections import ConfigDict; from focusclip_jax import prepare\n"
        f"prepare.run(ConfigDict({{'data': {{'prepare': {commands!r}, 'train': {str(folder)!r}}}}}))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sum("annotate describe" in text for text in said) == 1
    assert (folder / "prepared.txt").exists()
    assert prepare._is(folder / "prepared.txt", "\n".join(commands) + "\n")
