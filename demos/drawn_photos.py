"""Drawn people as a folder of photos, in the form that one's own photos have: the notebooks' stand-in."""

from __future__ import annotations

import csv
import json
import pathlib

from tqdm import tqdm

from annotation import schema
from annotation.sources.figures import Figures, generate

KEYPOINTS, ACTIVITIES = "keypoints.json", "activities.csv"


def write(folder: pathlib.Path, count: int, seed: int, size: int = 320) -> None:
    """Draw `count` people into `folder`, which is made; a folder that is there already is an error (OSError).

    photo-0000.jpg, …: `size` × `size` pixels. keypoints.json: COCO's ground truth, with MPII's sixteen joints
    named under `categories`. activities.csv: the columns image and activity; all 24 activities take turns.
    """
    folder.mkdir(parents=True)
    people = Figures(seed=seed, count=count, size=size, activities="all", styles="all")
    images, annotations, activities = [], [], []
    for index in tqdm(range(count), desc="draw", unit=" photos"):
        record, picture = generate(people, index)
        name = f"photo-{index:04d}.jpg"
        picture.save(folder / name, quality=95, subsampling=0)
        images.append({"id": index, "file_name": name, "width": size, "height": size})
        for person in record.people:
            # COCO's v: 2 is seen, 1 hidden, 0 not labelled. All joints of drawn people are known.
            keypoints = [
                number
                for (x, y), hidden in zip(person.joints, person.occluded, strict=True)
                for number in (round(x, 2), round(y, 2), 1 if hidden else 2)
            ]
            annotations.append(
                {"id": len(annotations), "image_id": index, "category_id": 1, "keypoints": keypoints}
            )
        activities.append((name, record.activity))
    person = {"id": 1, "name": "person", "keypoints": list(schema.JOINT_NAMES)}
    truth = {"images": images, "annotations": annotations, "categories": [person]}
    (folder / KEYPOINTS).write_text(json.dumps(truth), "utf-8")
    with open(folder / ACTIVITIES, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "activity"), *activities])
