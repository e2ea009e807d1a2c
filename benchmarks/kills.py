"""Kill training at random moments, start it again, and compare the end with a run that was left alone.

    python -m benchmarks.kills [--kill=100] [--term=20] [--seed=0] [--folder=DIR]

Half of the kill −9 and of the SIGTERM go to a run of one process, half to a run of two: there one of the
two, drawn by lot, is hit and the other must end by itself. Moments are drawn uniformly over the time that
an undisturbed run takes, so start-up, compilation, steps, saving, evaluation and drawing are all hit. A run
that came to its end begins anew until all signals are spent; every one of them must then hold the same
bits, and have logged the same values, as the undisturbed one. With --folder what was done is kept there,
and the same command goes on after it. Processes wait 45 s for each other at the start, not the usual five
minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from tqdm import tqdm

from benchmarks import machine

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
STEPS = 24
CLOCK = {"step_seconds", "images_per_second", "data_wait"}
PATIENCE = 300  # seconds after which a process that did not end counts as stuck
PROGRAM = (
    "import runpy; from focusclip_jax import distributed; distributed.START_SECONDS = 45; "
    "runpy.run_module('focusclip_jax', run_name='__main__')"
)


@dataclasses.dataclass
class Tally:
    """What came of the signals of one kind to one number of processes."""

    signals: int = 0
    hits: int = 0  # the process was still running
    stuck: int = 0  # processes that had to be killed since they neither went on nor ended
    failed: int = 0  # starts that ended with an error of their own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kill", type=int, default=100, help="number of kill −9")
    parser.add_argument("--term", type=int, default=20, help="number of SIGTERM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, help="keep runs and results here, and go on from them")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    if options.folder:
        measure(options.folder, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(pathlib.Path(folder), options)


def measure(folder: pathlib.Path, options: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    make_data(folder / "data")
    done = folder / "signals.jsonl"
    rows = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    total = options.kill + options.term
    reference = {n: undisturbed(folder, n) for n in (1, 2)}
    with tqdm(total=total, initial=len(rows), unit="signal") as bar:
        for number in range(len(rows), total):
            which = signal.SIGKILL if number < options.kill else signal.SIGTERM
            processes = 1 + number % 2
            seconds, _ = reference[processes]
            row = disturb(folder, number, which, processes, seconds, options.seed)
            with open(done, "a") as file:
                file.write(json.dumps(row) + "\n")
            rows.append(row)
            bar.update()
    # Whatever the last signals left behind must come to its end too.
    for n in (1, 2):
        root = folder / f"disturbed-{n}"
        if root.exists() and ended(root) is None:
            codes, stuck = wait_all(start(folder, root, n))
            rows.append(
                {"signal": "", "processes": n, "hit": False, "stuck": stuck, "failed": failures(codes, None)}
            )
        rows += collect(folder, root, n)
    print(table(rows, {n: bits for n, (_, bits) in reference.items()}))


def disturb(
    folder: pathlib.Path, number: int, which: int, n: int, seconds: float, seed: int
) -> dict[str, object]:
    """Start or go on with the run, send one signal, and wait for all its processes to end."""
    chance = random.Random(f"{seed} {number}")
    root = folder / f"disturbed-{n}"
    found = collect(folder, root, n)
    processes = start(folder, root, n)
    target = chance.randrange(n)
    try:
        processes[target].wait(chance.random() * seconds)
    except subprocess.TimeoutExpired:
        processes[target].send_signal(which)
        hit = True
    else:
        hit = False
    codes, stuck = wait_all(processes)
    return {
        "signal": signal.Signals(which).name,
        "processes": n,
        "hit": hit,
        "stuck": stuck,
        "failed": failures(codes, which if hit else None),
        "ended": [row["bits"] for row in found],
    }


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


def collect(folder: pathlib.Path, root: pathlib.Path, n: int) -> list[dict[str, object]]:
    """The bits of a run that came to its end; it is moved away, so that the next start begins anew."""
    bits = ended(root) if root.exists() else None
    if bits is None:
        return []
    shutil.rmtree(root)
    return [{"signal": "", "processes": n, "bits": bits}]


def ended(root: pathlib.Path) -> str | None:
    """A hash of the final checkpoint's arrays and of all logged values, or None before a run's end."""
    if not list((root / "evaluation").glob(f"step-{STEPS:06d}.json")):
        return None
    program = (
        "import hashlib, pathlib, sys, jax, numpy as np\n"
        "from focusclip_jax import config, optimizer, sharding, state\n"
        "from focusclip_jax.checkpoint import Checkpoints\n"
        "from focusclip_jax.data.text import Tokenizer\n"
        "root = pathlib.Path(sys.argv[1]); c = config.from_json(root / 'config.json')\n"
        "arch = state.architecture(c, Tokenizer.load(root / 'tokenizer.json').vocab_size)\n"
        "mesh = sharding.make_mesh(1, 1, jax.devices()[:1])\n"
        "abstract = state.abstract(arch, optimizer.make(c.optimizer, c.steps), mesh)\n"
        "with Checkpoints(root / 'checkpoints') as checkpoints:\n"
        f"    tree = jax.device_get(checkpoints.restore({STEPS}, abstract))\n"
        "digest = hashlib.sha256()\n"
        "for leaf in jax.tree.leaves(tree): digest.update(np.ascontiguousarray(leaf).tobytes())\n"
        "print(digest.hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{root}: the final checkpoint cannot be read:\n{done.stderr}")
    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]
    return hashlib.sha256((done.stdout + json.dumps(kept)).encode()).hexdigest()


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


def start(folder: pathlib.Path, root: pathlib.Path, n: int) -> list[subprocess.Popen]:
    data = folder / "data" / "figures"
    command = [
        *(sys.executable, "-c", PROGRAM, "train", "--config=configs/focusclip_tiny.py"),
        f"--config.data.train={data}",
        f"--config.data.validation={data}",
        f"--config.evaluation.data_dir={data.parent}",
        *("--config.data.image_size=16", "--config.model.image.depth=1", "--config.model.text.depth=1"),
        *("--config.batch_size=16", f"--config.steps={STEPS}", "--config.log_every=4"),
        *("--config.checkpoint_every=4", "--config.evaluate_every=12", f"--workdir={root}"),
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for index in range(n):
        several = {
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(n),
            "JAX_PROCESS_ID": str(index),
        }
        with open(f"{root}.log-{index}", "w") as log:
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=REPOSITORY,
                    env=environment()
                    | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
                    | (several if n > 1 else {}),
                    stdout=log,
                    stderr=log,
                )
            )
    return processes


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def wait_all(processes: list[subprocess.Popen]) -> tuple[list[int], int]:
    """Exit statuses, and how many had to be killed since they did not end."""
    stuck, deadline = 0, time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            stuck += 1
            process.kill()
            process.wait()
    return [process.returncode for process in processes], stuck


def make_data(folder: pathlib.Path) -> None:
    """Small shards of the embedded data set."""
    if (folder / "ready").exists():
        return
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
            subprocess.run(command, cwd=REPOSITORY, env=environment(), check=True, capture_output=True)
    (folder / "ready").touch()


def table(rows: list[dict[str, object]], reference: dict[int, str]) -> str:
    tallies: dict[tuple[str, int], Tally] = {}
    ends: dict[int, list[str]] = {1: [], 2: []}
    for row in rows:
        ends[row["processes"]] += row.get("ended", []) + ([row["bits"]] if "bits" in row else [])
        tally = tallies.setdefault((row["signal"], row["processes"]), Tally())
        tally.signals += bool(row["signal"])
        tally.hits += bool(row.get("hit"))
        tally.stuck += row.get("stuck", 0)
        tally.failed += row.get("failed", 0)
    lines = [
        (f"{name} to 1 of {n}", tally.signals, tally.hits, tally.stuck, tally.failed)
        for (name, n), tally in sorted(tallies.items())
        if name
    ]
    text = machine.table(("signal", "sent", "to a running process", "stuck", "other errors"), lines)
    for n, bits in ends.items():
        same = sum(value == reference[n] for value in bits)
        text += (
            f"\n{n} processes: {len(bits)} runs came to their end, {same} bit for bit as the undisturbed one"
        )
    return text


if __name__ == "__main__":
    main()
