"""Embeddings kept by content, so that a second evaluation of a checkpoint encodes nothing again.

The key of an embedding is a hash of the model (`model_key`) and of what it was given: the pixels that
`prepare` made, or the text. A file of the cache holds one encoded batch and is complete or absent, so
evaluations may run side by side. The folder can be deleted at any time.
Letters: B images or texts, D embedding.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import google_crc32c
import jax
import numpy as np

from focusclip_jax.checkpoint import MANIFEST
from focusclip_jax.evaluation.zero_shot import Encoder
from focusclip_jax.files import replacing
from focusclip_jax.workdir import Workdir

MAX_BYTES = 1 << 30  # of all files of a workdir; half a million embeddings of 512
UNFINISHED = 3600  # seconds after which an unfinished file counts as left behind by a killed process
VERSION = 1  # raise it when the same inputs come to give other embeddings


def model_key(workdir: Workdir, step: int) -> str:
    """Hex digest of everything an embedding depends on beside its image or text.

    That is the checkpoint (its manifest has the checksum of every file), the settings of the towers, the
    tokenizer, and what computes: other devices and versions of JAX round differently.
    """
    config = json.loads(workdir.config.read_text())  # as written, without the defaults of newer settings
    settings = {
        "version": VERSION,
        "model": config["model"],
        "image_size": config["data"]["image_size"],
        "context": config["text"]["context"],
        "jax": jax.__version__,
        "devices": jax.default_backend(),
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in (workdir.checkpoints / str(step) / MANIFEST, workdir.tokenizer):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class CachingEncoder:
    """An encoder that looks up before it encodes, and keeps what it had to encode.

    found, encoded: how many embeddings came from the cache and from the model so far.
    damaged: files that were not what had been written. They are removed and their content is encoded again.
    """

    def __init__(self, encoder: Encoder, folder: Path, key: str, max_bytes: int = MAX_BYTES):
        """folder: of the cache, made if need be. key: `model_key`. max_bytes: what all its files may take."""
        self.found = self.encoded = 0
        self.damaged: list[Path] = []
        self._encoder = encoder
        self._key = bytes.fromhex(key)
        self._folder, self._max_bytes = folder, max_bytes
        self._model = folder / key[:16]
        self._model.mkdir(parents=True, exist_ok=True)
        self._known: dict[bytes, np.ndarray] = {}
        for path in _files(self._model):
            self._read(path)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """As the encoder's."""
        return self._encoder.prepare(image)

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """As the encoder's: uint8 (B, S, S, 3) → float32 (B, D)."""
        shape = str(images.shape[1:]).encode()
        keys = [self._hash(b"image", shape, np.ascontiguousarray(image).data) for image in images]
        return self._answer(
            keys, lambda lacking: self._encoder.encode_images(images[_filled(lacking, len(keys))])
        )

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """As the encoder's: B texts → float32 (B, D)."""
        keys = [self._hash(b"text", text.encode()) for text in texts]
        return self._answer(
            keys,
            lambda lacking: self._encoder.encode_texts([texts[i] for i in _filled(lacking, len(keys))]),
        )

    def summary(self) -> str:
        """What came from where, and what was damaged, as sentences."""
        sentences = [
            f"Embeddings: {self.found:,} from {self._folder}, which may be deleted at any time; "
            f"{self.encoded:,} computed."
        ]
        sentences += [f"{path}: damaged, so it was removed and computed again." for path in self.damaged]
        return " ".join(sentences)

    def _hash(self, *parts: bytes | memoryview) -> bytes:
        digest = hashlib.sha256(self._key)
        for part in parts:
            digest.update(part)
            digest.update(b"\0")
        return digest.digest()

    def _answer(self, keys: list[bytes], encode: Callable[[list[int]], np.ndarray]) -> np.ndarray:
        """The embeddings of `keys`. encode: places without one → their embeddings, and others after them.

        A batch is encoded in its own size however few are lacking: another would have to be compiled.
        """
        first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._known}
        lacking = sorted(first.values())
        if lacking:
            rows = np.asarray(encode(lacking), np.float32)[: len(lacking)]
            new = [keys[i] for i in lacking]
            self._write(new, rows)
            self._known.update(zip(new, rows, strict=True))
        self.encoded += len(lacking)
        self.found += len(set(keys)) - len(lacking)
        return np.stack([self._known[key] for key in keys])

    def _write(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        content = b"".join(keys)
        joined = np.frombuffer(content, np.uint8).reshape(len(keys), -1)
        # Named by its content: whoever else encodes the same batch writes the same file.
        path = self._model / f"{hashlib.sha256(content).hexdigest()[:24]}.npz"
        with replacing(path) as temporary:
            np.savez(temporary, keys=joined, embeddings=rows, crc32c=_checksum(joined, rows))
        trim(self._folder, self._max_bytes)

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                keys, rows, checksum = file["keys"], file["embeddings"], int(file["crc32c"])
            os.utime(path)  # what is used is the last to go
        except FileNotFoundError:
            return  # another evaluation made room
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            keys, rows, checksum = np.zeros((0, 32), np.uint8), np.zeros((0, 0), np.float32), -1
        if checksum != _checksum(keys, rows) or len(keys) != len(rows):
            path.unlink(missing_ok=True)
            self.damaged.append(path)
            return
        self._known.update(zip((key.tobytes() for key in keys), rows, strict=True))


def open_for(encoder: Encoder, workdir: Workdir, step: int) -> CachingEncoder:
    """The encoder of a workdir's checkpoint with the cache of that workdir."""
    return CachingEncoder(encoder, workdir.cache / "embeddings", model_key(workdir, step))


def trim(folder: Path, max_bytes: int) -> None:
    """Remove the least recently used files below `folder` until the rest takes at most `max_bytes`."""
    files = []
    for path in folder.glob("*/*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # finished or removed by another evaluation
        if path.name.startswith(".") and time.time() - status.st_mtime < UNFINISHED:
            continue  # being written by another evaluation
        files.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files)[:-1]:  # the newest is what was just written
        if total <= max_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if not path.name.startswith("."))


def _filled(places: list[int], size: int) -> list[int]:
    """The places, and the last of them again up to `size`."""
    return places + places[-1:] * (size - len(places))


def _checksum(keys: np.ndarray, rows: np.ndarray) -> int:
    return google_crc32c.value(keys.tobytes() + rows.tobytes())
