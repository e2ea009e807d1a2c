"""What is fixed before the first step: data, tokenizer, model and workdir, opened and checked."""

from __future__ import annotations

import dataclasses
import pathlib

import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from focusclip_jax import distributed, flops, sharding, state
from focusclip_jax import optimizer as optimizers
from focusclip_jax import workdir as workdirs
from focusclip_jax.data.bucket import is_bucket
from focusclip_jax.data.loader import LoaderSettings
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable, names_a_file
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.evaluate import Benchmark
from focusclip_jax.evaluation import tasks, training_text
from focusclip_jax.files import write_text
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.state import TrainState
from focusclip_jax.validation import Validation
from focusclip_jax.workdir import Workdir


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
        data = self.config.data
        return Encoder(self.graph, params, self.architecture, self.tokenizer, data.fit, data.interpolation)


def set_up(config: ConfigDict, root: pathlib.Path) -> Run:
    """Open the data, settle the tokenizer, describe the model; record or check all of it in the workdir."""
    check_inputs(config)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
    sharding.check_batch(config, mesh)
    shards = Shards.open(config.data.train, "train")
    workdir = workdirs.create(root)
    tokenizer = settle_tokenizer(config, workdir, shards)
    workdirs.begin(workdir, config, shards.fingerprint(), tokenizer.hash)
    if distributed.is_first():
        tokenizer.save(workdir.tokenizer)
    architecture = state.architecture(config, tokenizer.vocab_size)
    kind = mesh.devices.flat[0].device_kind
    workdirs.note(workdir, flops=flops.account(architecture, config, kind))
    graph = state.graph_of(architecture)
    optimizer = optimizers.make(config.optimizer, config.steps)
    benchmark = Benchmark.open(config.evaluation.tasks, pathlib.Path(config.evaluation.data_dir))
    for sentence in benchmark.absent:
        print(sentence)
    abstract = state.abstract(architecture, optimizer, mesh)
    if distributed.is_first():
        write_text(workdir.parameters, sharding.table(abstract.params, mesh) + "\n")
    table = TokenTable.build(shards, tokenizer, config.text.context, workdir.cache)
    if table.at_limit:
        limit = config.text.context
        print(f"{table.at_limit:,} captions reach text.context={limit}: their ends may be cut off.")
    return Run(
        config=config,
        workdir=workdir,
        mesh=mesh,
        shards=shards,
        table=table,
        validation=open_validation(config, workdir, tokenizer, graph, mesh),
        tokenizer=tokenizer,
        training_text=settle_training_text(workdir, shards),
        benchmark=benchmark,
        architecture=architecture,
        graph=graph,
        optimizer=optimizer,
        abstract=abstract,
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
    if "://" in config.evaluation.data_dir:
        raise UserError(f"--config.evaluation.data_dir={config.evaluation.data_dir}: expected a folder")
    where = config.data.train
    in_bucket = is_bucket(where)
    if not where or (not in_bucket and "*" not in where and not pathlib.Path(where).exists()):
        lacking.append(f"no shards at --config.data.train={where} (get them: {config.data.how_to_get})")
    tokenizer = config.text.tokenizer
    if names_a_file(tokenizer) and not pathlib.Path(tokenizer).exists():
        lacking.append(
            f"no vocabulary at --config.text.tokenizer={tokenizer} (get it: {config.text.how_to_get}; "
            "or train one on the captions: --config.text.tokenizer=)"
        )
    for part in ("clip", "image", "text"):
        path = config.weights[part]
        if path != "none" and not pathlib.Path(path).exists():
            how = config.weights.how_to_get[part]
            lacking.append(
                f"no weights at --config.weights.{part}={path} (get them: {how}; "
                f"or start from random ones: --config.weights.{part}=none)"
            )
    if lacking:
        raise UserError("; ".join(lacking))


def settle_tokenizer(config: ConfigDict, workdir: Workdir, shards: Shards) -> Tokenizer:
    """The tokenizer that the config names; "" is one trained on the captions, kept in the workdir."""
    if config.text.tokenizer:
        return Tokenizer.load(config.text.tokenizer)
    if workdir.tokenizer.exists():
        return Tokenizer.load(workdir.tokenizer)
    captions = (caption for _, captions in texts_of(shards) for caption in captions)
    return Tokenizer.train(captions, config.text.vocabulary)


def texts_of(shards: Shards) -> tqdm:
    """Activity and captions of each example, with a progress bar."""
    return tqdm(shards.texts(), "reading captions", len(shards), unit=" images", delay=2, leave=False)


def settle_training_text(workdir: Workdir, shards: Shards) -> training_text.TrainingText:
    """What the training captions and activities say, for calling classes seen or unseen."""
    names = tasks.class_names()
    if workdir.training_text.exists():
        known = training_text.read(workdir.training_text)
        if known and known.answers(names):
            return known
    words = (t for activity, captions in texts_of(shards) for t in (activity, *captions))
    text = training_text.collect(words, names)
    training_text.write(workdir.training_text, text)
    return text


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
        fit=config.data.fit,
        interpolation=config.data.interpolation,
        heatmap=config.data.heatmap,
        heatmap_scale=config.data.heatmap_scale,
        heatmap_on_device=config.data.heatmap_on_device,
        threads=config.data.threads,
        workers=config.data.workers,
    )
