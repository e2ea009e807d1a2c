"""Orbax checkpoints that are known to be whole before they are used.

The array store loads flipped bits without complaint, so beside each step's files lies
`manifest.json` with their sizes and CRC32C. It is written last: a step without one was being
written when the process died.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import google_crc32c
import jax
import orbax.checkpoint as ocp

from focusclip_jax import distributed, sharding
from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text

MANIFEST = "manifest.json"

# Orbax raises what goes wrong in its threads when they are waited for, and besides prints its traceback.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).addFilter(lambda record: not record.exc_info)


class Checkpoints:
    """The checkpoints of one workdir: `<directory>/<step>/`. Saving does not block training.

    keep: how many of the newest to keep; at least two, so that one is whole while the next is written.
    With several processes all of them save and restore at the same time; each writes its part of the arrays.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2):
        self._directory = directory.absolute()
        self._keep = max(keep, 2)
        self._lazy_manager: ocp.CheckpointManager | None = None
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "manifest")
        self._pending: concurrent.futures.Future | None = None
        self._pending_step = 0
        self._seen = False  # whether a whole one was here
        self._failed = False

    def _manager(self) -> ocp.CheckpointManager:
        # Made on first save or restore: it cleans up after killed writers, which looking must not do.
        if self._lazy_manager is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
            )
            self._lazy_manager = ocp.CheckpointManager(
                self._directory, options=options, item_handlers=ocp.PyTreeCheckpointHandler()
            )
        return self._lazy_manager

    def steps(self) -> list[int]:
        """Steps whose manifest was written, oldest first. Their bytes are not checked yet."""
        return sorted(int(path.parent.name) for path in self._directory.glob(f"[0-9]*/{MANIFEST}"))

    def last_good(self) -> str:
        """What a run would go on from, as a part of a sentence."""
        steps = self.steps()
        if steps:
            return f"the last checkpoint is step {steps[-1]}"
        return "no checkpoint is left" if self._seen else "no checkpoint was saved"

    def save(self, step: int, state: Any) -> None:
        """Copy the state off the devices and write it in the background.

        A TrainState without an optimizer (None) can be evaluated and exported, but not trained further.
        Raises UserError, as `wait` does, where the disk is full or the folder is gone.
        """
        self.wait()
        with self._saying_why(step):
            self._manager().save(step, args=ocp.args.PyTreeSave(state), force=True)
        self._pending = self._executor.submit(self._finish, step)
        self._pending_step = step

    def _finish(self, step: int) -> None:
        self._manager().wait_until_finished()
        if distributed.is_first():
            write_manifest(self._directory / str(step))
        self._seen = True

    def wait(self) -> None:
        """Block until the last `save` is on disk with its manifest; UserError where that failed."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            with self._saying_why(self._pending_step):
                pending.result()

    @contextlib.contextmanager
    def _saying_why(self, step: int) -> Iterator[None]:
        """Turn what goes wrong on disk in the block into a sentence that names the last good step."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if distributed.is_loss(error):
                raise
            self._failed = True
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"{self._directory / str(step)}: this checkpoint could not be written ({reason}); "
                f"{self.last_good()}"
            ) from error

    def remove_unfinished(self) -> list[int]:
        """Delete steps that were being written when an earlier process died; returns them.

        With several processes the first one does, and the others return nothing.
        """
        if not distributed.is_first():
            return []
        whole = set(self.steps())
        found = [
            path
            for path in self._directory.glob("[0-9]*")
            if path.name.isdigit() and int(path.name) not in whole
        ]
        for path in found:
            shutil.rmtree(path)
        return [int(path.name) for path in found]

    def restore(self, step: int | None, abstract: Any) -> Any:
        """The state of a step (None: the newest), in the shapes, dtypes and shardings of `abstract`.

        Raises UserError where there is no such step, a byte of it is not what was written, or its arrays
        are not those of `abstract`.
        """
        return self._read(self._verified(step), abstract)

    def restore_params(self, step: int | None, abstract: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The step and its parameters alone, whatever optimizer trained them. Raises UserError as `restore`.

        abstract: shapes, dtypes and shardings of the parameters.
        """
        step = self._verified(step)
        return step, self._read(step, {"params": abstract})["params"]

    def _verified(self, step: int | None) -> int:
        """The step to restore, once the first process found all its bytes to be those that were written."""
        step = distributed.of_first(lambda: self._verify(step))
        self._seen = True
        return step

    def _verify(self, step: int | None) -> int:
        steps = self.steps()
        if not steps:
            raise UserError(f"{self._directory}: no finished checkpoint is here")
        if step is None:
            step = steps[-1]
        if step not in steps:
            raise UserError(f"{self._directory}: no checkpoint of step {step}; there are {steps}")
        try:
            verify(self._directory / str(step))
        except UserError as error:
            earlier = [s for s in steps if s < step]
            advice = f"; the last one before it is step {earlier[-1]}" if earlier else ""
            raise UserError(
                f"{error}; remove {self._directory / str(step)} to go on without it{advice}"
            ) from None
        return step

    def _read(self, step: int, abstract: Any) -> Any:
        """The part of a checkpoint that `abstract` names; the rest of the arrays is left on disk."""
        # Orbax would leave an array that is missing as the placeholder that asked for it.
        _check_arrays(self._directory / str(step), self._manager().item_metadata(step).tree, abstract)
        arguments = ocp.args.PyTreeRestore(
            abstract,
            restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
            partial_restore=True,
        )
        return self._manager().restore(step, args=arguments)

    def close(self) -> None:
        self.wait()
        self._executor.shutdown()
        if self._lazy_manager is not None and not self._failed:  # it would raise what was raised before
            self._lazy_manager.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind, *_) -> None:
        # With several processes a save that is under way may wait for one that is lost.
        if kind is None or jax.process_count() == 1:
            self.close()


def _check_arrays(directory: pathlib.Path, saved: Any, abstract: Any) -> None:
    """Raise UserError unless the saved arrays below each top-level name of `abstract` are those it names."""
    wanted, there = _shapes(abstract), _shapes(saved)
    parts = {_part(name) for name in wanted}
    if "optimizer" in parts and "optimizer" not in {_part(name) for name in there}:
        raise UserError(
            f"{directory}: it holds parameters but no state of an optimizer, so no training goes on from "
            "it; start one in another --workdir, from published weights by --config.weights"
        )
    there = {name: shape for name, shape in there.items() if _part(name) in parts}
    for name in sorted({*wanted, *there}):
        if wanted.get(name) != there.get(name):
            raise UserError(
                f"{directory}: it is of another model or optimizer: its {name} has shape "
                f"{there.get(name, 'none')}, expected {wanted.get(name, 'none')}"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {sharding.name_of(path): tuple(leaf.shape) for path, leaf in leaves}


def _part(name: str) -> str:
    return name.split("/")[0]


def write_manifest(directory: pathlib.Path) -> None:
    """Record size and CRC32C of every file below `directory`."""
    entries = {
        path.relative_to(directory).as_posix(): {"size": path.stat().st_size, "crc32c": _crc32c(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    write_text(directory / MANIFEST, json.dumps({"files": entries, "crc32c": _own(entries)}, indent=1) + "\n")


def verify(directory: pathlib.Path) -> None:
    """Raise UserError, naming the file, unless every file is exactly what the manifest says."""
    manifest = directory / MANIFEST
    try:
        content = json.loads(manifest.read_text())
        entries = content["files"]
        intact = content["crc32c"] == _own(entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{manifest}: unreadable ({error!r})") from None
    if not intact:
        raise UserError(f"{manifest}: its content is not what was written (CRC32C differs)")
    present = {p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()} - {MANIFEST}
    for name in sorted(present ^ set(entries)):
        state = "not in the manifest" if name in present else "missing"
        raise UserError(f"{directory / name}: checkpoint file is {state}")
    for name, entry in entries.items():
        path = directory / name
        if path.stat().st_size != entry["size"]:
            raise UserError(f"{path}: {path.stat().st_size} bytes, but {entry['size']} were written")
        if _crc32c(path) != entry["crc32c"]:
            raise UserError(f"{path}: its bytes are not the ones that were written (CRC32C differs)")


def _own(entries: dict) -> int:
    """Checksum of the manifest itself: a bit may flip there too."""
    return google_crc32c.value(json.dumps(entries, sort_keys=True).encode())


def _crc32c(path: pathlib.Path) -> int:
    checksum = google_crc32c.Checksum()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return int.from_bytes(checksum.digest(), "big")
