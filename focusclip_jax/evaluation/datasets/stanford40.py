"""Stanford 40 Actions: `JPEGImages/<action>_<nnn>.jpg` listed by `ImageSplits/test.txt` or `train.txt`.

The whole image is shown to the model, not the person's box. Images that are listed but absent are left
out of the evaluation and show in the summary ("1,200 of 5,532 images present").
"""

from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet, first_missing, image_reader
from focusclip_jax.evaluation.tasks import STANFORD40_CLASSES

HOW_TO_GET = (
    "download JPEGImages.zip and ImageSplits.zip from http://vision.stanford.edu/Datasets/40actions.html "
    "(research use) and unpack both into {root}"
)
IMAGES = {"train": 4000, "test": 5532}


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not below `root`."""
    return first_missing(root, f"ImageSplits/{split}.txt", "JPEGImages/*.jpg")


def load(root: Path, split: str = "test") -> EvaluationSet:
    """Read the list of the images of a split below `root`.

    split: of `IMAGES`.
    Raises `UserError` where the list is missing, names an unknown action, or none of its images is there.
    """
    listing = root / "ImageSplits" / f"{split}.txt"
    if not listing.is_file():
        raise UserError(f"{listing}: not found; expected the official list of Stanford 40 {split} images")
    listed = listing.read_text().split()
    for name in listed:
        if _action(name) not in STANFORD40_CLASSES:
            raise UserError(f"{listing}: {name} names none of the 40 actions; expected <action>_<number>.jpg")
    images = root / "JPEGImages"
    present = {path.name for path in images.glob("*.jpg")}
    names = tuple(name for name in listed if name in present)
    if not names:
        raise UserError(f"{images}: none of the {len(listed):,} images of {listing} is there")
    return EvaluationSet(
        names=names,
        labels=tuple(_action(name) for name in names),
        read=image_reader([images / name for name in names]),
        expected=IMAGES[split],
        source=f"ImageSplits/{split}.txt",
    )


def _action(name: str) -> str:
    return name.rpartition("_")[0]
