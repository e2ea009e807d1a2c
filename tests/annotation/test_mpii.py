import json
from collections import Counter

import numpy as np
import pytest
import scipy.io

from annotation import schema
from annotation.errors import UserError
from annotation.sources import mpii


def read(reader, path):
    return list(reader(path, Counter()))


# ------------------------------------------------------------------------------------------------- CSV


def test_csv_pixels_become_0_based_and_only_minus_one_twice_is_missing(mpii_csv):
    row = {"NAME": "a.jpg", "r ankle_X": 620, "r ankle_Y": 394.5, "l wrist_X": -1, "l wrist_Y": -1}
    row |= {"head top_X": 12, "head top_Y": -7.25, "upper neck_X": -1, "upper neck_Y": 30}
    (record,) = read(mpii.read_csv, mpii_csv(row))
    (person,) = record.people
    assert person.joints[0].tolist() == [619, 393.5]
    assert person.joints[9].tolist() == [11, -8.25]
    assert person.joints[8].tolist() == [-2, 29]
    assert np.isnan(person.joints[15]).all()
    assert person.visibility.tolist() == [schema.LABELLED] * 15 + [schema.MISSING]


def test_csv_says_what_it_does_not_know(mpii_csv):
    first, second = read(
        mpii.read_csv,
        mpii_csv(
            {"NAME": "a.jpg", "Activity": "curling", "Category": "sports", "ID": 7, "Scale": 3.02},
            {"NAME": "b.jpg"},
        ),
    )
    assert (first.activity, first.category) == ("curling", "sports")
    assert first.people[0].extra == {"ID": "7", "Scale": "3.02"}
    assert (second.activity, second.category) == ("", "")
    for record in (first, second):
        assert not record.people_complete
        assert record.width is None
        assert record.height is None


def test_csv_mistakes_are_named(mpii_csv, tmp_path):
    with pytest.raises(UserError, match=r"mpii.csv: no column 'l knee_Y'"):
        read(mpii.read_csv, mpii_csv({"NAME": "a.jpg"}, without=["l knee_Y"]))
    with pytest.raises(UserError, match=r"mpii.csv: line 3: a joint's position is not a number"):
        read(mpii.read_csv, mpii_csv({"NAME": "a.jpg"}, {"NAME": "b.jpg", "pelvis_X": "left"}))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary.csv: cannot be read as CSV"):
        read(mpii.read_csv, tmp_path / "binary.csv")


@pytest.fixture(scope="module")
def circulating(shared_data):
    """The real CSV's records by image id."""
    found = read(mpii.read_csv, shared_data / "mpii" / "mpii_human_pose.csv")
    assert len(found) == 17_372
    return {record.image_id: record for record in found}


def test_csv_real_rows(circulating):
    found = circulating.values()
    assert len(found) == 17_372
    complete = [record for record in found if (record.people[0].visibility == schema.LABELLED).all()]
    assert len(complete) == 11_232
    assert sum(record.activity == "" for record in found) == 41
    assert len({record.activity for record in found} - {""}) == 396


# ------------------------------------------------------------------------------------------------ JSON


def mmpose_person(image, offset=0, **fields):
    return {
        "image": image,
        "joints": [[j + 1 + offset, 2 * j + 1] for j in range(16)],
        "joints_vis": [1] * 16,
        "center": [50, 60],
        "scale": 2.5,
    } | fields


def test_json_groups_the_people_of_an_image(write_json):
    rows = [mmpose_person("a.jpg"), mmpose_person("b.jpg"), mmpose_person("a.jpg", 100)]
    a, b = read(mpii.read_json, write_json(rows))
    assert (a.image_id, len(a.people), b.image_id, len(b.people)) == ("a.jpg", 2, "b.jpg", 1)
    assert a.people[0].joints[3].tolist() == [3, 6]
    assert a.people[1].joints[3].tolist() == [103, 6]
    assert a.people[0].extra == {"center": [50, 60], "scale": 2.5}
    assert a.activity == ""


def test_json_counts_people_only_where_the_file_does(write_json):
    joints = [[10.0 + j, 20.0, 1.0] for j in range(16)]
    older = [
        {"img_paths": name, "joint_self": joints, "numOtherPeople": 1.0}
        for name in ("a.jpg", "a.jpg", "b.jpg")
    ]
    assert [r.people_complete for r in read(mpii.read_json, write_json(older))] == [True, False]
    assert [r.people_complete for r in read(mpii.read_json, write_json([mmpose_person("a.jpg")]))] == [False]


def test_json_joint_without_visibility_is_missing(write_json):
    row = mmpose_person("a.jpg", joints_vis=[0, *[1] * 15])
    row["joints"][0] = [-1, -1]
    (record,) = read(mpii.read_json, write_json([row]))
    assert record.people[0].visibility[0] == schema.MISSING
    assert (record.people[0].visibility[1:] == schema.LABELLED).all()


def test_json_older_form_tells_occluded_from_missing(write_json):
    joints = [[10.0 + j, 20.0, 1.0] for j in range(16)]
    joints[2][2] = 0.0
    joints[5] = [0.0, 0.0, 0.0]
    row = {
        "img_paths": "a.jpg",
        "joint_self": joints,
        "img_width": 640.0,
        "img_height": 480.0,
        "people_index": 1.0,
    }
    (record,) = read(mpii.read_json, write_json([row]))
    (person,) = record.people
    assert (record.width, record.height) == (640, 480)
    assert person.visibility[2] == schema.LABELLED
    assert np.flatnonzero(person.occluded).tolist() == [2]
    assert np.flatnonzero(person.visibility == schema.MISSING).tolist() == [5]
    assert person.extra["people_index"] == 1.0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"image": "a.jpg"}, "expected a list, found dict"),
        ([{"joints": []}], "entry 1: no field 'image'"),
        ([mmpose_person("a.jpg"), 3], "entry 2: expected an object, found 3"),
        (
            [mmpose_person("a.jpg", joints=[[1, 2]] * 17)],
            "image a.jpg, person 1, field 'joints': expected 16 x 2",
        ),
        (
            [mmpose_person("a.jpg", joints_vis=[1] * 15)],
            "image a.jpg, person 1, field 'joints_vis': expected 16 fin",
        ),
        ([mmpose_person("a.jpg", joints=[[1, None]] * 16)], "field 'joints': expected 16 x 2 finite numbers"),
    ],
)
def test_json_mistakes_are_named(write_json, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(mpii.read_json, write_json(content))


def test_json_equals_the_csv_for_the_same_photographs(shared_data, circulating):
    found = read(mpii.read_json, shared_data / "mpii_images" / "test_mpii.json")
    assert len(found) == 5
    for record in found:
        theirs, ours = circulating[record.image_id].people[0], record.people[0]
        np.testing.assert_allclose(ours.joints, theirs.joints, atol=1e-4)
        assert ours.visibility.tolist() == theirs.visibility.tolist()


def test_json_sample_of_several_people(shared_data, circulating):
    found = read(mpii.read_json, shared_data / "mpii" / "multi_person_sample.json")
    assert len(found) == 100
    assert sum(len(record.people) for record in found) == 168
    for record in found:
        csv_person = circulating[record.image_id].people[0]
        both = (csv_person.visibility > 0) & (record.people[0].visibility > 0)
        np.testing.assert_allclose(record.people[0].joints[both], csv_person.joints[both], atol=0.01)


# ------------------------------------------------------------------------------------------------ .mat


def structs(*rows):
    """A Matlab struct array, whose elements share their fields; what an element lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in names])
    for i, row in enumerate(rows):
        array[0, i] = tuple(row.get(name, np.zeros((0, 0))) for name in names)
    return array


def point(joint, x, y, **visible):
    return {"id": joint, "x": x, "y": y} | visible


@pytest.fixture
def mat(tmp_path):
    release = structs(
        {
            "annolist": structs(
                {
                    "image": structs({"name": "many.jpg"}),
                    "annorect": structs(
                        {
                            "x1": 10,
                            "scale": 3.5,
                            "objpos": structs({"x": 594, "y": 257}),
                            "annopoints": structs(
                                {"point": structs(point(0, 620, 394, is_visible=1), point(9, 700.5, -3.5))}
                            ),
                        },
                        {
                            "annopoints": structs(
                                {
                                    "point": structs(
                                        point(15, 5, 6, is_visible=0), point(6, 1, 1, is_visible="0")
                                    )
                                }
                            )
                        },
                        {"x1": 77},
                    ),
                    "vididx": 2,
                    "frame_sec": 11,
                },
                {
                    "image": structs({"name": "one.jpg"}),
                    "annorect": structs(
                        {"annopoints": structs({"point": structs(point(3, 8, 9, is_visible="1"))})}
                    ),
                },
                {"image": structs({"name": "nobody.jpg"})},
            ),
            "img_train": np.array([[1, 0, 0]]),
            "act": structs(
                {"cat_name": "sports", "act_name": "curling", "act_id": 1},
                {"act_id": -1},
                {"act_id": -1},
            ),
            "video_list": np.array([["first", "second"]], object),
        }
    )
    path = tmp_path / "mpii.mat"
    scipy.io.savemat(path, {"RELEASE": release})
    return path


def test_mat_people_joints_and_activity(mat):
    many, one, nobody = read(mpii.read_mat, mat)
    first, second, third = many.people
    assert (many.activity, many.category) == ("curling", "sports")
    assert many.people_complete  # the third has no joints, but counts
    assert first.joints[0].tolist() == [619, 393]
    assert first.joints[9].tolist() == [699.5, -4.5]
    assert np.flatnonzero(first.visibility).tolist() == [0, 9]
    assert not first.occluded.any()
    assert np.flatnonzero(second.occluded).tolist() == [6, 15]
    assert not third.visibility.any()
    assert one.people[0].joints[3].tolist() == [7, 8]
    assert (one.activity, nobody.people) == ("", ())


def test_mat_keeps_every_other_field(mat):
    many, one, _ = read(mpii.read_mat, mat)
    assert many.people[0].extra == {"x1": 10, "scale": 3.5, "objpos": {"x": 594, "y": 257}}
    assert many.people[2].extra == {"x1": 77}
    assert many.extra == {"vididx": 2, "frame_sec": 11, "img_train": 1, "act_id": 1, "video": "second"}
    assert one.extra == {"img_train": 0}
    json.dumps(many.extra, allow_nan=False)


def test_mat_mistakes_are_named(tmp_path):
    scipy.io.savemat(tmp_path / "other.mat", {"x": 1})
    with pytest.raises(UserError, match=r"other.mat: not MPII's .mat file"):
        read(mpii.read_mat, tmp_path / "other.mat")
    (tmp_path / "text.mat").write_text("no matlab")
    with pytest.raises(UserError, match=r"text.mat: not MPII's .mat file"):
        read(mpii.read_mat, tmp_path / "text.mat")
    person = {"annopoints": structs({"point": structs(point(16, 1, 1))})}
    annolist = structs({"image": structs({"name": "a.jpg"}), "annorect": structs(person)})
    scipy.io.savemat(tmp_path / "joint.mat", {"RELEASE": structs({"annolist": annolist})})
    with pytest.raises(UserError, match=r"joint.mat: image a.jpg: joint id 16; expected 0 to 15"):
        read(mpii.read_mat, tmp_path / "joint.mat")
