"""What one example of a shard holds. The only module that both packages import.

An example is one image with all its annotated people and every description written for it.
Arrays are flattened row by row, so a `tf.train.Example` carries them as plain lists; `SHAPES`
gives the shape to restore, with -1 for the number of people P.

Coordinates are pixels of the *stored* image, 0-based, x before y, and a whole number is the centre of a
pixel: with s = stored / original size of an axis, stored = (original + 0.5) * s - 0.5, and back by
original = (stored + 0.5) / s - 0.5. A missing joint is (0, 0) with visibility 0.
"""

VERSION = 1

IMAGE_ID = "image_id"  # text, unique in the data set: the image's path relative to its folder
IMAGE = "image"  # JPEG bytes, RGB
HEIGHT = "height"  # of the stored image, pixels
WIDTH = "width"
ORIGINAL_HEIGHT = "original_height"  # of the photograph that was packed, pixels
ORIGINAL_WIDTH = "original_width"
JOINTS = "joints"  # float32 (P, 16, 2), MPII order
VISIBILITY = "visibility"  # int64 (P, 16): MISSING, DERIVED or LABELLED
OCCLUDED = "occluded"  # int64 (P, 16): 1 where the source says the joint is hidden, else 0
PEOPLE_COMPLETE = "people_complete"  # 1 where every person in the image is annotated
ACTIVITY = "activity"  # text, "" where unknown
CATEGORY = "category"  # text, "" where unknown
CAPTIONS = "captions"  # list of text
CAPTION_SOURCES = "caption_sources"  # list of text, who wrote each caption, in the same order
SCHEMA_VERSION = "schema_version"

MISSING, DERIVED, LABELLED = 0, 1, 2

JOINT_COUNT = 16
SHAPES = {JOINTS: (-1, JOINT_COUNT, 2), VISIBILITY: (-1, JOINT_COUNT), OCCLUDED: (-1, JOINT_COUNT)}

TEXT_FEATURES = (IMAGE_ID, ACTIVITY, CATEGORY)
TEXT_LIST_FEATURES = (CAPTIONS, CAPTION_SOURCES)
INT_FEATURES = (HEIGHT, WIDTH, ORIGINAL_HEIGHT, ORIGINAL_WIDTH, PEOPLE_COMPLETE, SCHEMA_VERSION)

# MPII order. "right" and "left" are the person's own sides.
JOINT_NAMES = (
    "right ankle",
    "right knee",
    "right hip",
    "left hip",
    "left knee",
    "left ankle",
    "pelvis",
    "thorax",
    "upper neck",
    "head top",
    "right wrist",
    "right elbow",
    "right shoulder",
    "left shoulder",
    "left elbow",
    "left wrist",
)
# Joint i of a mirrored person is joint MIRRORED[i] of the person.
MIRRORED = (5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10)

# The ten parts of a body, each the joints whose bounding box makes its ellipse.
PARTS = {
    "head": (7, 8, 9, 12, 13),
    "torso": (6, 7, 12, 13, 2, 3),
    "left upper arm": (13, 14, 7),
    "right upper arm": (12, 11, 7),
    "left lower arm": (14, 15, 13),
    "right lower arm": (11, 10, 12),
    "left upper leg": (3, 4, 6),
    "right upper leg": (2, 1, 6),
    "left lower leg": (4, 5, 3),
    "right lower leg": (1, 0, 2),
}


def shard_name(dataset: str, split: str, shard: int, shards: int) -> str:
    """File name of one shard, as TFDS spells it: `figures-train.tfrecord-00000-of-00004`."""
    return f"{dataset}-{split}.tfrecord-{shard:05d}-of-{shards:05d}"


def index_name(dataset: str, split: str, shard: int, shards: int) -> str:
    """File name of that shard's index; it does not match `*.tfrecord-*`, so readers of shards ignore it.

    What is in it: `annotation.shard_index`.
    """
    return f"{dataset}-{split}.index-{shard:05d}-of-{shards:05d}.npz"
