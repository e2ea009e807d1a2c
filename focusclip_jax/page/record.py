"""What a workdir holds, read without JAX."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from focusclip_jax import config as configs
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import frozen, report
from focusclip_jax.evaluation.zero_shot import Result

PARTS = ("config.json", "run.json", "metrics.jsonl", "evaluation")  # one of them makes a folder a workdir


@dataclasses.dataclass(frozen=True)
class Record:
    """What a workdir holds. label: the run's name on the page. What is absent is empty."""

    folder: pathlib.Path
    label: str
    config: dict[str, Any]  # setting → value, all of them
    about: dict[str, Any]  # run.json
    rows: list[dict[str, float]]  # of metrics.jsonl
    results: list[Result]
    beside: list[frozen.Result]
    parameters: str

    @property
    def step(self) -> int | None:
        steps = [int(row["step"]) for row in self.rows] + [result.step for result in self.results]
        return max(steps, default=None)

    @property
    def devices(self) -> str:
        counts = Counter(map(str, self.about.get("devices", ())))
        return ", ".join(f"{n} × {name}" for name, n in counts.items())


def read(workdir: pathlib.Path) -> Record:
    """Raises UserError for a folder that is no workdir and for a damaged file, which it names."""
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder; expected the workdir of a run")
    if not any((workdir / name).exists() for name in PARTS):
        raise UserError(f"{workdir}: expected the workdir of a run, but it holds none of {', '.join(PARTS)}")
    config = workdir / "config.json"
    parameters = workdir / "parameters.txt"
    return Record(
        folder=workdir,
        label=workdir.resolve().name,
        config=dict(configs.leaves(configs.from_json(config))) if config.exists() else {},
        about=report.read_object(workdir / "run.json"),
        rows=read_metrics(workdir / "metrics.jsonl"),
        results=[row for _, row in report.ordered([("", row) for row in report.latest(workdir)])],
        beside=frozen.latest(workdir),
        parameters=parameters.read_text("utf-8") if parameters.exists() else "",
    )


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
    """Rows in the order of their steps; a last line that a killed process left unfinished is dropped.

    Raises UserError naming a line that is not a row.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text("utf-8").split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            rows.append({str(name): float(value) for name, value in row.items()} | {"step": int(row["step"])})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path}, line {number}: expected a JSON object of numbers with a step") from None
    return sorted(rows, key=lambda row: row["step"])


def labelled(records: Sequence[Record]) -> list[Record]:
    """Folders with equal names are told apart by their paths."""
    names = Counter(record.label for record in records)
    return [
        dataclasses.replace(record, label=record.label if names[record.label] == 1 else str(record.folder))
        for record in records
    ]


def speed(record: Record) -> dict[str, float]:
    """Medians over the rows of training, without the first one where there are others: it compiled."""
    rows = [row for row in record.rows if "images_per_second" in row]
    steady = rows[1:] or rows
    if not steady:
        return {}
    names = ("images_per_second", "step_seconds", "data_wait", "teraflops_per_second_per_chip", "mfu")
    present = [name for name in names if any(name in row for row in steady)]
    medians = {name: statistics.median(row[name] for row in steady if name in row) for name in present}
    for name in ("device_memory_gib", "host_memory_gib"):
        if peaks := [row[name] for row in rows if name in row]:
            medians[name] = max(peaks)
    taken, before = 0.0, 0.0
    for row in rows:
        taken += row["step_seconds"] * (row["step"] - before)
        before = row["step"]
    return medians | {"taken": taken}
