"""Find one person's joints in each photo of a folder with MediaPipe, and write them for `annotate`.

    python3.12 -m venv .venv-mediapipe
    .venv-mediapipe/bin/pip install -r tools/requirements-mediapipe.txt
    .venv-mediapipe/bin/python tools/mediapipe_joints.py PHOTOS --out joints.json
    ./launch.sh annotate describe --source=mediapipe:joints.json …

It imports nothing of the project: MediaPipe cannot live in the same environment. Offline: the models are
in MediaPipe's package. The file is {photo: {width, height, detector, people}} with `people` a list of at
most one person, 33 x {x, y, z, visibility}, x and y as parts of the photo's width and height.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before the import: its own messages say nothing of use

import mediapipe
import numpy as np
from PIL import Image
from tqdm import tqdm

PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
EXIF_ORIENTATION = 0x0112


def main() -> int:
    parser = argparse.ArgumentParser(
        description="One person's joints in each photo of a folder, found by MediaPipe."
    )
    parser.add_argument("photos", type=Path, help="folder of photos; folders in it are searched, too")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSON to write")
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.5,
        metavar="C",
        help="how sure the detector must be that somebody is there, 0 to 1 (default 0.5); paintings and "
        "statues need less",
    )
    args = parser.parse_args()
    if not 0 <= args.confidence <= 1:
        parser.error(f"--confidence={args.confidence}: expected 0 to 1")
    paths = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in PHOTOS)
    if not paths:
        parser.error(f"{args.photos}: no photo ({', '.join(PHOTOS)}) in this folder")

    found, turned, damaged = {}, [], []
    detector = {
        "mediapipe": mediapipe.__version__,
        "model_complexity": 1,
        "min_detection_confidence": args.confidence,
    }
    # Complexity 1 is the only landmark model inside the package; 0 and 2 would be downloaded.
    with mediapipe.solutions.pose.Pose(
        static_image_mode=True, model_complexity=1, min_detection_confidence=args.confidence
    ) as pose:
        for path in tqdm(paths, unit=" photos"):
            name = path.relative_to(args.photos).as_posix()
            try:
                with Image.open(path) as image:
                    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
                        turned.append(name)
                        continue
                    pixels = np.asarray(image.convert("RGB"))
            except OSError as error:
                damaged.append(f"{name} ({error})")
                continue
            height, width = pixels.shape[:2]
            people = landmarks(pose.process(pixels))
            found[name] = {"width": width, "height": height, "detector": detector, "people": people}

    partial = args.out.with_name(args.out.name + ".partial")
    partial.write_text(json.dumps(found, indent=1, ensure_ascii=False), "utf-8")
    os.replace(partial, args.out)
    somebody = sum(bool(photo["people"]) for photo in found.values())
    print(f"{args.out}: somebody found in {somebody} of {len(paths)} photos", file=sys.stderr)
    if turned:
        print(
            f"  {len(turned)} left out, since a viewer turns them (EXIF orientation) and joints refer to the "
            f"file's own pixels: save them upright first, {turned[0]} for one",
            file=sys.stderr,
        )
    for photo in damaged:
        print(f"  left out, cannot be read: {photo}", file=sys.stderr)
    return 0


def landmarks(result) -> list[list[dict[str, float]]]:
    """The people of MediaPipe's answer: none or one."""
    if result.pose_landmarks is None:
        return []
    return [
        [
            {key: round(getattr(mark, key), 6) for key in ("x", "y", "z", "visibility")}
            for mark in result.pose_landmarks.landmark
        ]
    ]


if __name__ == "__main__":
    sys.exit(main())
