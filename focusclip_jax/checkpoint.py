"""Orbax checkpoints that are known to be whole before they are used.

The array store loads flipped bits without complaint, so beside each step's files lies
`manifest.json` with their sizes and CRC32C. It is written last: a step without one was being
written when the process died.
"""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import shutil
from typing import Any

import google_crc32c
import jax
import orbax.checkpoint as ocp

from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text

MANIFEST = "manifest.json"


class Checkpoints:
    """The checkpoints of one workdir: `<directory>/<step>/`. Saving does not block training.

    keep: how many of the newest to keep; at least two, so that one is whole while the next is written.
    """

    def __init__(self, directory: pathlib.Path, keep: int = 2):
        self._directory = directory.absolute()
        self._keep = max(keep, 2)
        self._lazy_manager: ocp.CheckpointManager | None = None
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "manifest")
        self._pending: concurrent.futures.Future | None = None

    def _manager(self) -> ocp.CheckpointManager:
        # Made on first save or restore: it cleans up after killed writers, which looking must not do.
        if self._lazy_manager is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
            )
            self._lazy_manager = ocp.CheckpointManager(self._directory, options=options)
        return self._lazy_manager

    def steps(self) -> list[int]:
        """Steps whose manifest was written, oldest first. Their bytes are not checked yet."""
        return sorted(int(path.parent.name) for path in self._directory.glob(f"[0-9]*/{MANIFEST}"))

    def save(self, step: int, state: Any) -> None:
        """Copy the state off the devices and write it in the background."""
        self.wait()
        self._manager().save(step, args=ocp.args.StandardSave(state), force=True)
        self._pending = self._executor.submit(self._finish, step)

    def _finish(self, step: int) -> None:
        self._manager().wait_until_finished()
        if jax.process_index() == 0:
            write_manifest(self._directory / str(step))

    def wait(self) -> None:
        """Block until the last `save` is on disk with its manifest. Raises what went wrong there."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def remove_unfinished(self) -> list[int]:
        """Delete steps that were being written when an earlier process died; returns them."""
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

        Raises UserError where there is no such step or a byte of it is not what was written.
        """
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
        return self._manager().restore(step, args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        self.wait()
        self._executor.shutdown()
        if self._lazy_manager is not None:
            self._lazy_manager.close()


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
