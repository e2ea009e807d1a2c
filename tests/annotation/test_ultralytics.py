from collections import Counter

import numpy as np
import pytest

from annotation import schema
from annotation.errors import UserError
from annotation.sources import ultralytics

RIGHT_ANKLE, LEFT_WRIST = 0, 15  # 16 and 9 in COCO's order


def triples(confidence=0.9):
    return [[10.0 + j, 100.0 + 3 * j, confidence] for j in range(17)]


def row(points, **fields):
    """A row of `to_json()`."""
    x, y, visible = (list(column) for column in zip(*points, strict=True))
    box = {"x1": 1.5, "y1": 2.5, "x2": 60.0, "y2": 190.0}
    return {
        "name": "person",
        "class": 0,
        "confidence": 0.88,
        "box": box,
        "keypoints": {"x": x, "y": y, "visible": visible},
    } | fields


def read(path, **options):
    notes = Counter()
    return list(ultralytics.read(path, notes, **options)), +notes


def test_rows_of_to_json(write_json):
    some = triples()
    some[16] = [0.0, 0.0, 0.9]
    some[9][2] = 0.2
    (a, b), notes = read(write_json({"a.jpg": [row(some), row(triples(0.1))], "b.jpg": []}))
    (person,) = a.people
    assert person.visibility[[RIGHT_ANKLE, LEFT_WRIST]].tolist() == [schema.MISSING] * 2
    assert person.joints[1].tolist() == [10 + 14, 100 + 3 * 14]  # right knee
    assert person.extra == row(some)
    assert not a.people_complete
    assert b.people == ()
    assert notes == {"people without any joint of confidence 0.3, left out": 1}


def test_arrays_are_the_same_people(write_json):
    (from_rows,), _ = read(write_json({"a.jpg": [row(triples())]}))
    (from_data,), _ = read(write_json({"a.jpg": [triples()]}))
    (from_xy,), _ = read(write_json({"a.jpg": [[point[:2] for point in triples()]]}))
    for record in (from_data, from_xy):
        np.testing.assert_array_equal(record.people[0].joints, from_rows.people[0].joints)
        np.testing.assert_array_equal(record.people[0].visibility, from_rows.people[0].visibility)
    assert from_data.people[0].extra == {"keypoints": triples()}


def test_without_confidences_the_zeros_tell(write_json):
    points = triples()
    points[16] = [0.0, 0.0, 0.9]
    bare = row(points)
    del bare["keypoints"]["visible"]
    (record,), _ = read(write_json({"a.jpg": [bare]}))
    assert np.flatnonzero(record.people[0].visibility == schema.MISSING).tolist() == [RIGHT_ANKLE]


def test_normalised_coordinates_need_the_photographs(write_json, tmp_path, photo):
    points = (np.array(triples()) / [100, 200, 1]).tolist()
    path = write_json({"a.jpg": [row(points)]})
    with pytest.raises(UserError, match=r"photo a.jpg: .* add --images=DIR"):
        read(path)
    (tmp_path / "a.jpg").write_bytes(photo(100, 200))
    (record,), _ = read(path, images=tmp_path)
    (expected,), _ = read(write_json({"a.jpg": [row(triples())]}))
    np.testing.assert_allclose(record.people[0].joints, expected.people[0].joints)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([row(triples())], "found list, which does not tell the photographs' names"),
        ({"a.jpg": row(triples())}, "photo a.jpg: expected a list of people, found dict"),
        (
            {"a.jpg": [{"name": "person", "box": {}}]},
            "a.jpg, person 1: no 'keypoints' with x and y; was it a pose",
        ),
        ({"a.jpg": [row(triples()[:16])]}, "person 1, field 'keypoints' .* expected 3 x 17 .* found 3 x 16"),
        ({"a.jpg": [triples()[:5]]}, r"person 1 \(COCO order\): expected 17 x 3 finite numbers, found 5 x 3"),
        ({"a.jpg": ["x"]}, "person 1 .* expected 17 x 3"),
    ],
)
def test_mistakes_are_named(write_json, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(write_json(content))
