"""Random access to the examples of TFRecord shards, without TensorFlow.

A record of a shard is: uint64 payload length, masked CRC32C of those 8 bytes, payload (a serialised
`tf.train.Example`), masked CRC32C of the payload; integers little-endian. Both checksums are
verified on every read (it costs about 2 microseconds), so damage is found by name and never trained on.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import glob
import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import google_crc32c
import numpy as np
import tqdm
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from annotation import schema, shard_index
from focusclip_jax.data.bucket import Bucket, Folder, is_bucket, place
from focusclip_jax.errors import UserError

_Made = TypeVar("_Made")
_NAME = re.compile(r"(?P<dataset>.+)-(?P<split>[^-]+)\.tfrecord-(?P<shard>\d{5})-of-(?P<shards>\d{5})")
_HEADER = struct.Struct("<QI")  # payload length, its checksum
_FOOTER = struct.Struct("<I")  # checksum of the payload
_FRAME = _HEADER.size + _FOOTER.size  # bytes of a record besides its payload

_STRETCH = 8 << 20  # bytes read at one time where all examples are wanted in order
_STRETCHES_AHEAD = 16  # of a bucket: together 128 MiB


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One image with its people and captions, as it lies in a shard (see `annotation.schema`).

    image: JPEG bytes. height, width: of the stored image; original_height, original_width: of the photograph.
    joints: float32 (P, 16, 2), pixels of the stored image, 0-based, x then y; NaN where missing.
    visibility: uint8 (P, 16), `schema.MISSING`, `DERIVED` or `LABELLED`. occluded: bool (P, 16).
    captions, caption_sources: the texts and, in the same order, who wrote each.
    """

    image_id: str
    image: bytes
    height: int
    width: int
    original_height: int
    original_width: int
    joints: np.ndarray
    visibility: np.ndarray
    occluded: np.ndarray
    people_complete: bool
    activity: str
    category: str
    captions: tuple[str, ...]
    caption_sources: tuple[str, ...]


class Shards:
    """The examples of a list of shards, numbered from 0 in the order of the list.

    In memory are, for each example, where it ends and its checksum: 8 bytes (12 where a shard has 4 GiB).
    Safe to share between threads and to pickle.
    """

    def __init__(self, paths: Sequence[str], sizes: dict[str, int] | None = None):
        """paths: shards in folders or buckets, each with its index (`schema.index_name`) beside it; it may be
        missing in a folder. sizes: bytes of all files in their places, by path, where that is known.

        Raises UserError where a shard or its index cannot be read, or they do not fit together.
        """
        self.paths = tuple(paths)
        places = {folder: place(folder) for folder in {os.path.dirname(path) for path in self.paths}}
        if sizes is None:
            sizes = _listed(places)
        self._places = [places[os.path.dirname(path)] for path in self.paths]
        self._names = [os.path.basename(path) for path in self.paths]
        indices = _indices(self.paths, self._places, sizes)
        self._first = np.concatenate([[0], np.cumsum([len(ends) for ends, _ in indices])]).astype(np.int64)
        largest = max((int(ends[-1]) for ends, _ in indices if len(ends)), default=0)
        # Filled shard by shard: all of them twice would be the most memory that the whole run takes.
        self._ends = np.empty(self._first[-1], np.uint32 if largest < 2**32 else np.uint64)
        self._checksums = np.empty(self._first[-1], np.uint32)
        for shard, (ends, checksums) in enumerate(indices):
            rows = slice(self._first[shard], self._first[shard + 1])
            self._ends[rows], self._checksums[rows] = ends, checksums

    @classmethod
    def open(cls, path: str | os.PathLike, split: str = "train") -> Shards:
        """Open a folder of shards (its only split, or else the one named `split`) or a glob pattern.

        path: on a file system, or gs://BUCKET/FOLDER or s3://BUCKET/FOLDER; a pattern in a bucket is one
        of names in a folder. Raises UserError when nothing matches, a shard of the split is missing, or the
        split is not there.
        """
        path = os.fspath(path)
        folder, pattern = path.rstrip("/") if is_bucket(path) else path, None
        if is_bucket(path) and set("*?[") & set(path):
            folder, pattern = path.rsplit("/", 1)
        elif not is_bucket(path) and not os.path.isdir(path):
            return cls(_of_pattern(path, glob.glob(path)))
        sizes = _listed({folder: place(folder)})
        if pattern:
            return cls(_of_pattern(path, fnmatch.filter(sizes, f"{glob.escape(folder)}/{pattern}")), sizes)
        names = {name: match for name in map(os.path.basename, sizes) if (match := _NAME.fullmatch(name))}
        splits = sorted({match["split"] for match in names.values()})
        if not splits:
            raise UserError(f"{path}: holds no shards (NAME-SPLIT.tfrecord-00000-of-00001)")
        if len(splits) == 1:
            split = splits[0]
        elif split not in splits:
            raise UserError(f"{path}: has no split {split!r}; it holds {', '.join(splits)}")
        chosen = {name: match for name, match in names.items() if match["split"] == split}
        _check_complete(path, split, chosen)
        return cls([os.path.join(folder, name) for name in sorted(chosen)], sizes)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Example]:
        """All examples in order, read in long stretches: one request of a bucket is for many of them."""
        return self._in_order(self._example)

    def texts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Activity and captions of all examples in order, read like the examples but with less work."""
        return self._in_order(self._texts)

    def _in_order(self, make: Callable[[int, bytes], _Made]) -> Iterator[_Made]:
        for shard, storage in enumerate(self._places):
            read = functools.partial(self._stretch, shard, make)
            for made in storage.map(read, self._stretches(shard), ahead=_STRETCHES_AHEAD):
                yield from made

    def read(self, i: int) -> Example:
        """Example i. Raises UserError naming file and record where the record is damaged."""
        shard = self._shard(i)
        start, end = self._start(shard, i), int(self._ends[i])
        return self._example(i, self._places[shard].read(self._names[shard], start, end))

    def read_each(self, records: Sequence[int] | np.ndarray) -> Iterator[Example]:
        """The examples of these numbers in this order; from a bucket all at once, so that one waits for one
        request and not for the sum of them.
        """
        return self._places[0].map(self.read, records) if len(records) else iter(())

    def where(self, i: int) -> str:
        """File and record number within it, for messages."""
        shard = self._shard(i)
        return f"{self.paths[shard]} record {i - self._first[shard]}"

    def fingerprint(self) -> str:
        """Hex digest of every record's stored checksum and length, in order: what a resume must find again.

        Any change of content or order changes it. The packer writes the same number in the split's manifest.
        It is taken from the indices, and `read` refuses a record of another checksum than its index says.
        """
        digest = hashlib.sha256()
        for shard in range(len(self.paths)):
            rows = slice(self._first[shard], self._first[shard + 1])
            lengths = np.diff(self._ends[rows].astype(np.int64), prepend=0) - _FRAME
            digest.update(lengths.astype("<i8").tobytes())
            digest.update(self._checksums[rows].astype("<u4").tobytes())
        return digest.hexdigest()

    def _shard(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        return int(np.searchsorted(self._first, i, side="right")) - 1

    def _start(self, shard: int, i: int) -> int:
        return 0 if i == self._first[shard] else int(self._ends[i - 1])

    def _stretches(self, shard: int) -> Iterator[range]:
        """Records of a shard in runs of about `_STRETCH` bytes, at least one record each."""
        at, stop = int(self._first[shard]), int(self._first[shard + 1])
        while at < stop:
            most = self._start(shard, at) + _STRETCH
            end = max(at + 1, at + int(np.searchsorted(self._ends[at:stop], most, side="right")))
            yield range(at, end)
            at = end

    def _stretch(self, shard: int, make: Callable[[int, bytes], _Made], records: range) -> list[_Made]:
        begin = self._start(shard, records.start)
        data = self._places[shard].read(self._names[shard], begin, int(self._ends[records.stop - 1]))
        starts = [begin, *self._ends[records.start : records.stop - 1].tolist()]
        ends = self._ends[records.start : records.stop].tolist()
        return [
            make(i, data[start - begin : end - begin])
            for i, start, end in zip(records, starts, ends, strict=True)
        ]

    def _example(self, i: int, record: bytes) -> Example:
        """Example i from all bytes of its record."""
        try:
            return _example(self._features(i, record))
        except ValueError as error:
            raise UserError(f"{self.where(i)}: not an example of schema {schema.VERSION} ({error})") from None

    def _texts(self, i: int, record: bytes) -> tuple[str, tuple[str, ...]]:
        features = self._features(i, record)
        activity, captions = (features[name].bytes_list.value for name in (schema.ACTIVITY, schema.CAPTIONS))
        try:
            return b"".join(activity).decode(), tuple(caption.decode() for caption in captions)
        except ValueError as error:
            raise UserError(f"{self.where(i)}: not an example of schema {schema.VERSION} ({error})") from None

    def _features(self, i: int, record: bytes):
        """The feature map of example i; UserError where the record is not the one that was packed."""
        length = len(record) - _FRAME
        if not _intact(record, length):
            raise UserError(f"{self.where(i)}: damaged (checksum mismatch); copy or pack this shard again")
        if _FOOTER.unpack_from(record, _HEADER.size + length)[0] != self._checksums[i]:
            raise UserError(f"{self.where(i)}: not the record that its index was made of; copy both again")
        try:
            message = tf_example_pb2.Example.FromString(record[_HEADER.size : -_FOOTER.size])
        except DecodeError:
            raise UserError(f"{self.where(i)}: not a tf.train.Example") from None
        return message.features.feature


def _example(features) -> Example:
    """Build an Example from the feature map; ValueError where a field is not as the schema says."""

    def ints(name: str):
        return features[name].int64_list.value

    def texts(name: str):
        return features[name].bytes_list.value

    def one(values, name: str):
        if len(values) != 1:
            raise ValueError(f"{name} holds {len(values)} values, expected 1")
        return values[0]

    number = {name: one(ints(name), name) for name in schema.INT_FEATURES}
    if number[schema.SCHEMA_VERSION] != schema.VERSION:
        raise ValueError(
            f"it says {schema.SCHEMA_VERSION} {number[schema.SCHEMA_VERSION]}; pack the data again"
        )

    joints = np.array(features[schema.JOINTS].float_list.value, np.float32)
    joints = joints.reshape(schema.SHAPES[schema.JOINTS])
    visibility = np.array(ints(schema.VISIBILITY), np.uint8).reshape(schema.SHAPES[schema.VISIBILITY])
    occluded = np.array(ints(schema.OCCLUDED), bool).reshape(schema.SHAPES[schema.OCCLUDED])
    if not len(joints) == len(visibility) == len(occluded):
        raise ValueError(
            f"{len(joints)} people have joints, {len(visibility)} visibility, {len(occluded)} occluded"
        )
    joints[visibility == schema.MISSING] = np.nan
    words: dict[str, Any] = {name: one(texts(name), name).decode() for name in schema.TEXT_FEATURES}
    words |= {name: tuple(text.decode() for text in texts(name)) for name in schema.TEXT_LIST_FEATURES}
    return Example(
        image=one(texts(schema.IMAGE), schema.IMAGE),
        height=number[schema.HEIGHT],
        width=number[schema.WIDTH],
        original_height=number[schema.ORIGINAL_HEIGHT],
        original_width=number[schema.ORIGINAL_WIDTH],
        joints=joints,
        visibility=visibility,
        occluded=occluded,
        people_complete=bool(number[schema.PEOPLE_COMPLETE]),
        **words,
    )


def _check_complete(directory: str, split: str, names: dict[str, re.Match]) -> None:
    sets = sorted({(match["dataset"], match["shards"]) for match in names.values()})
    if len(sets) > 1:
        found = ", ".join(f"{dataset}-{split} of {int(shards)}" for dataset, shards in sets)
        raise UserError(f"{directory}: holds several sets of shards ({found}); name one by a pattern")
    shards = int(sets[0][1])
    missing = sorted(set(range(shards)) - {int(match["shard"]) for match in names.values()})
    if missing:
        raise UserError(
            f"{directory}: shard {schema.shard_name(sets[0][0], split, missing[0], shards)} is missing "
            f"({len(missing)} of {shards} are)"
        )


def _of_pattern(pattern: str, found: list[str]) -> list[str]:
    paths = sorted(path for path in found if _NAME.fullmatch(os.path.basename(path)))
    if not paths:
        raise UserError(
            f"{pattern}: no such directory of shards, and no file NAME-SPLIT.tfrecord-00000-of-00001 "
            "matches it as a pattern"
        )
    return paths


def _listed(places: Mapping[str, Folder | Bucket]) -> dict[str, int]:
    """Bytes of every file in some places, by path."""
    return {
        os.path.join(folder, name): size
        for folder, storage in places.items()
        for name, size in storage.sizes().items()
    }


_Index = tuple[np.ndarray, np.ndarray]  # of a shard: where each record ends (N,), its checksum uint32 (N,)


def _indices(paths: Sequence[str], places: Sequence[Folder | Bucket], sizes: dict[str, int]) -> list[_Index]:
    """The index of each shard. Those of a bucket come many at a time."""

    def index(shard: int) -> _Index:
        return _record_index(paths[shard], places[shard], sizes)

    read = places[0].map(index, range(len(paths))) if paths else ()
    return list(tqdm.tqdm(read, desc="reading indices", total=len(paths), delay=2, leave=False))


def _record_index(path: str, storage: Folder | Bucket, sizes: dict[str, int]) -> _Index:
    """The index of a shard, from its file or else by a scan; UserError where it does not fit the shard."""
    if path not in sizes:
        raise UserError(f"{path}: cannot be read (not there); expected a shard")
    size = sizes[path]
    match = _NAME.fullmatch(os.path.basename(path))
    name = match and schema.index_name(
        match["dataset"], match["split"], int(match["shard"]), int(match["shards"])
    )
    index_path = os.path.join(os.path.dirname(path), name or "")
    if not name or index_path not in sizes:
        if isinstance(storage, Bucket):
            raise UserError(f"{index_path}: not there; in a bucket a shard needs its index beside it")
        return _scan(path, size)
    try:
        data = storage.read(name, 0, sizes[index_path])
        offsets, lengths, checksums, expected = shard_index.from_bytes(data)
    except (OSError, ValueError) as error:
        raise UserError(f"{index_path}: not a shard index ({error}); delete it to have it rebuilt") from None
    ends = offsets.astype(np.int64) + lengths + _FRAME
    if size != expected or (ends[-1] if len(ends) else 0) != size:
        raise UserError(f"{path}: {size} bytes, its index says {expected}; copy or pack this shard again")
    if (offsets != np.append(np.zeros(1, np.int64), ends)[:-1]).any():
        raise UserError(f"{index_path}: not a shard index (records do not follow each other); pack it again")
    return ends, checksums


def _stored_checksums(path: str, ends: np.ndarray) -> np.ndarray:
    """The checksum at the end of each record, for a shard without an index: four bytes of each are read."""
    if not len(ends):
        return np.zeros(0, np.uint32)
    data = np.memmap(path, np.uint8, "r")
    return data[ends[:, None] - _FOOTER.size + np.arange(_FOOTER.size)].view("<u4")[:, 0]


def _scan(path: str, size: int) -> _Index:
    """Walk the records of a shard that has no index, checking each length field and the end of the file."""
    ends: list[int] = []
    at = 0
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            header = file.read(_HEADER.size)
            end = at + _FRAME
            if len(header) == _HEADER.size:
                length, checksum = _HEADER.unpack(header)
                end += length
            if len(header) < _HEADER.size or checksum != _masked_crc(header[:8]) or end > size:
                raise UserError(
                    f"{path} record {len(ends)}: damaged or cut off; copy or pack this shard again"
                )
            ends.append(end)
            at = end
    found = np.array(ends, np.int64)
    return found, _stored_checksums(path, found)


def _intact(record: bytes, length: int) -> bool:
    """Whether a whole record (header, payload, footer) says `length` and matches both its checksums."""
    if length < 0 or len(record) != _HEADER.size + length + _FOOTER.size:
        return False
    return _HEADER.unpack_from(record) == (length, _masked_crc(record[:8])) and _FOOTER.unpack_from(
        record, _HEADER.size + length
    )[0] == _masked_crc(record[_HEADER.size : -_FOOTER.size])


def _masked_crc(data: bytes) -> int:
    """CRC32C as TFRecord stores it: rotated and offset, so that a checksum of checksums stays sound."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
