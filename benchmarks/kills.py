"""Kill training at random moments, start it again, and compare the end with a run that was left alone.

    python -m benchmarks.kills [--kill=100] [--term=20] [--processes=1,2] [--seed=0] [--folder=DIR]

The signals go in turn to a run of one process and to a run of two: there one of the two, drawn by lot, is hit
and the other must end by itself. Moments are drawn uniformly over the time that an undisturbed run takes, so
start-up, compilation, steps, saving and evaluation are all hit. A run that came to its end begins
anew until all signals are spent; every one of them must then hold the same bits, and have logged the same
values, as the undisturbed one. After each signal the newest whole checkpoint is noted, and the next start has
to go on from it.

With --folder what was done is kept there, and the same command, with the same or a larger number of
signals, goes on after it. To make a signal cheap the processes are forked from one that has imported the
program and done nothing else, find everything compiled, and draw no pictures, which come after everything is
saved; the run is small. Processes wait a minute for each other at the start, not five, and count one as lost
after 30 s, not 60.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable

from tqdm import tqdm

from benchmarks import machine
from focusclip_jax.meter import OF_MACHINE

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
STEPS, EVERY = 24, 4
PATIENCE = 300  # seconds after which a process that did not end counts as stuck
PROGRAM = ("focusclip_jax.train", "focusclip_jax.checkpoint", "focusclip_jax.__main__", "orbax.checkpoint")
FORKED = multiprocessing.get_context("forkserver")


@dataclasses.dataclass
class Tally:
    """What came of the signals of one kind to one number of processes."""

    signals: int = 0
    hits: int = 0  # the process was still running
    saved: int = 0  # runs that ended with "Stopped and saved"
    lost: list[int] = dataclasses.field(default_factory=list)  # steps that were logged and are done again
    backwards: int = 0  # starts that did not go on from the newest whole checkpoint
    stuck: int = 0  # processes that had to be killed since they neither went on nor ended
    failed: int = 0  # processes that ended with an error which the signal does not explain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kill", type=int, default=100, help="number of kill −9")
    parser.add_argument("--term", type=int, default=20, help="number of SIGTERM")
    parser.add_argument("--processes", default="1,2", help="how many processes the runs have")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, help="keep runs and results here, and go on from them")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    # Read when the server of the forks starts.
    os.environ.update(JAX_PLATFORMS="cpu", JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    FORKED.set_forkserver_preload(["__main__", *PROGRAM])
    with contextlib.ExitStack() as kept:
        folder = options.folder or pathlib.Path(kept.enter_context(tempfile.TemporaryDirectory()))
        measure(folder.absolute(), options)


def measure(folder: pathlib.Path, options: argparse.Namespace) -> None:
    counts = [int(text) for text in options.processes.split(",")]
    folder.mkdir(parents=True, exist_ok=True)
    make_data(folder / "data")
    done = folder / "signals.jsonl"
    rows = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    reference = {n: undisturbed(folder, n) for n in counts}

    def note(row: dict[str, object]) -> None:
        rows.append(row)
        with open(done, "a") as file:
            file.write(json.dumps(row) + "\n")

    # One SIGTERM in so many, from the beginning on, so that a part of the measurement has both.
    total = options.kill + options.term
    sent = sum(bool(row["signal"]) for row in rows)
    with tqdm(total=total, initial=sent, unit="signal") as bar:
        for number in range(sent, total):
            terms = [(k * options.term) // total for k in (number, number + 1)]
            which = signal.SIGTERM if terms[1] > terms[0] else signal.SIGKILL
            n = counts[(number + number // 12) % len(counts)]  # else SIGTERM might always meet the same
            note(disturb(folder, number, which, n, reference[n][0], options.seed))
            root = folder / f"disturbed-{n}"
            if (bits := ended(root)) is not None:
                shutil.rmtree(root)
                note({"signal": "", "processes": n, "bits": bits})
            bar.update()
    for n in counts:  # whatever the last signals left behind must come to its end too
        root = folder / f"disturbed-{n}"
        if root.exists():
            codes, stuck = wait_all(start(folder, root, n))
            note(
                {
                    "signal": "",
                    "processes": n,
                    "stuck": stuck,
                    "failed": failures(codes, None),
                    "bits": ended(root) or "none",
                }
            )
            shutil.rmtree(root)
    print(table(rows, {n: bits for n, (_, bits) in reference.items()}))


def disturb(
    folder: pathlib.Path, number: int, which: int, n: int, seconds: float, seed: int
) -> dict[str, object]:
    """Start or go on with the run, send one signal, and wait for all its processes to end."""
    chance = random.Random(f"{seed} {number}")
    root = folder / f"disturbed-{n}"
    before, begun = newest(root), time.perf_counter()
    processes = start(folder, root, n)
    target, moment = chance.randrange(n), chance.random() * seconds
    processes[target].join(moment)
    hit = processes[target].exitcode is None
    if hit:
        os.kill(processes[target].pid, which)
    codes, stuck = wait_all(processes)
    failed = failures(codes, which if hit else None)
    said = pathlib.Path(f"{root}.log-0").read_text(errors="replace")
    if stuck or failed:
        for index in range(n):
            shutil.copy(f"{root}.log-{index}", folder / f"signal-{number}.log-{index}")
    resumed = re.search(r"Going on from step (\d+)", said)
    return {
        "signal": signal.Signals(which).name,
        "processes": n,
        "target": target,
        "moment": round(moment, 2),
        "seconds": round(time.perf_counter() - begun, 1),
        "hit": hit,
        "codes": codes,
        "stuck": stuck,
        "failed": failed,
        "saved": "Stopped and saved" in said,
        # A process that was hit before it restored anything says nothing.
        "backwards": resumed is not None and int(resumed[1]) != before,
        "logged": logged(root),
        "kept": newest(root),
    }


def newest(root: pathlib.Path) -> int:
    """The newest whole checkpoint, 0 where there is none; of a run that came to its end, its last step."""
    return max((int(path.parent.name) for path in root.glob("checkpoints/[0-9]*/manifest.json")), default=0)


def logged(root: pathlib.Path) -> int:
    """The last step in metrics.jsonl."""
    path = root / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def failures(codes: list[int], which: int | None) -> int:
    """Exit statuses that the signal does not explain.

    2 is the sentence of a process whose other one is lost, SIGABRT what JAX does where the first one is;
    SIGTERM ends a process that is not in its loop.
    """
    explained = {
        None: {0},
        signal.SIGKILL: {0, 2, -signal.SIGKILL, -signal.SIGABRT},
        signal.SIGTERM: {0, 2, -signal.SIGTERM, -signal.SIGABRT},
    }
    return sum(code not in explained[which] for code in codes)


def ended(root: pathlib.Path) -> str | None:
    """A hash of the final checkpoint's arrays and of all logged values, or None before a run's end."""
    if not (root / "report.html").exists():  # the last thing that is written
        return None
    answer = root.with_name(f"{root.name}.sha256")
    answer.unlink(missing_ok=True)
    codes, stuck = wait_all([fork(answer.with_suffix(".log"), {}, write_digest, str(root), str(answer))])
    if any(codes) or stuck:
        raise SystemExit(f"{root}: the final checkpoint cannot be read: see {answer.with_suffix('.log')}")
    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name not in OF_MACHINE} for row in rows]
    return hashlib.sha256((answer.read_text() + json.dumps(kept)).encode()).hexdigest()


def write_digest(root: str, answer: str) -> None:
    """Of every array of the last checkpoint: parameters, optimizer, step."""
    import jax
    import numpy as np

    from focusclip_jax import config as configs
    from focusclip_jax import optimizer, sharding, state
    from focusclip_jax.checkpoint import Checkpoints
    from focusclip_jax.data.text import Tokenizer

    config = configs.from_json(pathlib.Path(root) / "config.json")
    vocabulary = Tokenizer.load(pathlib.Path(root) / "tokenizer.json").vocab_size
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    tx = optimizer.make(config.optimizer, config.steps)
    abstract = state.abstract(state.architecture(config, vocabulary), tx, mesh)
    with Checkpoints(pathlib.Path(root) / "checkpoints") as checkpoints:
        tree = jax.device_get(checkpoints.restore(STEPS, abstract))
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        found.update(np.ascontiguousarray(leaf).tobytes())
    pathlib.Path(answer).write_text(found.hexdigest())


def undisturbed(folder: pathlib.Path, n: int) -> tuple[float, str]:
    """Seconds and bits of a run that nothing happens to."""
    root, kept = folder / f"undisturbed-{n}", folder / f"undisturbed-{n}.json"
    if kept.exists():
        seconds, bits = json.loads(kept.read_text())
        return seconds, bits
    for _ in range(2):  # the first fills the cache of compiled programs
        shutil.rmtree(root, ignore_errors=True)
        begin = time.perf_counter()
        codes, stuck = wait_all(start(folder, root, n))
        seconds = time.perf_counter() - begin
        if any(codes) or stuck:
            raise SystemExit(f"the undisturbed run of {n} processes ended with {codes}: see {root}.log-*")
    bits = ended(root)
    kept.write_text(json.dumps([seconds, bits]))
    return seconds, bits


def start(folder: pathlib.Path, root: pathlib.Path, n: int) -> list[multiprocessing.Process]:
    data = folder / "data" / "figures"
    arguments = [
        "--config=configs/focusclip_tiny.py",
        f"--config.data.train={data}",
        f"--config.data.validation={data}",
        f"--config.evaluation.data_dir={data.parent}",
        *("--config.data.image_size=16", "--config.model.image.depth=1", "--config.model.text.depth=1"),
        *("--config.batch_size=16", f"--config.steps={STEPS}", "--config.log_every=1"),
        *(f"--config.checkpoint_every={EVERY}", "--config.evaluate_every=12", f"--workdir={root}"),
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(n)}
    return [
        fork(
            pathlib.Path(f"{root}.log-{index}"),
            {**variables, "JAX_PROCESS_ID": str(index)} if n > 1 else {},
            train,
            arguments,
            str(folder / "compiled"),
        )
        for index in range(n)
    ]


def train(arguments: list[str], compiled: str) -> None:
    """The program itself, with what is compiled kept in a folder."""
    import jax
    from jax._src import compiler

    from focusclip_jax import __main__ as program
    from focusclip_jax import distributed, pictures

    jax.config.update("jax_compilation_cache_dir", compiled)
    # Programs of another process than the first have keys of their own there, and JAX would not write them.
    compiler.distributed = types.SimpleNamespace(
        global_state=types.SimpleNamespace(process_id=0, client=None)
    )
    pictures.draw = lambda *_: []  # would take longer than all the rest
    distributed.START_SECONDS, distributed.WATCH_SECONDS, distributed.SILENCE_SECONDS = 60, 2, 30
    sys.argv = ["focusclip_jax", "train", *arguments]  # where the flags of a config are looked up
    sys.exit(program.run("train", arguments))


def fork(log: pathlib.Path, variables: dict[str, str], call: Callable, *arguments) -> multiprocessing.Process:
    process = FORKED.Process(target=_forked, args=(str(log), variables, call, arguments))
    process.start()
    return process


def _forked(log: str, variables: dict[str, str], call: Callable, arguments: tuple) -> None:
    os.chdir(REPOSITORY)
    os.environ.update(variables)
    with open(log, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        call(*arguments)
    finally:
        atexit._run_exitfuncs()  # as a program that was not forked does at its end


def wait_all(processes: list[multiprocessing.Process]) -> tuple[list[int], int]:
    """Exit statuses, and how many had to be killed since they did not end."""
    stuck, deadline = 0, time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(0.1, deadline - time.monotonic()))
        if process.exitcode is None:
            stuck += 1
            process.kill()
            process.join()
    return [process.exitcode for process in processes], stuck


def make_data(folder: pathlib.Path) -> None:
    """Small shards of the embedded data set."""
    if (folder / "ready").exists():
        return
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    for seed, (split, count, which, styles) in enumerate(
        (
            ("train", 96, "trained", "train"),
            ("validation", 32, "trained", "train"),
            ("test", 48, "all", "test"),
        )
    ):
        journal = folder / "journals" / split
        for line in (
            f"describe --source=figures:{seed} --describer=geometry --detail=short --figures-count={count} "
            f"--figures-activities={which} --figures-styles={styles} --out={journal}",
            f"pack --journal={journal} --split={split} --dataset=figures --out={folder / 'figures'}",
        ):
            command = [sys.executable, "-m", "annotation", *shlex.split(line)]
            environment = {**os.environ, "PYTHONPATH": path}
            subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    (folder / "ready").touch()


def table(rows: list[dict[str, object]], reference: dict[int, str]) -> str:
    tallies: dict[tuple[str, int], Tally] = {}
    for row in rows:
        tally = tallies.setdefault((row["signal"], row["processes"]), Tally())
        tally.signals += bool(row["signal"])
        tally.stuck += row.get("stuck", 0)
        tally.failed += row.get("failed", 0)
        tally.backwards += row.get("backwards", False)
        tally.saved += row.get("saved", False)
        if row.get("hit"):
            tally.hits += 1
            tally.lost.append(max(0, row["logged"] - row["kept"]))
    head = (
        "signal",
        "sent",
        "running",
        "saved",
        "steps to do again: most",
        "mean",
        "backwards",
        "stuck",
        "errors",
    )
    lines = [
        (
            f"{name} to one of {n}" if n > 1 else name,
            *(tally.signals, tally.hits, tally.saved, max(tally.lost, default=0)),
            f"{sum(tally.lost) / max(1, len(tally.lost)):.1f}",
            *(tally.backwards, tally.stuck, tally.failed),
        )
        for (name, n), tally in sorted(tallies.items())
        if name
    ]
    text = machine.table(head, lines)
    for n, wanted in reference.items():
        bits = [row["bits"] for row in rows if row["processes"] == n and "bits" in row]
        same = sum(value == wanted for value in bits)
        text += (
            f"\n{n} processes: {len(bits)} runs came to their end, {same} bit for bit as the undisturbed one"
        )
    return text


if __name__ == "__main__":
    main()
