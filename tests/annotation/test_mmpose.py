from collections import Counter

import numpy as np
import pytest

from annotation import schema, skeletons
from annotation.errors import UserError
from annotation.sources import mmpose

RIGHT_ANKLE, LEFT_WRIST = 0, 15


def instance(joints=16, **fields):
    """A person as the inferencer writes one, with its stray bracket around bbox."""
    return {
        "keypoints": [[10.5 + j, 20.0 + 2 * j] for j in range(joints)],
        "keypoint_scores": [0.9] * joints,
        "bbox": [[1.0, 2.0, 30.0, 60.0]],
        "bbox_score": 0.97,
    } | fields


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "results_b.png"):
        (folder / name).write_bytes(photo())
    return folder


def read(path, images=None, **options):
    notes = Counter()
    return list(mmpose.read(path, notes, images, **options)), +notes


def test_a_folder_of_the_inferencer(write_json, tmp_path, photos):
    (tmp_path / "predictions").mkdir()
    unsure = instance(keypoint_scores=[0.1] + [0.9] * 15)
    write_json([unsure, instance(keypoint_scores=[0.2] * 16)], "predictions/a.json")
    write_json([], "predictions/results_b.json")
    write_json([instance()], "predictions/gone.json")
    (a, b), notes = read(tmp_path / "predictions", photos)
    assert (a.image_id, b.image_id) == ("a.jpg", "results_b.png")
    (person,) = a.people
    assert person.visibility[RIGHT_ANKLE] == schema.MISSING
    assert person.joints[LEFT_WRIST].tolist() == [25.5, 50]
    assert person.extra == unsure
    assert not a.people_complete
    assert b.people == ()
    assert notes == {
        "people without any joint of confidence 0.3, left out": 1,
        "files without a photograph in --images, left out": 1,
    }


def test_one_object_with_all_photographs_needs_no_folder(write_json):
    (a, b), _ = read(write_json({"x/a.jpg": [instance()], "b.jpg": [instance(), instance()]}))
    assert (a.image_id, len(a.people), len(b.people)) == ("x/a.jpg", 1, 2)


def test_names_of_a_demos_file_tell_the_joint_set(write_json, photos):
    names = {str(index): name.replace(" ", "_") for index, name in enumerate(skeletons.CROWDPOSE_14.names)}
    data = {"meta_info": {"keypoint_id2name": names}, "instance_info": [instance(14)]}
    (record,), _ = read(write_json(data, "results_a.json"), photos)
    assert record.image_id == "a.jpg"
    assert record.people[0].joints[RIGHT_ANKLE].tolist() == [10.5 + 11, 20 + 2 * 11]


def test_the_joint_set_is_asked_for_where_the_number_does_not_tell_it(write_json):
    path = write_json({"a.jpg": [instance(17)]})
    with pytest.raises(
        UserError, match=r"a.jpg, person 1: 17 joints .* add --joints=coco17 or --joints=posetrack17"
    ):
        read(path)
    (as_coco,), _ = read(path, joints=skeletons.COCO_17)
    (as_posetrack,), _ = read(path, joints=skeletons.POSETRACK_17)
    assert as_coco.people[0].visibility[8] == schema.DERIVED
    assert as_posetrack.people[0].visibility[8] == schema.LABELLED
    np.testing.assert_array_equal(as_coco.people[0].joints[:6], as_posetrack.people[0].joints[:6])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"a.jpg": [instance(19)]}, "a.jpg, person 1: 19 joints; expected those of coco17"),
        ({"a.jpg": 3}, "photo a.jpg: expected a list, found int"),
        ({"a.jpg": [{"bbox": []}]}, "a.jpg, person 1: no list 'keypoints'"),
        (
            {"a.jpg": [instance(keypoint_scores=[1])]},
            "field 'keypoint_scores': expected 16 finite numbers, found 1",
        ),
        (
            {"a.jpg": [instance(), instance(17)]},
            r"person 2, field 'keypoints' \(MPII\): expected 16 x 2 .* 17 x 2",
        ),
    ],
)
def test_mistakes_are_named(write_json, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(write_json(content))


def test_a_video_is_refused_and_photographs_are_needed(write_json, photos):
    frames = {"instance_info": [{"frame_id": 1, "instances": [instance()]}]}
    with pytest.raises(UserError, match=r"a.json: the frames of a video"):
        read(write_json(frames, "a.json"), photos)
    with pytest.raises(UserError, match=r"a.json: .* add --images=DIR"):
        read(write_json([instance()], "a.json"))
