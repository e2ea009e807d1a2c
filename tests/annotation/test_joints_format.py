from collections import Counter

import pytest

from annotation import schema
from annotation.errors import UserError
from annotation.sources import formats, joints

BODY = {"left wrist": [10, 20.5], "Right_Shoulder": [3, 4], "left shoulder": [5, 8]}


def read(path):
    return list(joints.read(path, Counter()))


def test_joints_stand_under_their_names(write_json):
    one, two = read(write_json({"in/a.jpg": BODY, "b.png": [BODY, {"head top": [-3, 1]}]}))
    (person,) = one.people
    assert (one.image_id, len(two.people)) == ("in/a.jpg", 2)
    assert person.joints[15].tolist() == [10, 20.5]
    assert person.joints[12].tolist() == [3, 4]
    assert person.joints[7].tolist() == [4, 6]
    assert {i for i in range(16) if person.visibility[i] == schema.LABELLED} == {12, 13, 15}
    assert person.visibility[7] == schema.DERIVED
    assert two.people[1].joints[9].tolist() == [-3, 1]
    assert one.people_complete


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([BODY], "expected {photo: {joint: .* found list"),
        ({"a.jpg": [[1, 2]]}, r"photo a.jpg, person 1: expected {joint: \[x, y\]}, found \[1, 2\]"),
        (
            {"a.jpg": {"left hand": [1, 2]}},
            "person 1: no joint 'left hand'; expected right ankle, right knee",
        ),
        ({"a.jpg": {"left wrist": [1, None]}}, "person 1, joint 'left wrist': expected 2 finite numbers"),
    ],
)
def test_mistakes_are_named(write_json, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(write_json(content))


def test_sizes_come_from_the_photographs_that_are_there(write_json, tmp_path, photo):
    (tmp_path / "a.jpg").write_bytes(photo(90, 60))
    path = write_json({"a.jpg": BODY, "b.jpg": BODY})
    a, b = formats.read("joints", path, Counter(), images=tmp_path)
    assert (a.width, a.height) == (90, 60)
    assert (b.width, b.height) == (None, None)
    (tmp_path / "b.jpg").write_text("not an image")
    with pytest.raises(UserError, match=r"b.jpg: cannot be read as an image"):
        list(formats.read("joints", path, Counter(), images=tmp_path))


def test_a_flag_that_a_format_would_ignore_is_refused(write_json, tmp_path):
    path = write_json({"a.jpg": BODY})
    assert len(list(formats.read("joints", path, Counter(), images=tmp_path))) == 1
    with pytest.raises(UserError, match="--confidence: the format joints does not use it"):
        formats.read("joints", path, Counter(), confidence=0.0)
    with pytest.raises(UserError, match="--joints: the format halpe does not use it"):
        formats.read("halpe", path, Counter(), joints="coco17")
    with pytest.raises(UserError, match=r"is not a file$"):
        formats.read("joints", tmp_path, Counter())
    with pytest.raises(UserError, match=r"is not a file or folder$"):
        formats.read("openpose", tmp_path / "nowhere", Counter())
