"""Small journals, photographs and an independent reader of what was packed."""

import csv
import io
import json
import struct

import google_crc32c
import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from annotation import journal, records

DESCRIBER = journal.Describer("test", "1", {})


@pytest.fixture
def make_record():
    """A record with `people` people at random, some joints missing and some occluded."""

    def make(image_id, people=1, seed=0, **fields):
        rng = np.random.default_rng([seed, people, *image_id.encode()])

        def person():
            joints = rng.uniform(-5, 120, (16, 2))
            joints[rng.random(16) < 0.2] = np.nan
            joints[0] = 3.25, 7.5
            visibility = np.where(np.isfinite(joints[:, 0]), rng.integers(1, 3, 16), 0)
            return records.person(joints, visibility, rng.random(16) < 0.3, {"scale": 1.5})

        return records.ImageRecord(image_id, tuple(person() for _ in range(people)), source="test", **fields)

    return make


@pytest.fixture
def write_journal():
    """Write records and their captions as `annotate describe` leaves them; captions=None for two each."""

    def write(directory, image_records, captions=None):
        directory.mkdir(parents=True, exist_ok=True)
        lines = [records.to_json(record) + "\n" for record in image_records]
        (directory / journal.RECORDS).write_text("".join(lines), "utf-8")
        with journal.open_journal(directory) as open_journal:
            for record in image_records:
                texts = (
                    captions(record)
                    if captions
                    else [f"Caption {n} of {record.image_id}, né." for n in (0, 1)]
                )
                open_journal.append(
                    DESCRIBER,
                    journal.input_hash(record),
                    record.image_id,
                    [records.Description(record.image_id, text, f"test/{n}") for n, text in enumerate(texts)],
                )
        return directory

    return write


@pytest.fixture
def photo():
    """JPEG bytes (or another format's) of a smooth gradient with a white square at a known place."""

    def make(width=120, height=90, mode="RGB", format="JPEG", square=None, **save):
        x, y = np.meshgrid(np.linspace(0, 120, width), np.linspace(0, 120, height))
        pixels = np.stack([x, y, 0 * x + 40], -1).astype(np.uint8)
        if square:
            left, top, right, bottom = square
            pixels[top:bottom, left:right] = 255
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, format, **save)
        return buffer.getvalue()

    return make


def _masked(data):
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.fixture
def read_shard():
    """Every record of a shard as {feature: list}, checksums verified; shares no code with the writer."""

    def read(path):
        data, at, examples = path.read_bytes(), 0, []
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            assert struct.unpack_from("<I", data, at + 8)[0] == _masked(data[at : at + 8])
            payload = data[at + 12 : at + 12 + length]
            assert struct.unpack_from("<I", data, at + 12 + length)[0] == _masked(payload)
            at += 16 + length
            features = tf_example_pb2.Example.FromString(payload).features.feature
            examples.append(
                {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items()}
            )
        return examples

    return read


@pytest.fixture
def mpii_csv(tmp_path):
    """Write rows {column: value} as the circulating MPII CSV; what a row does not give is plausible."""

    def write(*rows, without=()):
        from annotation.sources.mpii import CSV_JOINTS

        names = ["ID", "NAME", *(f"{joint}_{axis}" for joint in CSV_JOINTS for axis in "XY")]
        names = [name for name in [*names, "Scale", "Activity", "Category"] if name not in without]
        default = {name: 100 + 7 * n % 90 for n, name in enumerate(names)}
        default |= {"ID": 1, "Scale": 1, "Activity": "NA", "Category": "NA"}
        path = tmp_path / "mpii.csv"
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(default | row for row in rows)
        return path

    return write


@pytest.fixture
def write_json(tmp_path):
    def write(value, name="file.json"):
        path = tmp_path / name
        path.write_text(json.dumps(value), "utf-8")
        return path

    return write
