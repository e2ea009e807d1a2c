"""Drawn people as a folder of photos, in the form that one's own photos have: the notebooks' stand-in."""

from __future__ import annotations

import csv
import json
import pathlib

from tqdm import tqdm

from annotation import records, schema
from annotation.sources.figures import Figures, generate
from focusclip_jax.files import creating

KEYPOINTS, ACTIVITIES = "keypoints.json", "activities.csv"


def write(folder: pathlib.Path, count: int, seed: int, size: int = 320) -> None:
    """Draw `count` people into `folder`, which is made. Raises OSError where it holds something already.

    photo-0000.jpg, …: `size` × `size` pixels. keypoints.json: COCO's ground truth, with MPII's sixteen joints
    named under `categories`. activities.csv: the columns image and activity; all 24 activities take turns.
    """
    people = Figures(seed=seed, count=count, size=size, activities="all", styles="all")
    images, annotations, activities = [], [], []
    with creating(folder) as whole:
        for index in tqdm(range(count), desc="draw", unit=" photos"):
            record, picture = generate(people, index)
            name = f"photo-{index:04d}.jpg"
            picture.save(whole / name, quality=95, subsampling=0)
            images.append({"id": index, "file_name": name, "width": size, "height": size})
            for person in record.people:
                row = {"id": len(annotations), "image_id": index, "category_id": 1}
                annotations.append(row | {"keypoints": _keypoints(person)})
            activities.append((name, record.activity))
        category = {"id": 1, "name": "person", "keypoints": list(schema.JOINT_NAMES)}
        truth = {"images": images, "annotations": annotations, "categories": [category]}
        (whole / KEYPOINTS).write_text(json.dumps(truth), "utf-8")
        with open(whole / ACTIVITIES, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image", "activity"), *activities])


def _keypoints(person: records.Person) -> list[float]:
    """x, y, v of each joint. COCO's v: 2 is seen, 1 hidden; 0, not labelled, is none of a drawn person."""
    return [
        number
        for (x, y), hidden in zip(person.joints, person.occluded, strict=True)
        for number in (round(x, 2), round(y, 2), 1 if hidden else 2)
    ]
