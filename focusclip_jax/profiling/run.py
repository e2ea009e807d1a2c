"""The verb `profile`: real training steps under JAX's profiler, and one page that says where their time goes.

    ./launch.sh profile --config=configs/focusclip_tiny.py --steps=20 --out=profiles/tiny

The loader, the shards and the compiled step are those of training; the parameters are random, which changes
no time. Nothing but the folder of --out is written, no workdir is touched. With several processes all take
the steps, and the first one traces and sums up its own devices.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from focusclip_jax import compilation, distributed, sharding, state
from focusclip_jax import config as configs
from focusclip_jax import optimizer as optimizers
from focusclip_jax.data.loader import train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import TokenTable
from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text
from focusclip_jax.profiling import trace
from focusclip_jax.profiling.page import page
from focusclip_jax.profiling.program import meanings_of
from focusclip_jax.profiling.steps import compile_all, take_steps
from focusclip_jax.profiling.summary import memory_of, summarise
from focusclip_jax.run import check_inputs, loader_settings, settle_tokenizer
from focusclip_jax.step import make_train_step
from focusclip_jax.workdir import Workdir


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="profile", description="Trace real training steps and say what limits them.", add_help=False
    )
    parser.add_argument("--steps", type=int, default=10, help="steps to trace (10)")
    parser.add_argument("--out", default="", help="folder of the trace and its summary (profiles/NAME)")
    parser.add_argument("-h", "--help", action="help")
    options, rest = parser.parse_known_args(arguments)
    if options.steps < 1:
        raise UserError(f"--steps={options.steps}: expected at least 1")
    if any(argument.split("=")[0] == "--workdir" for argument in rest):
        raise UserError("--workdir: profile touches no workdir; its trace and summary go to --out=DIR")
    configs.define_flags()
    config, root = configs.parse(rest)
    distributed.initialize()
    compilation.use_cache()
    out = pathlib.Path(options.out or f"profiles/{root.name}")
    with distributed.ending_together(lambda: "nothing was saved"), distributed.only_first_speaks():
        summary = run(config, out, options.steps)
        if distributed.is_first():
            write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
            write_text(out / "summary.md", page(summary))
            print(page(summary))


def run(config: ConfigDict, out: pathlib.Path, steps: int) -> dict[str, Any]:
    """Take the steps and return what `page` shows. Raises UserError for what training would refuse."""
    config = config.copy_and_resolve_references()
    for part in ("clip", "image", "text"):
        config.weights[part] = "none"
    check_inputs(config)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
    sharding.check_batch(config, mesh)
    shards = Shards.open(config.data.train, "train")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from None
    with distributed.first_before_others():
        tokenizer = settle_tokenizer(config, Workdir(out), shards)
        table = TokenTable.build(shards, tokenizer, config.text.context, out / "cache")
    arch = state.architecture(config, tokenizer.vocab_size)
    optimizer = optimizers.make(config.optimizer, config.steps)
    abstract = state.abstract(arch, optimizer, mesh)
    update = make_train_step(state.graph_of(arch), optimizer, abstract, mesh, config)
    batches = train_batches(
        shards,
        table,
        loader_settings(config),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    with contextlib.closing(batches):
        programs, compiling = compile_all(update, abstract, batches, mesh, config)
        current = state.initial(arch, optimizer, mesh, config.seed)
        where = out / "trace"
        lengths, seconds = take_steps(programs, current, batches, mesh, steps, where)
    if not distributed.is_first():
        return {}
    events = trace.read(trace.newest(where))
    meanings = [meanings_of(programs[tokens].as_text() or "") for tokens in dict.fromkeys(lengths)]
    return summarise(config, arch, mesh, events, meanings, lengths, seconds) | {
        "compile_seconds": compiling,
        "memory": memory_of(mesh, programs),
        "trace": str(trace.newest(where)),
    }
