"""Small shards for tests, written by code that shares nothing with the packer or the reader."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import struct

import google_crc32c
import numpy as np
import PIL.Image
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from annotation import shard_index
from annotation.shard_index import Index


def _crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def _set(feature, values) -> None:
    values = list(values)
    if values and isinstance(values[0], float):
        feature.float_list.value.extend(values)
    elif values and isinstance(values[0], int):
        feature.int64_list.value.extend(values)
    else:
        feature.bytes_list.value.extend(v if isinstance(v, bytes) else v.encode() for v in values)


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


@dataclasses.dataclass
class Row:
    """One example to be written; the defaults make a valid one."""

    image_id: str = "a.jpg"
    image: np.ndarray = dataclasses.field(default_factory=lambda: np.full((48, 64, 3), 128, np.uint8))
    joints: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 16, 2)))  # stored pixels
    visibility: np.ndarray | None = None  # by default every joint is labelled
    captions: tuple[str, ...] = ("The left arm is bent.",)
    original: tuple[int, int] | None = None  # (height, width), by default the stored size
    schema_version: int = 1
    jpeg: bytes | None = None  # instead of encoding `image`

    def payload(self) -> bytes:
        height, width = self.image.shape[:2]
        people = len(self.joints)
        visibility = np.full((people, 16), 2) if self.visibility is None else self.visibility
        original = self.original or (height, width)
        joints = np.where(visibility[..., None] == 0, 0.0, self.joints)
        fields = {
            "image_id": [self.image_id],
            "image": [self.jpeg or jpeg(self.image)],
            "height": [height],
            "width": [width],
            "original_height": [original[0]],
            "original_width": [original[1]],
            "joints": joints.astype(float).ravel().tolist(),
            "visibility": visibility.ravel().tolist(),
            "occluded": [0] * (16 * people),
            "people_complete": [1],
            "activity": ["running"],
            "category": ["sports"],
            "captions": self.captions,
            "caption_sources": [f"writer {n}" for n in range(len(self.captions))],
            "schema_version": [self.schema_version],
        }
        example = tf_example_pb2.Example()
        for name, values in fields.items():
            _set(example.features.feature[name], values)
        return example.SerializeToString()


def write_shard(path: pathlib.Path, payloads: list[bytes]) -> None:
    with open(path, "wb") as file:
        for payload in payloads:
            length = struct.pack("<Q", len(payload))
            file.write(length + _crc(length) + payload + _crc(payload))


def write_index(path: pathlib.Path, shard: pathlib.Path, payloads: list[bytes]) -> None:
    lengths = np.array([len(p) for p in payloads])
    offsets = np.cumsum([0, *(lengths + 16)])[:-1]
    checksums = np.array([struct.unpack("<I", _crc(p))[0] for p in payloads])
    path.write_bytes(shard_index.to_bytes(Index(offsets, lengths, checksums, shard.stat().st_size)))


@pytest.fixture
def pack(tmp_path):
    """pack(rows, shards=2, split="train", indexed=True) → the directory of the shards it wrote."""

    def write(rows, shards=2, split="train", indexed=True) -> pathlib.Path:
        directory = tmp_path / "shards"
        directory.mkdir(exist_ok=True)
        groups = np.array_split(np.arange(len(rows)), shards)
        for k, group in enumerate(groups):
            payloads = [rows[i].payload() for i in group]
            shard = directory / f"toy-{split}.tfrecord-{k:05d}-of-{shards:05d}"
            write_shard(shard, payloads)
            if indexed:
                write_index(directory / f"toy-{split}.index-{k:05d}-of-{shards:05d}.npz", shard, payloads)
        return directory

    return write


@pytest.fixture
def row():
    """The class of one example to be packed."""
    return Row
