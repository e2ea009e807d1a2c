"""Which data sets are here, whether they are whole, and how to get what is missing.

`DATA_SETS` says what each is made of. Photographs may be a part of the published ones; a table or list must
have exactly the published number of entries, since another number means another version or a damaged file.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from annotation.errors import UserError

SAMPLE = 100  # photographs of each kind that are decoded, evenly spaced over their names


@dataclasses.dataclass(frozen=True)
class Photographs:
    """Image files of one kind. pattern: below the data set's folder. count: as published, None if unknown."""

    pattern: str
    count: int | None


@dataclasses.dataclass(frozen=True)
class Table:
    """One file of entries. count: file → {what: how many}. expected: as published, {} if unknown."""

    path: str
    count: Callable[[Path], dict[str, int]]
    expected: dict[str, int]


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set. folder: below the data directory. get, terms, notes: sentences for the user."""

    name: str
    folder: str
    used_for: str
    parts: tuple[Photographs | Table, ...]
    get: str
    terms: str
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found of one part. present: there at all. complete: as published, as far as that is known."""

    part: Photographs | Table
    present: bool
    complete: bool
    text: str
    wrong: str | None = None


# --------------------------------------------------------------------------------- counting of entries


def lines(path: Path) -> dict[str, int]:
    return {"lines": len(path.read_text("utf-8").splitlines())}


def rows(path: Path) -> dict[str, int]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return {"rows": sum(1 for _ in csv.DictReader(file))}


def rows_by_usage(path: Path) -> dict[str, int]:
    """FER2013's three splits are told by the column Usage."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        return dict(Counter(row["Usage"] for row in csv.DictReader(file)))


def entries(path: Path) -> dict[str, int]:
    found = json.loads(path.read_bytes())
    if not isinstance(found, list):
        raise ValueError("expected a list")
    return {"entries": len(found)}


def mpii_images(path: Path) -> dict[str, int]:
    import scipy.io

    release = scipy.io.loadmat(str(path), struct_as_record=False, squeeze_me=True)["RELEASE"]
    return {"images": len(release.annolist)}


def emotic_images(path: Path) -> dict[str, int]:
    import scipy.io

    release = scipy.io.loadmat(str(path), struct_as_record=False, squeeze_me=True)
    return {split: len(release[split]) for split in ("train", "val", "test")}


# --------------------------------------------------------------------------------------------- data sets

_MPII_TERMS = "research only, no commercial use; its photographs may not be passed on"
_CAPTIONS = ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613", "gpt-4-0613", "llama-2-70b-chat-hf")
_FER = {"Training": 28709, "PublicTest": 3589, "PrivateTest": 3589}
_FER_FOLDERS = {
    "angry": 491,
    "disgust": 55,
    "fear": 528,
    "happy": 879,
    "neutral": 626,
    "sad": 594,
    "surprise": 416,
}

DATA_SETS = (
    DataSet(
        name="mpii",
        folder="mpii",
        used_for="training: photographs, joints, activities",
        parts=(
            Photographs("images/*.jpg", 24984),
            Table("mpii_human_pose_v1_u12_1.mat", mpii_images, {"images": 24987}),
            Table("annotations/mpii_train.json", entries, {"entries": 22246}),
            Table("annotations/mpii_val.json", entries, {"entries": 2958}),
            Table("mpii_human_pose.csv", rows, {"rows": 17372}),
            Table("splits/train_images.txt", lines, {"lines": 22246}),
            Table("splits/valid_images.txt", lines, {"lines": 2958}),
            Table("splits/test_images.txt", lines, {"lines": 11731}),
        ),
        get="images (12 GB) and the .mat from http://human-pose.mpi-inf.mpg.de; the JSON files from mmpose's "
        "documentation of MPII; the CSV circulates on Kaggle. One of .mat, JSON and CSV is enough",
        terms=_MPII_TERMS,
        notes="the CSV holds one person per image",
    ),
    DataSet(
        name="mpii-captions",
        folder="mpii-human-pose-captions",
        used_for="training: the released MPII Pose Descriptions, for import-captions",
        parts=tuple(
            Table(f"{model}/{split}.json", entries, {"entries": count})
            for model in _CAPTIONS
            for split, count in (("train", 14644), ("val", 2723))
            if (model, split) != ("gpt-4-0613", "val")
        ),
        get="`hf download --repo-type=dataset saifkhichi96/mpii-human-pose-captions`",
        terms="BSD-2-Clause; OpenAI's terms of use and the Llama 2 licence limit what their output may train",
        notes="gpt-4 has no validation captions: the release's card gives gpt-3.5-turbo-0613's instead",
    ),
    DataSet(
        name="stanford40",
        folder="stanford40",
        used_for="evaluation: activity",
        parts=(
            Photographs("JPEGImages/*.jpg", 9532),
            Table("ImageSplits/actions.txt", lines, {"lines": 41}),
            Table("ImageSplits/train.txt", lines, {"lines": 4000}),
            Table("ImageSplits/test.txt", lines, {"lines": 5532}),
        ),
        get="JPEGImages.zip and ImageSplits.zip from http://vision.stanford.edu/Datasets/40actions.html",
        terms="research use",
        notes="actions.txt is a header and 40 actions",
    ),
    DataSet(
        name="utkface",
        folder="utkface",
        used_for="evaluation: age, race as perceived",
        parts=(Photographs("images/*.jpg", 23708),),
        get="aligned and cropped faces from https://susanqq.github.io/UTKFace, unpacked into images/",
        terms="non-commercial research only",
        notes="a few published file names lack a field and carry no label",
    ),
    DataSet(
        name="fer2013",
        folder="fer2013",
        used_for="evaluation: emotion as perceived",
        parts=(
            Table("fer2013.csv", rows_by_usage, _FER),
            *(Photographs(f"test/{name}/*.jpg", count) for name, count in _FER_FOLDERS.items()),
        ),
        get="fer2013.csv from the Kaggle challenge on facial expression recognition (2013), or its split "
        "PrivateTest as images in test/CLASS/; either is enough",
        terms="research use, as the challenge says; the EU AI Act prohibits recognising emotions at work and "
        "at school",
        notes="Kaggle's train.csv and test.csv will not do: the latter has no labels",
    ),
    DataSet(
        name="ferplus",
        folder="ferplus",
        used_for="evaluation: emotion as perceived, new labels of FER2013",
        parts=(Table("fer2013new.csv", rows_by_usage, _FER),),
        get="fer2013new.csv from https://github.com/microsoft/FERPlus; its rows are those of fer2013.csv, "
        "which holds the images",
        terms="labels MIT; images as FER2013",
    ),
    DataSet(
        name="emotic",
        folder="emotic",
        used_for="evaluation: emotion and age as perceived",
        parts=(
            Table("Annotations/Annotations.mat", emotic_images, {}),
            Photographs("emotic/*/images/*.jpg", None),
        ),
        get="by the form on http://sunai.uoc.edu/emotic",
        terms="non-commercial research; each user asks for access",
        notes="several emotions per person; training rows have other fields than those of val and test",
    ),
    DataSet(
        name="lagenda",
        folder="lagenda",
        used_for="evaluation: age as perceived, by body and by face",
        parts=(
            Table("lagenda_annotation.csv", rows, {}),
            Photographs("images/*.jpg", None),
        ),
        get="annotation and download script from https://wildchlamydia.github.io/lagenda; the photographs "
        "are Open Images'",
        terms="annotation: see its site; photographs CC BY 2.0 each",
        notes="-1 is a missing value",
    ),
    DataSet(
        name="kinetics400",
        folder="kinetics400",
        used_for="evaluation: activity",
        parts=(
            Table("label_map.txt", lines, {"lines": 400}),
            Table("test.csv", rows, {}),
            Photographs("test/*/*.jpg", None),
        ),
        get="lists from https://github.com/cvdfoundation/kinetics-dataset; label_map.txt from "
        "https://github.com/google-deepmind/kinetics-i3d; take one frame of each video yourself",
        terms="annotation CC BY 4.0; the videos belong to who uploaded them",
        notes="videos vanish: fewer frames than rows are usual",
    ),
    DataSet(
        name="fairface",
        folder="fairface",
        used_for="evaluation: race as perceived; off by default",
        parts=(
            Table("fairface_label_val.csv", rows, {"rows": 10954}),
            Photographs("val/*.jpg", 10954),
        ),
        get="labels and images (padding 0.25) from https://github.com/joojs/fairface",
        terms="CC BY 4.0; the EU AI Act prohibits inferring race from biometrics",
    ),
)


# ------------------------------------------------------------------------------------------------ check


def check(data_set: DataSet, data_dir: Path) -> list[Finding]:
    """What is there of one data set. Reads every table, and decodes a sample of the photographs."""
    root = data_dir / data_set.folder
    return [
        _table(root, part) if isinstance(part, Table) else _photographs(root, part) for part in data_set.parts
    ]


def _table(root: Path, part: Table) -> Finding:
    path = root / part.path
    if not path.exists():
        return Finding(part, present=False, complete=False, text=f"{part.path}: missing")
    try:
        found = part.count(path)
    except Exception as error:  # whatever a damaged file makes of csv, json and scipy: it is the finding
        text = f"{part.path}: cannot be read ({type(error).__name__}: {error})"
        return Finding(
            part, present=True, complete=False, text=text, wrong=f"{path}: cannot be read ({error})"
        )
    text = f"{part.path}: {_counts(found)}"
    if part.expected and found != part.expected:
        wrong = f"{path}: {_counts(found)}; the published file has {_counts(part.expected)}"
        return Finding(part, present=True, complete=False, text=text, wrong=wrong)
    return Finding(part, present=True, complete=True, text=text)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counts.items()) or "nothing"


def _photographs(root: Path, part: Photographs) -> Finding:
    paths = sorted(root.glob(part.pattern))
    if not paths:
        return Finding(part, present=False, complete=False, text=f"{part.pattern}: missing")
    of = "" if part.count is None else f" of {part.count:,}"
    sample = paths[:: max(1, len(paths) // SAMPLE)]
    text = f"{part.pattern}: {len(paths):,}{of} photographs, {len(sample)} decoded"
    wrong = None
    if damaged := [path for path in sample if not _decodes(path)]:
        wrong = (
            f"{damaged[0]}: cannot be decoded ({len(damaged)} of {len(sample)} photographs that were tried)"
        )
    elif part.count is not None and len(paths) > part.count:
        wrong = f"{root / part.pattern}: {len(paths):,} photographs; only {part.count:,} were published"
    complete = wrong is None and len(paths) == (part.count or len(paths))
    return Finding(part, present=True, complete=complete, text=text, wrong=wrong)


def _decodes(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True


def chosen(names: list[str]) -> list[DataSet]:
    """The data sets of these names, all where none is given. Raises UserError for an unknown one."""
    by_name = {data_set.name: data_set for data_set in DATA_SETS}
    for name in names:
        if name not in by_name:
            raise UserError(f"no data set {name!r}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]
