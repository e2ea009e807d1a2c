"""The tensors of a safetensors file, each asked for by name and shape, none left over without a reason."""

from __future__ import annotations

import os
import pathlib

import jax  # noqa: F401  (teaches numpy the type bfloat16, by which safetensors asks for it)
import numpy as np
import safetensors

from focusclip_jax.errors import UserError


class Tensors:
    """Hands out tensors as float32 and remembers which were never asked for.

    source: a safetensors file, or a folder with `model.safetensors` or open_clip's
        `open_clip_model.safetensors`. Pickles are not read: they run code.
    """

    def __init__(self, source: str | os.PathLike):
        self.path = _find(pathlib.Path(source))
        try:
            with safetensors.safe_open(self.path, framework="np") as file:
                self._left = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, TypeError) as error:
            raise UserError(f"{self.path}: not a safetensors file that can be read ({error})") from None
        self.names = frozenset(self._left)

    def take(self, name: str, shape: tuple[int | None, ...], setting: str) -> np.ndarray:
        """The tensor `name`, float32, once.

        shape: what the model has; None where any size will do.
        setting: the part of the config that decides the shape, for the message.
        Raises UserError where there is no such tensor or its shape differs.
        """
        if name not in self._left:
            raise UserError(f"{self.path}: it has no tensor {name}, which {setting} needs")
        tensor = self._left.pop(name)
        if len(tensor.shape) != len(shape) or any(
            wanted not in (None, size) for size, wanted in zip(tensor.shape, shape, strict=True)
        ):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise UserError(
                f"{self.path}: {name} has shape {tensor.shape}, but the model of {setting} has ({wanted})"
            )
        return tensor.astype(np.float32, copy=False)

    def check_all_used(self, ignorable: tuple[str, ...]) -> None:
        """Raise UserError for a tensor that was not taken and whose name starts with none of `ignorable`."""
        unused = sorted(name for name in self._left if not name.startswith(ignorable))
        if unused:
            more = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
            raise UserError(f"{self.path}: the model has no place for the tensor {unused[0]}{more}")


def _find(source: pathlib.Path) -> pathlib.Path:
    path = source
    if source.is_dir():
        path, other = source / "model.safetensors", source / "open_clip_model.safetensors"
        path = other if other.is_file() and not path.is_file() else path
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: expected a .safetensors file; pickled weights are never read")
    return path
