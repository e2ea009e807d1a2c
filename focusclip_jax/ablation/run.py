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
from focusclip_jax.ablation import report, results
from focusclip_jax.ablation.experiment import Tested
from focusclip_jax.ablation.grid import Cell, Grid
from focusclip_jax.ablation.results import Result
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.errors import UserError
from focusclip_jax.run import Run, set_up
from focusclip_jax.state import TrainState

DONE, OTHER_CODE, OWED = "done", "done by other code", "owed"


@dataclasses.dataclass(frozen=True)
class Folders:
    """results: of the small JSON files. runs: of the workdirs."""

    results: pathlib.Path
    runs: pathlib.Path


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
        unfinished = run(grid, Folders(folder, runs), options.cells, accepted, deadline)
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
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="stop cleanly after M minutes")
    parser.add_argument(
        "--data-dir", type=pathlib.Path, metavar="DIR", help="your own data, for grids on photographs"
    )
    parser.add_argument("--results", type=pathlib.Path, metavar="DIR", help="default: results/NAME")
    parser.add_argument("--runs", type=pathlib.Path, metavar="DIR", help="default: runs/ablation/NAME")
    return parser.parse_args(arguments)


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


def run(grid: Grid, folders: Folders, pattern: str, accepted: Sequence[str], deadline: float | None) -> str:
    """Run what is owed, seed by seed. Returns "" or a sentence that says what is left and why.

    pattern: of the names of the cells to run; "" adds seeds until the intervals are narrow enough.
    accepted: what `status` may be of a cell that is not run again. deadline: by `time.monotonic`.
    Raises UserError where no cell is called by the pattern.
    """
    if pattern:
        cells = [cell for cell in grid.cells() if fnmatch.fnmatch(cell.name, pattern)]
        if not cells:
            raise UserError(f"--cells={pattern}: no cell has such a name; --list shows them")
        return run_cells(grid, cells, folders, accepted, deadline)
    for count in range(grid.fewest_seeds, len(grid.seeds) + 1):
        unfinished = run_cells(grid, grid.cells(grid.seeds[:count]), folders, accepted, deadline)
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
    grid: Grid, cells: Sequence[Cell], folders: Folders, accepted: Sequence[str], deadline: float | None
) -> str:
    owed = [cell for cell in cells if status(folders.results, cell) not in accepted]
    pace = Pace(sum(cell.flops for cell in owed))
    for count, cell in enumerate(owed):
        left = f"{len(owed) - count} of {len(cells)} cells are owed"
        if deadline is not None and time.monotonic() >= deadline:
            return f"The budget is spent: {left}; the same command goes on."
        print(f"\n{cell.name}: cell {count + 1} of the {len(owed)} owed; {pace.left()}", flush=True)
        config = grid.experiment.prepared(cell.config, cell.condition)
        with pace.of(cell.flops):
            result = run_cell(grid, cell, config, folders.runs / f"{cell.name}-{cell.key}", deadline)
        if result is None:
            return f"Stopped and saved: {left}; the same command goes on."
        results.write(results.path_of(folders.results, cell), result)
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
    this = set_up(config, root)
    checkpoints = Checkpoints(this.workdir.checkpoints, config.keep_checkpoints)
    with contextlib.closing(checkpoints):
        current = train.start(this, checkpoints)
        log = workdir.MetricsLog(this.workdir.metrics, int(current.step))
        with stopping_at(deadline):
            current = train.train(this, checkpoints, log, current)
    if int(current.step) < config.steps:
        return None
    return tested(grid, cell, this, current)


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
