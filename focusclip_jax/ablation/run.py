"""The verb `ablate`: run the cells of a grid that have no result yet, and report what may be concluded.

    ./launch.sh ablate --config=configs/ablation_figures.py

A cell is an ordinary training run, so one that was killed goes on bit for bit from its last checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import json
import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import jax
from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax import losses, train, workdir
from focusclip_jax.ablation import grid as grids
from focusclip_jax.ablation import report, results, together
from focusclip_jax.ablation.experiment import Tested
from focusclip_jax.ablation.grid import Cell, Grid
from focusclip_jax.ablation.results import Result
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text
from focusclip_jax.run import Run, set_up
from focusclip_jax.state import TrainState
from focusclip_jax.workdir import Workdir

DONE, OTHER_CODE, OWED = "done", "done by other code", "owed"


@dataclasses.dataclass(frozen=True)
class Folders:
    """results: of the small JSON files. runs: of the workdirs."""

    results: pathlib.Path
    runs: pathlib.Path

    def root(self, cell: Cell) -> pathlib.Path:
        return self.runs / f"{cell.name}-{cell.key}"


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    grid = grids.load(options.config)
    if options.data_dir:
        grid = dataclasses.replace(grid, experiment=grid.experiment.at(options.data_dir))
    folder = options.results or pathlib.Path("results") / grid.name
    runs = options.runs or pathlib.Path("runs/ablation") / grid.name
    if options.list:
        print(listing(grid, folder))
        return
    if not options.report:
        deadline = time.monotonic() + 60 * options.budget_minutes if options.budget_minutes else None
        accepted = (DONE, OTHER_CODE) if options.any_code else (DONE,)
        folders = Folders(folder, runs)
        unfinished = run(grid, folders, options.cells, accepted, deadline, options.together)
        if unfinished:
            print(unfinished)
    for path in report.write(grid, folder):
        print(path)
    print()
    print(report.verdicts(grid, report.gather(grid, folder)))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ablate", description="Run a grid of trainings, cell by cell.")
    parser.add_argument("--config", required=True, help="Python file with get_grid()")
    parser.add_argument("--cells", default="", metavar="PATTERN", help="only cells of such a name: 'dual-*'")
    parser.add_argument("--list", action="store_true", help="say which cells are done and which are owed")
    parser.add_argument("--report", action="store_true", help="write the report anew and train nothing")
    parser.add_argument(
        "--any-code", action="store_true", help="take results of other versions of the code as done"
    )
    parser.add_argument(
        "--together", type=int, default=1, metavar="N", help="train up to N seeds at once (docs/focus.md)"
    )
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="stop cleanly after M minutes")
    parser.add_argument(
        "--data-dir", type=pathlib.Path, metavar="DIR", help="your own data, for grids on photographs"
    )
    parser.add_argument("--results", type=pathlib.Path, metavar="DIR", help="default: results/NAME")
    parser.add_argument("--runs", type=pathlib.Path, metavar="DIR", help="default: runs/ablation/NAME")
    options = parser.parse_args(arguments)
    if options.together < 1:
        raise UserError(f"--together={options.together}: expected a number of seeds, at least 1")
    return options


def status(folder: pathlib.Path, cell: Cell) -> str:
    found = results.find(folder, cell)
    if found is None:
        return OWED
    return DONE if found.about["key"] == cell.key else OTHER_CODE


def listing(grid: Grid, folder: pathlib.Path) -> str:
    """One line a cell, and what they sum up to."""
    cells = grid.cells()
    width = max(len(cell.name) for cell in cells)
    found = [status(folder, cell) for cell in cells]
    lines = [f"{cell.name:<{width}}  {what}" for cell, what in zip(cells, found, strict=True)]
    counts = ", ".join(f"{found.count(what)} {what}" for what in (DONE, OTHER_CODE, OWED) if what in found)
    sure = len(grid.cells(grid.seeds[: grid.fewest_seeds]))
    return "\n".join([*lines, "", f"{counts}; {sure} cells are the least, more seeds follow where needed"])


def run(
    grid: Grid,
    folders: Folders,
    pattern: str,
    accepted: Sequence[str],
    deadline: float | None,
    at_once: int = 1,
) -> str:
    """Run what is owed, seed by seed. Returns "" or a sentence that says what is left and why.

    pattern: of the names of the cells to run; "" adds seeds until the intervals are narrow enough.
    accepted: what `status` may be of a cell that is not run again. deadline: by `time.monotonic`.
    at_once: seeds of one method and condition that are trained together, at most.
    Raises UserError where no cell is called by the pattern.
    """
    if pattern:
        cells = [cell for cell in grid.cells() if fnmatch.fnmatch(cell.name, pattern)]
        if not cells:
            raise UserError(f"--cells={pattern}: no cell has such a name; --list shows them")
        return run_cells(grid, cells, folders, accepted, deadline, at_once)
    for count in range(grid.fewest_seeds, len(grid.seeds) + 1):
        cells = grid.cells(grid.seeds[:count])
        unfinished = run_cells(grid, cells, folders, accepted, deadline, at_once)
        if unfinished:
            return unfinished
        widest = report.widest(grid, report.gather(grid, folders.results))
        if widest <= grid.half_width:
            return ""
    return (
        f"All {len(grid.seeds)} seeds are used and the widest interval is still ± {100 * widest:.1f} points "
        f"(wanted: {100 * grid.half_width:.1f})."
    )


def run_cells(
    grid: Grid,
    cells: Sequence[Cell],
    folders: Folders,
    accepted: Sequence[str],
    deadline: float | None,
    at_once: int = 1,
) -> str:
    owed = [cell for cell in cells if status(folders.results, cell) not in accepted]
    pace = Pace(sum(cell.flops for cell in owed))
    count = 0
    for group in together.groups(owed, at_once, lambda cell: whole_steps(folders.root(cell))):
        if deadline is not None and time.monotonic() >= deadline:
            left = f"{len(owed) - count} of {len(cells)} cells are owed"
            return f"The budget is spent: {left}; the same command goes on."
        names = ", ".join(cell.name for cell in group)
        which = f"cell {count + 1}" if len(group) == 1 else f"cells {count + 1} to {count + len(group)}"
        print(f"\n{names}: {which} of the {len(owed)} owed; {pace.left()}", flush=True)
        prepared = [grid.experiment.prepared(cell.config, cell.condition) for cell in group]
        finished = 0
        with pace.of(sum(cell.flops for cell in group)):
            for cell, result in run_group(grid, group, prepared, folders, deadline):
                results.write(results.path_of(folders.results, cell), result)
                finished += 1
        count += finished
        if finished < len(group):
            left = f"{len(owed) - count} of {len(cells)} cells are owed"
            return f"Stopped and saved: {left}; the same command goes on."
    return ""


class Pace:
    """The time left, from the operations of the cells that this process has finished."""

    def __init__(self, flops: float):
        self._left, self._done, self._seconds = flops, 0.0, 0.0

    @contextlib.contextmanager
    def of(self, flops: float) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._left -= flops
        self._done += flops
        self._seconds += time.monotonic() - start

    def left(self) -> str:
        if not self._done:
            return "the time left is known after it"
        return f"about {self._left * self._seconds / self._done / 60:.0f} minutes left"


def run_cell(
    grid: Grid, cell: Cell, config: ConfigDict, root: pathlib.Path, deadline: float | None
) -> Result | None:
    """Train from where the workdir is, then test. None where a signal or the deadline came first.

    config: the cell's, with the shards where they are.
    """
    this = begin(config, root)
    checkpoints = Checkpoints(this.workdir.checkpoints, config.keep_checkpoints)
    with contextlib.closing(checkpoints):
        current = train.start(this, checkpoints)
        log = workdir.MetricsLog(this.workdir.metrics, int(current.step))
        with stopping_at(deadline):
            current = train.train(this, checkpoints, log, current)
    if int(current.step) < config.steps:
        return None
    return tested(grid, cell, this, current)


def begin(config: ConfigDict, root: pathlib.Path) -> Run:
    """`set_up`, with what follows from the captions alone made once for all cells that train on them.

    That is the tokenised captions, which their cache names by content, and what the captions say. It lies
    beside the workdirs and is linked or copied into them.
    """
    fingerprint = Shards.open(config.data.train, "train").fingerprint()
    shared = Workdir(root.parent / f"captions-{fingerprint[:16]}")
    own = Workdir(root)
    if not own.cache.exists():
        shared.cache.mkdir(parents=True, exist_ok=True)
        root.mkdir(parents=True, exist_ok=True)
        own.cache.symlink_to(pathlib.Path("..") / shared.root.name / "cache", target_is_directory=True)
    if shared.training_text.exists() and not own.training_text.exists():
        write_text(own.training_text, shared.training_text.read_text())
    this = set_up(config, root)
    if not shared.training_text.exists():
        write_text(shared.training_text, own.training_text.read_text())
    return this


def run_group(
    grid: Grid,
    cells: Sequence[Cell],
    prepared: Sequence[ConfigDict],
    folders: Folders,
    deadline: float | None,
) -> Iterator[tuple[Cell, Result]]:
    """Train the cells at once, then test each. Yields nothing where a signal or the deadline came first."""
    if len(cells) == 1:
        result = run_cell(grid, cells[0], prepared[0], folders.root(cells[0]), deadline)
        if result is not None:
            yield cells[0], result
        return
    together.check(prepared[0], len(cells))
    runs = [begin(config, folders.root(cell)) for cell, config in zip(cells, prepared, strict=True)]
    with contextlib.ExitStack() as closing:
        seeds = []
        for cell, this in zip(cells, runs, strict=True):
            checkpoints = Checkpoints(this.workdir.checkpoints, this.config.keep_checkpoints)
            closing.enter_context(contextlib.closing(checkpoints))
            seeds.append(together.Seed(cell.name, this, checkpoints))
        states = together.start(seeds)
        with stopping_at(deadline):
            states = together.train_together(seeds, states)
    if int(states[0].step) < prepared[0].steps:
        return
    for cell, this, current in zip(cells, runs, states, strict=True):
        yield cell, tested(grid, cell, this, current)


def whole_steps(root: pathlib.Path) -> list[int]:
    """Of the checkpoints of a workdir, which may not be there yet."""
    with Checkpoints(Workdir(root).checkpoints) as checkpoints:
        return checkpoints.steps()


@contextlib.contextmanager
def stopping_at(deadline: float | None) -> Iterator[None]:
    """Send this process a SIGTERM at the deadline: the training loop answers it by saving and ending."""
    if deadline is None:
        yield
        return
    over = threading.Event()
    clock = threading.Thread(target=_ring, args=(deadline, over), daemon=True)
    clock.start()
    try:
        yield
    finally:
        over.set()
        clock.join()


def _ring(deadline: float, over: threading.Event) -> None:
    # A thread and not an alarm: SIGALRM is the loop's own, for a batch that does not come.
    if over.wait(max(deadline - time.monotonic(), 1.0)):
        return
    while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # the loop does not listen yet
        if over.wait(1.0):
            return
    os.kill(os.getpid(), signal.SIGTERM)


def tested(grid: Grid, cell: Cell, this: Run, current: TrainState) -> Result:
    start = time.monotonic()
    found = grid.experiment.tested(this.encoder(current.params), this, cell.condition)
    seconds = time.monotonic() - start
    rows = [row for row in workdir.read_metrics(this.workdir.metrics) if "loss" in row]
    focus = losses.uses_focus(cell.config.loss)
    return Result(
        about=about(grid, cell, this, rows, seconds, found),
        measures=found.measures,
        attention={
            reading: {name: round(value, 6) for name, value in shares.items()}
            for reading, shares in found.attention.items()
        },
        alpha=[(row["step"], round(row["alpha"], 5)) for row in rows] if focus else [],
        loss=[(row["step"], round(row["loss"], 5)) for row in rows],
    )


def about(grid: Grid, cell: Cell, this: Run, rows: list[dict], test_seconds: float, found: Tested) -> dict:
    started = json.loads(this.workdir.run.read_text())
    last, training = 0, 0.0
    for row in rows:  # the log has the mean of the steps since the row before, over all restarts
        training += (row["step"] - last) * row["step_seconds"]
        last = row["step"]
    return {
        "method": cell.method,
        grid.experiment.axis: cell.condition,
        "seed": cell.seed,
        "settings": cell.settings,
        "key": cell.key,
        "code": grids.code_version(grid.experiment.code),
        "commit": started["commit"],
        "dirty": started["dirty"],
        "packages": started["packages"],
        "device": device(),
        "config": grids.differences(cell.config, configs.default()),
        "steps": cell.config.steps,
        "seeds_together": max((row.get("seeds_together", 1) for row in rows), default=1),
        "training_flops": cell.flops,
        "seconds": {"training": round(training, 1), "testing": round(test_seconds, 1)},
        "shards": {"train": started["shards"], **found.shards},
        **found.about,
    }


def device() -> str:
    """Such as "2 CPU cores" or "1 x NVIDIA H100"."""
    if jax.devices()[0].platform == "cpu":
        return f"{os.cpu_count()} CPU cores"
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"
