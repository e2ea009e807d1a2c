"""The verb `train`: from a config and shards to checkpoints, a results table and pictures.

The order inside the loop is part of the contract: update, log, save, evaluate, and only then the next
batch, so that a run stopped anywhere goes on exactly as if it had not been stopped.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pathlib
import signal
import sys
from collections.abc import Iterator

import grain
import jax
from flax import nnx
from ml_collections import ConfigDict
from tqdm import tqdm

from focusclip_jax import compilation, distributed, page, pictures, sharding, state
from focusclip_jax import config as configs
from focusclip_jax import optimizer as optimizers
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.loader import Batch, train_batches
from focusclip_jax.errors import UserError
from focusclip_jax.evaluate import Outcome
from focusclip_jax.evaluation import report
from focusclip_jax.meter import Meter
from focusclip_jax.run import Run, loader_settings, set_up
from focusclip_jax.state import TrainState
from focusclip_jax.step import make_train_step, make_view_step, put
from focusclip_jax.weights.load import starting_values
from focusclip_jax.workdir import MetricsLog, Workdir

PATIENCE_SECONDS = 600  # for one batch
WORKER_DIED = "Worker process was terminated"  # as Grain says it


def main(arguments: list[str]) -> None:
    """Train from where the workdir is, evaluate, print the table and draw the pictures.

    Several processes do so together; the first one writes and prints.
    """
    configs.define_flags()
    config, root = configs.parse(arguments)
    distributed.initialize()
    compilation.use_cache()
    checkpoints = Checkpoints(Workdir(root).checkpoints, config.keep_checkpoints)
    try:
        with distributed.ending_together(checkpoints.last_good), distributed.only_first_speaks():
            run(config, root, checkpoints)
    except (UserError, OSError) as error:
        print(f"\nerror: {error}", file=sys.stderr)  # below the progress bar
        sys.stdout.flush()
        sys.stderr.flush()
        # At the end of Python the loader would wait for a lost worker, and Orbax for a save that failed.
        os._exit(2)


def run(config: ConfigDict, root: pathlib.Path, checkpoints: Checkpoints) -> None:
    with distributed.first_before_others():  # who find the caches that it filled
        this = set_up(config, root)
    with checkpoints:
        current = start(this, checkpoints)
        log = MetricsLog(this.workdir.metrics, int(current.step))
        try:
            current = train(this, checkpoints, log, current)
        except OSError as error:
            raise UserError(f"{error}; {checkpoints.last_good()}") from None
    if int(current.step) < config.steps:
        print(f"Stopped and saved at step {int(current.step)}; the same command goes on from there.")
        return
    finish(this, log, current)


def start(this: Run, checkpoints: Checkpoints) -> TrainState:
    """The newest whole checkpoint, or where there is none the initial state with the config's weights."""
    for step in checkpoints.remove_unfinished():
        print(f"Checkpoint {step} was not finished when the last run ended; it is removed.")
    if distributed.of_first(lambda: len(checkpoints.steps())):
        current = checkpoints.restore(None, this.abstract)
        print(f"Going on from step {int(current.step)} of {this.workdir.root}.")
        return current
    current = state.initial(this.architecture, this.optimizer, this.mesh, this.config.seed)
    values = starting_values(this.architecture, current.params, this.config.weights)
    return state.with_values(current, values)


def train(this: Run, checkpoints: Checkpoints, log: MetricsLog, current: TrainState) -> TrainState:
    """The loop. Returns early, with everything saved, after a SIGTERM."""
    config = this.config
    first = int(current.step)
    update = make_train_step(this.graph, this.optimizer, this.abstract, this.mesh, config)
    rate = optimizers.schedule(config.optimizer, config.steps)
    batches = train_batches(
        this.shards,
        this.table,
        loader_settings(config),
        start_step=first,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    meter = Meter(config, this.architecture, this.mesh.devices.flatten().tolist())
    evaluated = distributed.of_first(lambda: log.has_evaluation(first))
    if 0 < first < config.steps and first % config.evaluate_every == 0 and not evaluated:
        log.write(first, summary(this, current.params, evaluate(this, current)))
    with (
        StopSignal() as stop,
        ending_loader(batches),
        tqdm(total=config.steps, initial=first, desc="training", unit="step") as bar,
    ):
        for step in range(first + 1, config.steps + 1):
            with meter.waiting():
                batch = next_batch(batches, checkpoints)
            current, metrics = update(current, put(batch, this.mesh))
            meter.add(metrics, tokens=batch["tokens"].shape[-1])
            meter.wait_for_step_before()
            bar.update()
            stopping = stop.after(step)  # asked once: a signal later in this step is for the next
            last = step == config.steps or stopping
            saving = last or step % config.checkpoint_every == 0
            evaluating = step % config.evaluate_every == 0 and not last
            if saving or step % config.log_every == 0:
                values = meter.read()
                check_finite(values, step, checkpoints)
                log.write(step, values | {"learning_rate": float(rate(step - 1))})
                bar.set_postfix_str(progress(values))
            if saving:
                checkpoints.save(step, current)
            if evaluating:
                log.write(step, summary(this, current.params, evaluate(this, current)))
            if saving or evaluating:
                meter.leave_out_pause()
            if stopping:
                break
    checkpoints.wait()
    return current


class NoBatch(UserError):
    """The loader gives no batch any more."""


@contextlib.contextmanager
def ending_loader(batches: grain.DatasetIterator) -> Iterator[None]:
    """Close the loader after the block; where it was what failed, kill its workers instead.

    One that died or was stopped in the middle of a message would be waited for without end.
    """
    try:
        yield
    except NoBatch:
        for worker in multiprocessing.active_children():
            worker.kill()
        raise
    except BaseException:
        batches.close()
        raise
    batches.close()


def progress(values: dict[str, float]) -> str:
    """What the bar shows of a row: loss and speed."""
    parts = [f"loss {values['loss']:.3f}", f"{values['images_per_second']:.0f} images/s"]
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.0%}")
    if values["data_wait"] >= 0.05:
        parts.append(f"waiting for data {values['data_wait']:.0%}")
    return ", ".join(parts)


def next_batch(batches: Iterator[Batch], checkpoints: Checkpoints) -> Batch:
    """Raises NoBatch where none comes: a worker died or hangs, or a file system does not answer."""

    def give_up(*_):
        raise NoBatch(
            f"no batch came for {PATIENCE_SECONDS} s: a loader worker or the file system of the shards "
            f"hangs; {checkpoints.last_good()}"
        )

    former = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        return next(batches)
    except RuntimeError as error:
        if WORKER_DIED not in str(error):
            raise
        reason = str(error).split(". ")[0]
        raise NoBatch(f"no batch comes: {reason}; {checkpoints.last_good()}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def check_finite(values: dict[str, float], step: int, checkpoints: Checkpoints) -> None:
    """Raise UserError before anything is saved that no training could go on from.

    A gradient that is not finite makes the parameters so, one step before the loss shows it.
    """
    for name, what in (("loss", "loss"), ("gradient_norm", "norm of the gradient")):
        if not math.isfinite(values[name]):
            raise UserError(
                f"the {what} is {values[name]} at step {step}; {checkpoints.last_good()}; lower "
                "--config.optimizer.learning_rate or raise --config.optimizer.warmup_steps"
            )


def evaluate(this: Run, current: TrainState) -> list[Outcome]:
    batch_size = this.config.evaluation.batch_size
    encoder = this.encoder(current.params)
    return list(this.benchmark.run(encoder, this.training_text, int(current.step), batch_size))


def summary(this: Run, params, outcomes: list[Outcome]) -> dict[str, float]:
    """The numbers of an evaluation that `metrics.jsonl` keeps: validation losses and zero-shot accuracies."""
    values: dict[str, float] = {}
    if this.validation is not None:
        values |= {f"validation/{name}": value for name, value in this.validation.run(params).items()}
    for row in (row for outcome in outcomes for row in outcome.rows):
        values[f"zero_shot/{row.task} {row.rows}"] = row.accuracy
        values[f"zero_shot/{row.task} {row.rows}/chance"] = row.chance
    return values


def finish(this: Run, log: MetricsLog, current: TrainState) -> None:
    """The last evaluation, its table and JSON, the pictures, and a page of all of it."""
    step = int(current.step)
    outcomes = evaluate(this, current)
    if not distributed.of_first(lambda: log.has_evaluation(step)):
        log.write(step, summary(this, current.params, outcomes))
    view = make_view_step(this.graph, this.mesh)

    def embed(batch):
        return view(
            current.params, {name: sharding.split_rows(rows, this.mesh) for name, rows in batch.items()}
        )

    shown = this.validation or this
    drawn = pictures.draw(
        this.workdir,
        shown.shards,
        shown.table,
        loader_settings(this.config),
        embed,
        float(nnx.merge(this.graph, current.params).alpha),
        this.architecture,
        outcomes,
        step,
    )
    results = [row for outcome in outcomes for row in outcome.rows]
    if results and distributed.is_first():
        report.write(results, this.workdir.evaluation / f"step-{step:06d}", this.benchmark.absent)
        print(f"\n{report.table(results)}")
    if distributed.is_first():
        print(f"\nReport: {page.write([this.workdir.root])}")
    print("\nPictures:", *drawn, sep="\n  ")


class StopSignal:
    """SIGTERM or Ctrl-C lets the loop save and end. A second one ends at once."""

    def __enter__(self) -> StopSignal:
        self._came = False
        # With several processes SIGTERM is JAX's, by which all of them stop at one step.
        alone = jax.process_count() == 1
        mine = (signal.SIGTERM, signal.SIGINT) if alone else (signal.SIGINT,)
        self._former = {which: signal.signal(which, self._stop) for which in mine}
        return self

    def after(self, step: int) -> bool:
        """Whether `step` is the last. To be asked once for every step."""
        return self._came if jax.process_count() == 1 else distributed.told_to_stop(step)

    def _stop(self, *_):
        self._came = True
        self._restore()
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def _restore(self):
        for which, handler in self._former.items():
            signal.signal(which, handler)

    def __exit__(self, *_):
        self._restore()
