"""The entries of packed shards, read one at a time through their indices."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
from pathlib import Path

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from annotation import records, schema, shard_index
from annotation.errors import UserError
from annotation.viewer.entries import OK, Answer, Entry

_NAME = re.compile(r"(?P<dataset>.+)-(?P<split>[^-]+)\.tfrecord-(?P<shard>\d{5})-of-(?P<shards>\d{5})")
_HEADER = struct.Struct("<QI")  # payload length, its checksum


@dataclasses.dataclass(frozen=True, eq=False)
class PackedEntry(Entry):
    """An entry with the image as it was packed."""

    jpeg: bytes = b""


class ShardFolder:
    """The examples of all shards of a directory, all splits, numbered from 0 in the order of their names.

    Only where each record lies is in memory. Safe to share between threads.
    """

    strangers = 0

    def __init__(self, directory: Path):
        self.name = str(directory)
        names = (
            sorted(p.name for p in directory.iterdir() if _NAME.fullmatch(p.name))
            if directory.is_dir()
            else []
        )
        if not names:
            raise UserError(f"--shards={directory}: holds no shards (NAME-SPLIT.tfrecord-00000-of-00001)")
        self._paths = [directory / name for name in names]
        indices = [_read_index(path) for path in self._paths]
        self._first = np.concatenate([[0], np.cumsum([len(offsets) for offsets, _ in indices])])
        self._offsets = np.concatenate([offsets for offsets, _ in indices])
        self._lengths = np.concatenate([lengths for _, lengths in indices])

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, number: int) -> PackedEntry:
        """Example `number`. Raises UserError naming shard and record where it is damaged."""
        shard = int(np.searchsorted(self._first, number, side="right")) - 1
        path = self._paths[shard]
        where = f"{path}: record {number - self._first[shard]}"
        length = int(self._lengths[number])
        with open(path, "rb") as file:
            file.seek(int(self._offsets[number]) + _HEADER.size)
            payload, checksum = file.read(length), file.read(4)
        if len(checksum) < 4 or struct.unpack("<I", checksum)[0] != _masked_crc(payload):
            raise UserError(f"{where}: damaged (checksum mismatch); copy or pack this shard again")
        try:
            features = tf_example_pb2.Example.FromString(payload).features.feature
            return _entry(features, _named(path)["split"])
        except (DecodeError, ValueError, IndexError) as error:
            raise UserError(f"{where}: not an example of schema {schema.VERSION} ({error})") from None

    def photo(self, entry: PackedEntry) -> io.BytesIO:
        """The packed image."""
        return io.BytesIO(entry.jpeg)


def _named(path: Path) -> re.Match[str]:
    """What a shard's name says."""
    found = _NAME.fullmatch(path.name)
    assert found, path
    return found


def _read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where each record of a shard starts, and its payload's length in bytes."""
    name = _named(path)
    index = path.with_name(
        schema.index_name(name["dataset"], name["split"], int(name["shard"]), int(name["shards"]))
    )
    try:
        offsets, lengths, _, size = shard_index.from_bytes(index.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{index}: no index of this shard ({error}); pack it again") from None
    if path.stat().st_size != size:
        raise UserError(
            f"{path}: {path.stat().st_size} bytes, its index says {size}; copy or pack this shard again"
        )
    return offsets, lengths


def _entry(features, split: str) -> PackedEntry:
    def texts(name: str) -> list[str]:
        return [text.decode() for text in features[name].bytes_list.value]

    def number(name: str) -> int:
        return features[name].int64_list.value[0]

    stored = number(schema.WIDTH), number(schema.HEIGHT)
    original = number(schema.ORIGINAL_WIDTH), number(schema.ORIGINAL_HEIGHT)
    scale = np.array(original) / np.array(stored)
    joints = np.array(features[schema.JOINTS].float_list.value).reshape(schema.SHAPES[schema.JOINTS])
    # Rounded, because float32 would bring 100 back as 99.99999, which an ellipse truncates to 99.
    joints = np.round((joints + 0.5) * scale - 0.5, 3)
    visibility, occluded = (
        np.array(features[name].int64_list.value).reshape(schema.SHAPES[name])
        for name in (schema.VISIBILITY, schema.OCCLUDED)
    )
    record = records.ImageRecord(
        texts(schema.IMAGE_ID)[0],
        tuple(map(records.person, joints, visibility, occluded)),
        *original,
        people_complete=bool(number(schema.PEOPLE_COMPLETE)),
        activity=texts(schema.ACTIVITY)[0],
        category=texts(schema.CATEGORY)[0],
        source=f"shards, split {split}",
    )
    captions = zip(texts(schema.CAPTIONS), texts(schema.CAPTION_SOURCES), strict=True)
    answers = tuple(Answer(source, OK, text) for text, source in captions)
    return PackedEntry(record, answers, stored, features[schema.IMAGE].bytes_list.value[0])


def _masked_crc(data: bytes) -> int:
    """CRC32C as TFRecord stores it: rotated by 15 bits and offset."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
