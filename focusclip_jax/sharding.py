"""Where arrays live: a data × fsdp mesh and ordered rules from parameter names to shardings."""

from __future__ import annotations

import re
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from focusclip_jax.errors import UserError

DATA, FSDP = "data", "fsdp"

# First match wins; a parameter that no rule covers is an error. "fsdp" splits the largest dimension
# that the axis divides (the last of equals); "replicate" keeps a copy on every device. Optimizer
# moments carry their parameter's name and so follow it.
RULES = (
    (r"(kernel|token_embedding|position_embedding)$", "fsdp"),
    (r"(bias|scale|class_embedding|alpha_parameter)$", "replicate"),
    (r"^(step|count)$|/count$", "replicate"),
)


def make_mesh(data: int, fsdp: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh over `devices`, by default all of all processes. One of the sizes may be -1: the rest."""
    devices = list(devices or jax.devices())
    sizes = [data, fsdp]
    if sizes.count(-1) == 1:
        known = sizes[1 - sizes.index(-1)]
        sizes[sizes.index(-1)] = len(devices) // known if known > 0 else 0
    if min(sizes) < 1 or sizes[0] * sizes[1] != len(devices):
        raise UserError(
            f"--config.mesh: data={data} × fsdp={fsdp} does not make up "
            f"the {len(devices)} devices that are here"
        )
    return jax.make_mesh(sizes, (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices)


def check_batch(config: ConfigDict, mesh: Mesh) -> None:
    """Raise UserError where the global batch is not so many equal parts on so many devices."""
    size = config.batch_size
    for name, parts in (("micro_batches", config.micro_batches), ("loss.chunks", config.loss.chunks)):
        if size % (mesh.size * parts):
            each = f" and --config.{name}={parts}" if parts > 1 else ""
            raise UserError(
                f"--config.batch_size={size}: the mesh has {mesh.size} devices{each}, "
                f"expected a multiple of {mesh.size * parts}"
            )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch split over every device."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def split_rows(rows: np.ndarray, mesh: Mesh) -> jax.Array:
    """Rows that every process holds whole, B of them for a multiple B of the devices, split over these."""
    return jax.make_array_from_callback(rows.shape, batch_sharding(mesh), lambda index: rows[index])


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def constrain_rows(x: jax.Array) -> jax.Array:
    """Keep an activation (B, …) split by rows over every device of the mesh that is being compiled for.

    Left alone, the compiler may split activations as a kernel is split, and exchange these much larger arrays
    in place of kernels. Outside `compiling_for` it is the identity.
    """
    return _constrain(x, PartitionSpec((DATA, FSDP)))


def constrain_whole(x: jax.Array) -> jax.Array:
    """Gather a split parameter before its use, as the compiler does with kernels of its own accord."""
    return _constrain(x, PartitionSpec())


def _constrain(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, spec)


def compiling_for(mesh: Mesh):
    """The context in which `constrain_rows` and `constrain_whole` know the mesh."""
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def tree_shardings(tree, mesh: Mesh):
    """A sharding for every leaf of a tree of shaped arrays. Raises ValueError for a name outside `RULES`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, _spec(name_of(path), leaf.shape, mesh.shape[FSDP])), tree
    )


def name_of(path) -> str:
    """ "image/blocks/qkv_kernel" for the path of a leaf."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _spec(name: str, shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    for pattern, place in RULES:
        if re.search(pattern, name):
            return _split_largest(shape, fsdp) if place == "fsdp" else PartitionSpec()
    raise ValueError(f"parameter {name} of shape {shape}: no rule of focusclip_jax.sharding.RULES covers it")


def _split_largest(shape, fsdp):
    candidates = [i for i, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or not candidates:
        return PartitionSpec()
    axis = max(candidates, key=lambda i: (shape[i], i))
    return PartitionSpec(*[FSDP if i == axis else None for i in range(axis + 1)])


def table(tree, mesh: Mesh) -> str:
    """One line per leaf: name, shape, dtype, how it is split, and the total number of values."""
    rows = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        spec = _spec(name_of(path), leaf.shape, mesh.shape[FSDP])
        split = ", ".join(str(axis) for axis in spec) or "replicated"
        rows.append((name_of(path), "×".join(map(str, leaf.shape)) or "()", leaf.dtype.name, split))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
    return "\n".join([*lines, f"{total:,} values in {len(rows)} arrays"])
