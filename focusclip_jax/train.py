"""The verb `train`: from a config and shards to checkpoints, a results table and pictures.

The order inside the loop is part of the contract: update, log, save, evaluate, and only then the next
batch, so that a run stopped anywhere goes on exactly as if it had not been stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import signal
import threading
import time

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from focusclip_jax import config as configs
from focusclip_jax import optimizer as optimizers
from focusclip_jax import pictures, sharding, state
from focusclip_jax import workdir as workdirs
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.loader import LoaderSettings, train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable, names_a_file
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.evaluate import Benchmark, Outcome
from focusclip_jax.evaluation import report, tasks, training_text
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.state import TrainState
from focusclip_jax.step import make_train_step, make_view_step, put
from focusclip_jax.validation import Validation
from focusclip_jax.weights.load import starting_values
from focusclip_jax.workdir import MetricsLog, Workdir


def main(arguments: list[str]) -> None:
    configs.define_flags()
    config, root = configs.parse(arguments)
    run(config, root)


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that is fixed before the first step."""

    config: ConfigDict
    workdir: Workdir
    mesh: Mesh
    shards: Shards
    table: TokenTable
    validation: Validation | None
    tokenizer: Tokenizer
    training_text: training_text.TrainingText
    benchmark: Benchmark
    architecture: Architecture
    graph: nnx.GraphDef
    optimizer: optax.GradientTransformation
    abstract: TrainState

    def encoder(self, params) -> Encoder:
        return Encoder(self.graph, params, self.architecture, self.tokenizer)


def run(config: ConfigDict, root: pathlib.Path) -> None:
    """Train from where the workdir is, evaluate, print the table and draw the pictures."""
    this = set_up(config, root)
    checkpoints = Checkpoints(this.workdir.checkpoints, config.keep_checkpoints)
    with contextlib.closing(checkpoints):
        current = start(this, checkpoints)
        log = MetricsLog(this.workdir.metrics, int(current.step))
        current = train(this, checkpoints, log, current)
    if int(current.step) < config.steps:
        print(f"Stopped and saved at step {int(current.step)}; the same command goes on from there.")
        return
    finish(this, log, current)


def set_up(config: ConfigDict, root: pathlib.Path) -> Run:
    """Open the data, settle the tokenizer, describe the model; record or check all of it in the workdir."""
    check_inputs(config)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
    sharding.check_batch(config.batch_size, mesh)
    shards = Shards.open(config.data.train, "train")
    workdir = workdirs.create(root)
    tokenizer = settle_tokenizer(config, workdir, shards)
    workdirs.begin(workdir, config, shards.fingerprint(), tokenizer.hash)
    tokenizer.save(workdir.tokenizer)
    architecture = state.architecture(config, tokenizer.vocab_size)
    graph = state.graph_of(architecture)
    optimizer = optimizers.make(config.optimizer, config.steps)
    benchmark = Benchmark.open(config.evaluation.tasks, pathlib.Path(config.evaluation.data_dir))
    for sentence in benchmark.absent:
        print(sentence)
    return Run(
        config=config,
        workdir=workdir,
        mesh=mesh,
        shards=shards,
        table=TokenTable.build(shards, tokenizer, config.text.context, workdir.cache),
        validation=open_validation(config, workdir, tokenizer, graph, mesh),
        tokenizer=tokenizer,
        training_text=settle_training_text(workdir, shards),
        benchmark=benchmark,
        architecture=architecture,
        graph=graph,
        optimizer=optimizer,
        abstract=state.abstract(architecture, optimizer, mesh),
    )


def open_validation(
    config: ConfigDict, workdir: Workdir, tokenizer: Tokenizer, graph, mesh
) -> Validation | None:
    """The held-back shards that the config names, if any."""
    if not config.data.validation:
        return None
    shards = Shards.open(config.data.validation, "validation")
    table = TokenTable.build(shards, tokenizer, config.text.context, workdir.cache)
    return Validation(shards, table, loader_settings(config), graph, mesh, config)


def check_inputs(config: ConfigDict) -> None:
    """Raise UserError that names every missing input of the config and the command that gets it."""
    lacking = []
    where = config.data.train
    if not where or ("*" not in where and not pathlib.Path(where).exists()):
        lacking.append(f"no shards at --config.data.train={where} (get them: {config.data.how_to_get})")
    tokenizer = config.text.tokenizer
    if names_a_file(tokenizer) and not pathlib.Path(tokenizer).is_file():
        lacking.append(
            f"no vocabulary at --config.text.tokenizer={tokenizer} (get it: {config.text.how_to_get}; "
            "or train one on the captions: --config.text.tokenizer=)"
        )
    for tower in ("image", "text"):
        path = config.weights[tower]
        if path != "none" and not pathlib.Path(path).exists():
            how = config.weights.how_to_get[tower]
            lacking.append(
                f"no weights at --config.weights.{tower}={path} (get them: {how}; "
                f"or start from random ones: --config.weights.{tower}=none)"
            )
    if lacking:
        raise UserError("; ".join(lacking))


def settle_tokenizer(config: ConfigDict, workdir: Workdir, shards: Shards) -> Tokenizer:
    """The tokenizer that the config names; "" is one trained on the captions, kept in the workdir."""
    if config.text.tokenizer:
        return Tokenizer.load(config.text.tokenizer)
    if workdir.tokenizer.exists():
        return Tokenizer.load(workdir.tokenizer)
    captions = (caption for i in range(len(shards)) for caption in shards.read(i).captions)
    return Tokenizer.train(captions, config.text.vocabulary)


def settle_training_text(workdir: Workdir, shards: Shards) -> training_text.TrainingText:
    """What the training captions and activities say, for calling classes seen or unseen."""
    names = tasks.class_names()
    if workdir.training_text.exists():
        known = training_text.read(workdir.training_text)
        if known.answers(names):
            return known
    examples = (shards.read(i) for i in range(len(shards)))
    text = training_text.collect((t for e in examples for t in (e.activity, *e.captions)), names)
    training_text.write(workdir.training_text, text)
    return text


def start(this: Run, checkpoints: Checkpoints) -> TrainState:
    """The newest whole checkpoint, or where there is none the initial state with the config's weights."""
    for step in checkpoints.remove_unfinished():
        print(f"Checkpoint {step} was not finished when the last run ended; it is removed.")
    if checkpoints.steps():
        current = checkpoints.restore(None, this.abstract)
        print(f"Going on from step {int(current.step)} of {this.workdir.root}.")
        return current
    current = state.initial(this.architecture, this.optimizer, this.mesh, this.config.seed)
    weights = this.config.weights
    return state.with_values(
        current, starting_values(this.architecture, current.params, weights.image, weights.text)
    )


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
    meter = Meter(config.batch_size)
    if 0 < first < config.steps and first % config.evaluate_every == 0 and not log.has_evaluation(first):
        log.write(first, summary(this, current.params, evaluate(this, current)))
    with (
        StopSignal() as stop,
        contextlib.closing(batches),
        tqdm(total=config.steps, initial=first, desc="training", unit="step") as bar,
    ):
        for step in range(first + 1, config.steps + 1):
            with meter.waiting():
                batch = next(batches)
            current, metrics = update(current, put(batch, this.mesh))
            meter.add(metrics)
            meter.wait_for_step_before()
            bar.update()
            stopping = stop.is_set()  # read once: a signal later in this step is for the next
            last = step == config.steps or stopping
            saving = last or step % config.checkpoint_every == 0
            evaluating = step % config.evaluate_every == 0 and not last
            if saving or step % config.log_every == 0:
                values = meter.read()
                check_finite(values, step, checkpoints)
                log.write(step, values | {"learning_rate": float(rate(step - 1))})
                bar.set_postfix_str(f"loss {values['loss']:.3f}, {values['images_per_second']:.0f} images/s")
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


def loader_settings(config: ConfigDict) -> LoaderSettings:
    return LoaderSettings(
        batch_size=config.batch_size,
        image_size=(config.data.image_size, config.data.image_size),
        captions=config.data.captions,
        text_lengths=config.text.buckets,
        seed=config.seed,
        crop_area=config.data.crop_area,
        crop_aspect=config.data.crop_aspect,
        flip=config.data.flip,
        threads=config.data.threads,
        workers=config.data.workers,
    )


class Meter:
    """Means of the metrics since the last reading, and how fast the steps went."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._metrics: list[dict[str, jax.Array]] = []
        self._waited = 0.0
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def waiting(self):
        begin = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begin

    def add(self, metrics: dict[str, jax.Array]) -> None:
        self._metrics.append(metrics)

    def wait_for_step_before(self) -> None:
        """Keep one step running and one queued: enough for a busy device, few enough to stop promptly."""
        if len(self._metrics) > 1:
            jax.block_until_ready(self._metrics[-2])

    def read(self) -> dict[str, float]:
        """Waits for the device; then means over the steps added, and seconds per step."""
        fetched = jax.device_get(self._metrics)
        steps = len(fetched)
        seconds = time.perf_counter() - self._since
        values = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
        speed = {
            "step_seconds": seconds / steps,
            "images_per_second": steps * self._batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        self._metrics, self._waited, self._since = [], 0.0, time.perf_counter()
        return values | speed

    def leave_out_pause(self) -> None:
        """Start the clock again after saving or evaluating, whose time is not the steps' time."""
        self._since = time.perf_counter()


def check_finite(values: dict[str, float], step: int, checkpoints: Checkpoints) -> None:
    if not math.isfinite(values["loss"]):
        steps = checkpoints.steps()
        saved = f"the last checkpoint is step {steps[-1]}" if steps else "no checkpoint was saved"
        raise UserError(
            f"the loss is {values['loss']} at step {step}; {saved}; lower --config.optimizer.learning_rate "
            "or raise --config.optimizer.warmup_steps"
        )


def evaluate(this: Run, current: TrainState) -> list[Outcome]:
    batch_size = this.config.evaluation.batch_size
    return this.benchmark.run(this.encoder(current.params), this.training_text, int(current.step), batch_size)


def summary(this: Run, params, outcomes: list[Outcome]) -> dict[str, float]:
    """The numbers of an evaluation that `metrics.jsonl` keeps: validation losses and zero-shot accuracies."""
    values = {}
    if this.validation is not None:
        values |= {f"validation/{name}": value for name, value in this.validation.run(params).items()}
    for row in (row for outcome in outcomes for row in outcome.rows):
        values[f"zero_shot/{row.task} {row.rows}"] = row.accuracy
        values[f"zero_shot/{row.task} {row.rows}/chance"] = row.chance
    return values


def finish(this: Run, log: MetricsLog, current: TrainState) -> None:
    """The last evaluation, its table and JSON, and the pictures."""
    step = int(current.step)
    outcomes = evaluate(this, current)
    if not log.has_evaluation(step):
        log.write(step, summary(this, current.params, outcomes))
    view = make_view_step(this.graph, this.mesh)
    shown = this.validation or this
    drawn = pictures.draw(
        this.workdir,
        shown.shards,
        shown.table,
        loader_settings(this.config),
        lambda batch: view(current.params, put(batch, this.mesh)),
        float(nnx.merge(this.graph, current.params).alpha),
        outcomes,
        step,
    )
    results = [row for outcome in outcomes for row in outcome.rows]
    if results:
        report.write_json(results, this.workdir.evaluation / f"step-{step:06d}.json")
        print(f"\n{report.table(results)}")
    print("\nPictures:", *drawn, sep="\n  ")


class StopSignal:
    """Set once SIGTERM or Ctrl-C arrives, so that the loop can save and end. A second one ends at once."""

    def __enter__(self) -> threading.Event:
        self._event = threading.Event()
        self._former = {which: signal.signal(which, self._stop) for which in (signal.SIGTERM, signal.SIGINT)}
        return self._event

    def _stop(self, *_):
        self._event.set()
        self._restore()

    def _restore(self):
        for which, handler in self._former.items():
            signal.signal(which, handler)

    def __exit__(self, *_):
        self._restore()
