"""The verb `evaluate`, and the evaluation that training runs: every task whose data is there.

Retrieval and the probes are tasks of the verb as well; they run when they are named.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from focusclip_jax import config as configs
from focusclip_jax import page, plots, sharding, state
from focusclip_jax import workdir as workdirs
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import (
    datasets,
    embedding_cache,
    frozen,
    report,
    tasks,
    training_text,
    zero_shot,
)
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.frozen import Frozen
from focusclip_jax.evaluation.tasks import Task
from focusclip_jax.evaluation.training_text import TrainingText
from focusclip_jax.evaluation.zero_shot import Result


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a model answered on one task. similarities: (N, K), cosine of each image with each class."""

    task: Task
    images: EvaluationSet
    similarities: np.ndarray
    rows: list[Result]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """The tasks whose data is there, and a sentence for each that is not."""

    tasks: tuple[tuple[Task, EvaluationSet], ...]
    absent: tuple[str, ...]

    @classmethod
    def open(cls, names: Sequence[str], data_dir: pathlib.Path, prompts: str = "paper") -> Benchmark:
        """names: of `tasks.TASKS`. prompts: which of their prompt sets is asked.

        Raises UserError for an unknown task or prompt set, or damaged data.
        """
        wanted = [tasks.with_prompts(tasks.by_name(name), prompts) for name in names]
        absences = {task.name: datasets.absent(task, data_dir) for task in wanted}
        present = tuple((task, datasets.load(task, data_dir)) for task in wanted if not absences[task.name])
        return cls(present, tuple(sentence for sentence in absences.values() if sentence))

    def run(
        self, encoder: zero_shot.Encoder, training: TrainingText | None, step: int, batch_size: int
    ) -> Iterator[Outcome]:
        """Task by task, its similarities and rows of the results table."""
        for task, images in self.tasks:
            similarities = zero_shot.similarities(encoder, task, images, batch_size)
            rows = zero_shot.score(task, images, similarities, training, step)
            yield Outcome(task, images, similarities, rows)


def draw_answers(outcome: Outcome, folder: pathlib.Path, suffix: str = "") -> list[pathlib.Path]:
    """Images answered right and wrong, and what was taken for what, class by class; returns the files.

    Where images have several labels, the precision of each class takes the place of what was taken for what.
    """
    name = f"{outcome.task.name}{suffix}"
    shown = folder / f"predictions-{name}.png"
    drawn = [plots.predictions(shown, outcome.task, outcome.images, outcome.similarities)]
    for row in outcome.rows:
        if row.confusion:
            drawn.append(plots.confusion(folder / f"confusion-{name}-{row.rows}.png", row))
        else:
            drawn.append(plots.precisions(folder / f"precision-{name}-{row.rows}.png", row))
    return drawn


def load_encoder(workdir: workdirs.Workdir, step: int | None = None) -> tuple[Encoder, int]:
    """The model of a workdir at a step (None: the newest), and the step. Needs no heatmaps and no shards."""
    config = configs.from_json(workdir.config)
    tokenizer = Tokenizer.load(workdir.tokenizer)
    mesh = mesh_here(config.mesh.fsdp)
    architecture = state.architecture(config, tokenizer.vocab_size)
    checkpoints = Checkpoints(workdir.checkpoints)
    step, params = checkpoints.restore_params(step, state.abstract_params(architecture, mesh))
    checkpoints.close()
    graph, data = state.graph_of(architecture), config.data
    return Encoder(graph, params, architecture, tokenizer, data.fit, data.interpolation), step


def mesh_here(fsdp: int) -> Mesh:
    """A mesh of the devices that are here, split as finely as training's and these devices allow."""
    devices = jax.device_count()
    return sharding.make_mesh(-1, devices if fsdp == -1 else math.gcd(fsdp, devices))


def main(arguments: list[str]) -> None:
    """Evaluate what is there, write the results table in every format, and draw the pictures.

    Where a task fails, what the tasks before it gave is written and printed before the error is.
    """
    options = parse(arguments)
    workdir = workdirs.Workdir(options.workdir)
    config = configs.from_json(workdir.config)
    data_dir = options.data_dir or pathlib.Path(config.evaluation.data_dir)
    unasked = [name for name, task in tasks.TASKS.items() if not task.opt_in]
    names = options.tasks.split(",") if options.tasks else unasked
    beside = Frozen.open([name for name in names if name in frozen.TASKS], data_dir)
    benchmark = Benchmark.open(
        [name for name in names if name not in frozen.TASKS], data_dir, options.prompts
    )
    for sentence in (*benchmark.absent, *beside.absent):
        print(sentence)
    if not (benchmark.tasks or beside.packed or beside.probed):
        raise UserError(f"{data_dir}: holds the data of no task; name another folder by --data-dir")
    training = training_text.read(workdir.training_text)
    model, step = load_encoder(workdir, options.step)
    encoder = embedding_cache.open_for(model, workdir, step)
    suffix = "" if options.prompts == "paper" else f"-{options.prompts}"
    name = f"step-{step:06d}-{data_dir.absolute().name}{suffix}"
    name += f"-{'+'.join(names)}" if options.tasks else ""
    results, drawn, more = [], [], []
    try:
        for outcome in benchmark.run(encoder, training, step, config.evaluation.batch_size):
            results += outcome.rows
            drawn += draw_answers(outcome, workdir.plots, suffix)
        for row in beside.run(encoder, step, config.evaluation.batch_size):
            more.append(row)
    finally:
        if results:
            written = report.write(results, workdir.evaluation / name, benchmark.absent)
            print(report.table(results))
            print("\nPictures:", *drawn, sep="\n  ")
            print("\nResults:", *written, sep="\n")
        if more:
            written = frozen.write(more, workdir.evaluation / frozen.FOLDER / name, beside.absent)
            print("", frozen.table(more), "Results:", sep="\n\n")
            print(*written, sep="\n")
        print(f"\n{encoder.summary()}")
    print(f"\nReport: {page.write([workdir.root])}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluate", description="Zero-shot results of a checkpoint.")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of a training run")
    parser.add_argument("--step", type=int, help="step of the checkpoint; the newest by default")
    named = [name for name, task in tasks.TASKS.items() if task.opt_in]
    parser.add_argument(
        "--tasks",
        help=f"comma-separated, of: {', '.join((*tasks.TASKS, *frozen.TASKS))}; "
        f"by default all but {', '.join((*named, *frozen.TASKS))}",
    )
    parser.add_argument("--data-dir", type=pathlib.Path, help="folder with one folder per data set")
    parser.add_argument(
        "--prompts", default="paper", help="paper, its one prompt a class (the default), or ensemble-v1"
    )
    return parser.parse_args(arguments)
