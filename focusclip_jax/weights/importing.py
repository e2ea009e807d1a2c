"""The verb `import`: a published CLIP as a workdir, as if training had just begun with its weights."""

from __future__ import annotations

import argparse
import pathlib

import jax

from focusclip_jax import sharding, state
from focusclip_jax import workdir as workdirs
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import training_text
from focusclip_jax.files import creating, write_text
from focusclip_jax.state import TrainState
from focusclip_jax.weights import published
from focusclip_jax.weights.published import Published


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="import", description="A published CLIP as a workdir, at step 0.")
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        help="folder or hub id owner/name@revision of a CLIP in Hugging Face's or open_clip's form",
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder to make")
    parser.add_argument("--image-size", type=int, help="pixels; position embeddings are resized to it")
    parser.add_argument("--context", type=int, help="longest text in tokens; likewise")
    options = parser.parse_args(arguments)
    check_new(options.workdir, "--workdir")
    model = published.read(options.source, image_size=options.image_size, context=options.context)
    with creating(options.workdir) as folder:
        write(model, folder)
    print(summary(model))
    print(
        f"\nNext:\n  ./launch.sh evaluate --workdir={options.workdir} --data-dir=DIR"
        f"\n  ./launch.sh export --workdir={options.workdir} --out=DIR"
    )


def check_new(folder: pathlib.Path, flag: str) -> None:
    """Raise UserError where the folder is not one that may be made: nothing is overwritten."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        raise UserError(f"{flag}={folder}: it exists already; name a folder that does not, or an empty one")


def write(model: Published, root: pathlib.Path) -> None:
    """Everything of a workdir that evaluation and export need, the checkpoint last."""
    workdir = workdirs.create(root)
    workdirs.begin_imported(workdir, model.config, model.source, model.commit, model.tokenizer.hash)
    model.tokenizer.save(workdir.tokenizer)
    training_text.write(workdir.training_text, None)
    mesh = sharding.make_mesh(-1, 1)
    table = sharding.table(state.abstract_params(model.architecture, mesh), mesh)
    write_text(workdir.parameters, table + "\n")
    checkpoints = Checkpoints(workdir.checkpoints)
    checkpoints.save(0, TrainState(jax.numpy.zeros((), jax.numpy.int32), model.params, None))
    checkpoints.close()


def summary(model: Published) -> str:
    """What was imported, on a few lines."""
    image, text = model.architecture.image, model.architecture.text
    values = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    return "\n".join(
        [
            f"{model.source}" + (f" at commit {model.commit}" if model.commit else ""),
            f"  {values:,} parameters, embeddings of {model.architecture.embedding}",
            f"  images: {image.image_size} × {image.image_size} in patches of {image.patch_size}, "
            f"{image.transformer.depth} layers of {image.transformer.width}",
            f"  texts: up to {text.context} tokens of {text.vocabulary:,}, "
            f"{text.transformer.depth} layers of {text.transformer.width}",
        ]
    )
