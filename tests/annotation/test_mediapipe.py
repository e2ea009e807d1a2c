from collections import Counter

import numpy as np
import pytest

from annotation import schema
from annotation.errors import UserError
from annotation.sources import mediapipe

LEFT_SHOULDER, LEFT_WRIST, RIGHT_ANKLE = 13, 15, 0


def landmarks(**changed):
    """33 landmarks at known places; changed: {"_15": {"x": …}} by number."""
    marks = [{"x": 0.01 * j, "y": 0.5 + 0.01 * j, "z": -0.1, "visibility": 0.9} for j in range(33)]
    for number, fields in changed.items():
        marks[int(number[1:])] |= fields
    return marks


def photo_entry(*people, **fields):
    return {"width": 200, "height": 100, "people": list(people)} | fields


def read(path, **options):
    notes = Counter()
    return list(mediapipe.read(path, notes, **options)), +notes


def test_the_scripts_file(write_json):
    detector = {"mediapipe": "0.10.21", "min_detection_confidence": 0.5}
    data = {"in/a.jpg": photo_entry(landmarks(), detector=detector), "b.jpg": photo_entry(detector=detector)}
    (a, b), notes = read(write_json(data))
    (person,) = a.people
    assert (a.image_id, a.width, a.height) == ("in/a.jpg", 200, 100)
    # From the photo's edge to the centre of its first pixel it is half a pixel.
    np.testing.assert_allclose(person.joints[LEFT_SHOULDER], [0.11 * 200 - 0.5, 0.61 * 100 - 0.5])
    np.testing.assert_allclose(person.joints[LEFT_WRIST], [0.15 * 200 - 0.5, 0.65 * 100 - 0.5])
    np.testing.assert_allclose(person.joints[RIGHT_ANKLE], [0.28 * 200 - 0.5, 0.78 * 100 - 0.5])
    assert (person.visibility[6:10] == schema.DERIVED).all()
    assert person.extra == {"landmarks": landmarks()}
    assert a.extra == {"detector": detector}
    assert not a.people_complete
    assert b.people == ()
    assert not notes


def test_what_is_probably_not_visible_is_missing(write_json):
    guessed = landmarks(_15={"visibility": 0.2}, _28={"x": 1.4, "y": 3.2})
    path = write_json(
        {"a.jpg": photo_entry(guessed, landmarks(**{f"_{j}": {"visibility": 0} for j in range(33)}))}
    )
    (record,), notes = read(path)
    (person,) = record.people
    assert person.visibility[LEFT_WRIST] == schema.MISSING
    np.testing.assert_allclose(person.joints[RIGHT_ANKLE], [279.5, 319.5])  # outside, and MediaPipe is sure
    assert notes == {"people without any joint of confidence 0.3, left out": 1}
    (record,), _ = read(path, confidence=0.1)
    assert record.people[0].visibility[LEFT_WRIST] == schema.LABELLED


@pytest.mark.parametrize("people", [landmarks(), [landmarks()], [landmarks(), landmarks()]])
def test_what_people_dump_themselves_takes_its_sizes_from_the_photographs(
    write_json, tmp_path, photo, people
):
    (tmp_path / "a.jpg").write_bytes(photo(200, 100))
    path = write_json({"a.jpg": people, "nobody.jpg": []})
    (expected,), _ = read(write_json({"a.jpg": photo_entry(landmarks())}, "other.json"))
    (a, nobody), _ = read(path, images=tmp_path)
    assert len(a.people) == (2 if len(people) == 2 else 1)
    np.testing.assert_array_equal(a.people[0].joints, expected.people[0].joints)
    assert (a.width, a.height) == (200, 100)
    assert nobody.people == ()
    with pytest.raises(UserError, match=r"photo a.jpg: .* width and height; add --images=DIR"):
        read(path)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"photo a.jpg: .*a.jpg is missing"):
        read(path, images=tmp_path)


def test_a_photograph_of_another_size_is_refused(write_json, tmp_path, photo):
    (tmp_path / "a.jpg").write_bytes(photo(100, 200))
    with pytest.raises(
        UserError, match=r"its joints are of 200 x 100 pixels, but the photograph .* 100 x 200"
    ):
        read(write_json({"a.jpg": photo_entry(landmarks())}), images=tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "found list; expected {photo: {width"),
        ({"a.jpg": {"width": 3, "height": 4}}, "photo a.jpg: no list of people; expected"),
        (
            {"a.jpg": photo_entry(landmarks()[:32])},
            "a.jpg, person 1, fields x, y .* expected 33 x 3 .* found 32 x 3",
        ),
        (
            {"a.jpg": photo_entry([{"x": 1, "y": 1}] * 33)},
            "a.jpg, person 1, fields x, y and visibility: expected",
        ),
        ({"a.jpg": photo_entry(landmarks(), width=0)}, "width 0 and height 100; expected whole numbers"),
        (
            {"a.jpg": photo_entry([{"x": 80, "y": 60, "visibility": 1}] * 33)},
            "person 1: x and y look like pixels; expected parts of the photo's width and height",
        ),
    ],
)
def test_mistakes_are_named(write_json, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(write_json(content))
