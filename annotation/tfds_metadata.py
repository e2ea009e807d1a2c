"""What TensorFlow Datasets needs to know about shards: dataset_info.json and features.json."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from annotation import schema


def write(out: Path, manifests: list[dict[str, Any]]) -> None:
    """Write both files into `out` for all splits of one data set, given the manifests of its splits."""
    import tensorflow_datasets as tfds  # a second to import

    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=manifests[0]["dataset"],
            version=tfds.core.Version("1.0.0"),
            data_dir=str(out),
            module_name="",
        ),
        description="Images with people's joints, their activity and pose descriptions.",
        features=_features(),
    )
    info.set_file_format(tfds.core.FileFormat.TFRECORD)
    template = tfds.core.ShardedFileTemplate(
        data_dir=out, dataset_name=manifests[0]["dataset"], filetype_suffix="tfrecord"
    )
    splits = [
        tfds.core.SplitInfo(
            name=manifest["split"],
            shard_lengths=[shard["examples"] for shard in manifest["shards"]],
            num_bytes=sum(shard["bytes"] for shard in manifest["shards"]),
            filename_template=template.replace(split=manifest["split"]),
        )
        for manifest in sorted(manifests, key=lambda manifest: manifest["split"])
    ]
    info.set_splits(tfds.core.SplitDict(splits))
    partial = out / ".metadata.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    info.write_to_directory(partial)
    for path in sorted(partial.iterdir()):
        os.replace(path, out / path.name)
    partial.rmdir()


def _features() -> Any:
    import tensorflow_datasets as tfds

    integer = tfds.features.Scalar(np.int64)
    special = {
        schema.IMAGE: tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        schema.JOINTS: tfds.features.Tensor(shape=(None, schema.JOINT_COUNT, 2), dtype=np.float32),
        schema.VISIBILITY: tfds.features.Tensor(shape=(None, schema.JOINT_COUNT), dtype=np.int64),
        schema.OCCLUDED: tfds.features.Tensor(shape=(None, schema.JOINT_COUNT), dtype=np.int64),
    }
    return tfds.features.FeaturesDict(
        special
        | dict.fromkeys(schema.INT_FEATURES, integer)
        | dict.fromkeys(schema.TEXT_FEATURES, tfds.features.Text())
        | dict.fromkeys(schema.TEXT_LIST_FEATURES, tfds.features.Sequence(tfds.features.Text()))
    )
