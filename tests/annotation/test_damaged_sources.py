"""Whatever stands in a file of joints, its reader gives records that can be written, or one sentence."""

import copy
import json
from collections import Counter

import numpy as np
import pytest

from annotation import records
from annotation.errors import UserError
from annotation.sources import formats
from annotation.sources.reading import load_json


def triples(joints):
    return [value for j in range(joints) for value in (10 + j, 20 + 2 * j, 0.9)]


LANDMARK = {"x": 0.1, "y": 0.2, "z": 0, "visibility": 0.9}
KEYPOINTS = {"x": list(range(17)), "y": list(range(17)), "visible": [0.9] * 17}
INSTANCE = {"keypoints": [[1, 2]] * 16, "keypoint_scores": [0.9] * 16, "bbox": [[1, 2, 3, 4]]}
FILES = {
    "openpose": {"version": 1.3, "people": [{"pose_keypoints_2d": triples(25)}]},
    "mediapipe": {"a.jpg": {"width": 9, "height": 8, "people": [[LANDMARK] * 33]}, "b.jpg": [LANDMARK] * 33},
    "ultralytics": {"a.jpg": [{"name": "person", "keypoints": KEYPOINTS}], "b.jpg": [[[1, 2, 0.3]] * 17]},
    "halpe": [{"image_id": "a.jpg", "category_id": 1, "keypoints": triples(26), "score": 1}],
    "mmpose": {"meta_info": {"keypoint_id2name": {"0": "nose"}}, "instance_info": [INSTANCE]},
    "joints": {"a.jpg": {"left wrist": [1, 2]}, "b.jpg": [{"left wrist": [1, 2]}]},
    "coco": {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 8}],
        "annotations": [{"image_id": 1, "id": 3, "category_id": 1, "keypoints": triples(17), "iscrowd": 0}],
        "categories": [{"id": 1, "name": "person"}],
    },
    "coco-dict": {"a.jpg": [[1, 2]] * 17},
}
JUNK = [None, True, 0, -1, 3.5, float("nan"), float("inf"), 10**400, "", "../x", [], {}, [[1]], {"a": None}]


def places(value, path=()):
    """Every place in nested lists and objects; of a long list the first and the last item."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        for index in {0, len(value) - 1}:
            yield from places(value[index], (*path, index))


def damaged(value, path, junk):
    """A copy of `value` with `junk` at that place."""
    if not path:
        return junk
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = junk
    return changed


@pytest.mark.parametrize("name", FILES)
def test_junk_anywhere_gives_a_record_or_a_sentence(name, tmp_path, photo):
    for image in ("a.jpg", "b.jpg"):
        (tmp_path / image).write_bytes(photo(9, 8))
    path = tmp_path / "a.json"
    sentences = []
    for place in places(FILES[name]):
        for junk in JUNK:
            path.write_text(json.dumps(damaged(FILES[name], place, junk)), "utf-8")
            try:
                for record in formats.read(name, path, Counter(), images=tmp_path):
                    back = records.from_json(records.to_json(record), "row")
                    for person, again in zip(record.people, back.people, strict=True):
                        np.testing.assert_array_equal(person.joints, again.joints)
            except UserError as error:
                sentences.append(str(error))
    assert len(sentences) > 20  # the junk did reach the checks
    for sentence in sentences:
        assert sentence.startswith(str(tmp_path))
        assert "\n" not in sentence


def test_what_json_does_not_know_is_no_number(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"score": NaN, "box": [-Infinity, 1]}')
    assert load_json(path) == {"score": None, "box": [None, 1]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a.jpg": {}, "b.jpg": {}, "a.jpg": {}}', "'a.jpg' occurs twice in one object"),
        ("[" * 100_000, "maximum recursion depth"),
        ('{"a": ', "Expecting value"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
    ],
)
def test_a_file_that_is_no_json_is_named(tmp_path, text, sentence):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=sentence) as error:
        load_json(path)
    assert str(error.value).startswith(f"{path}: cannot be read as JSON")
