from collections import Counter

import numpy as np
import pytest

from annotation import schema, skeletons
from annotation.errors import UserError
from annotation.sources import coco

L_HIP, R_HIP, L_KNEE, R_KNEE, L_ANKLE, R_ANKLE = range(11, 17)


def read(reader, path, **options):
    notes = Counter()
    return list(reader(path, notes, **options)), +notes


def triples(third=2):
    return [value for j in range(17) for value in (10 + j, 100 + 3 * j, third)]


def ground_truth(*annotations, images=None, **fields):
    images = images or [{"id": 5, "file_name": "a.jpg", "width": 64, "height": 48, "license": 4}]
    return {"images": images, "annotations": list(annotations)} | fields


def annotation(**fields):
    return {"image_id": 5, "id": 9, "category_id": 1, "keypoints": triples(), "bbox": [1, 2, 3, 4]} | fields


def test_ground_truth_visibility(write_json):
    keypoints = triples()
    keypoints[3 * 15 : 3 * 15 + 3] = [0, 0, 0]
    keypoints[3 * 16 + 2] = 1
    (record,), _ = read(coco.read, write_json(ground_truth(annotation(keypoints=keypoints))))
    (person,) = record.people
    assert (record.image_id, record.width, record.height) == ("a.jpg", 64, 48)
    assert record.people_complete
    assert person.visibility[5] == schema.MISSING  # left ankle
    assert person.visibility[0] == schema.LABELLED
    assert np.flatnonzero(person.occluded).tolist() == [0]  # right ankle
    assert person.joints[0].tolist() == [26, 148]
    assert person.extra == {"image_id": 5, "id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}
    assert record.extra == {"id": 5, "license": 4}


def test_ground_truth_counts_people_without_joints_but_not_crowds(write_json):
    nobody = annotation(keypoints=[0] * 51)
    (record,), _ = read(coco.read, write_json(ground_truth(annotation(), nobody)))
    assert len(record.people) == 2
    assert record.people_complete
    (record,), notes = read(coco.read, write_json(ground_truth(annotation(), annotation(iscrowd=1, id=10))))
    assert len(record.people) == 1
    assert not record.people_complete
    assert [crowd["id"] for crowd in record.extra["crowds"]] == [10]
    assert sum(notes.values()) == 1


def test_other_categories_are_left_out_and_counted(write_json):
    categories = [{"id": 1, "name": "cat"}, {"id": 7, "name": "person"}]
    data = ground_truth(annotation(), annotation(category_id=7, id=11), categories=categories)
    (record,), notes = read(coco.read, write_json(data))
    assert [person.extra["id"] for person in record.people] == [11]
    assert sum(notes.values()) == 1


def test_results_drop_joints_and_people_without_confidence(write_json):
    unsure = triples(0.9)
    unsure[2] = unsure[3 * 16 + 2] = coco.CONFIDENCE - 0.01
    rows = [
        {"image_id": 785, "category_id": 1, "keypoints": unsure, "score": 0.8},
        {"image_id": 785, "category_id": 1, "keypoints": triples(0.1), "score": 0.1},
        {"image_id": "my photo.png", "category_id": 1, "keypoints": triples(1), "score": 0.7},
    ]
    (first, second), notes = read(coco.read, write_json(rows))
    assert (first.image_id, second.image_id) == ("000000000785.jpg", "my photo.png")
    (person,) = first.people
    assert person.visibility[0] == schema.MISSING
    assert person.visibility[5] == schema.LABELLED
    assert person.extra["score"] == 0.8
    assert person.extra["keypoints"] == unsure  # the confidences are not lost
    assert not first.people_complete
    assert sum(notes.values()) == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("text", "neither COCO ground truth .* nor results"),
        (
            ground_truth(annotation(keypoints=[1] * 399)),
            "annotation 9, field .keypoints. .COCO-17.: expected 51 finite numbers, found 399",
        ),
        (ground_truth({"image_id": 5, "id": 9}), "annotation 9: no field 'keypoints'"),
        (ground_truth(annotation(image_id=6)), "an annotation names image 6, which 'images' does not list"),
        (ground_truth(3), "'annotations', entry 1: expected an object, found 3"),
        ({"images": {}, "annotations": []}, "'images': expected a list, found dict"),
        (ground_truth(images=[{"id": 1}]), "image 1 has no field 'file_name'"),
        ([{"keypoints": []}], "entry 1: no field 'image_id'"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "image 1, person 1: no field 'keypoints'"),
    ],
)
def test_mistakes_are_named(write_json, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(coco.read, write_json(content))


NAMES = {name: list(found.names) for name, found in skeletons.JOINT_SETS.items()}


def ground_truth_of(joint_set, v=2):
    joints = skeletons.JOINT_SETS[joint_set].joint_count
    keypoints = [value for j in range(joints) for value in (10 + j, 100 + 3 * j, v)]
    categories = [{"id": 1, "name": "person", "keypoints": NAMES[joint_set]}]
    return ground_truth(annotation(keypoints=keypoints), categories=categories)


def test_a_file_says_by_its_names_which_joints_it_holds(write_json):
    (record,), _ = read(coco.read, write_json(ground_truth_of("aic14")))
    assert record.people[0].joints[9].tolist() == [22, 136]  # the head's top is the 13th
    assert record.people[0].visibility[9] == schema.LABELLED
    (record,), _ = read(coco.read, write_json(ground_truth_of("jhmdb15")))
    assert record.people[0].joints[0].tolist() == [22, 138]  # 13, 139 in Matlab's counting from 1
    assert (record.people[0].visibility[8:10] == schema.MISSING).all()


def test_names_and_the_flag_must_agree(write_json):
    path = write_json(ground_truth_of("posetrack17"))
    with pytest.raises(UserError, match="--joints asks for COCO-17, but the file is PoseTrack18"):
        read(coco.read, path, joints=skeletons.COCO_17)
    with pytest.raises(UserError, match="--joints asks for MPII, but the file names 17 joints"):
        read(coco.read, path, joints=skeletons.MPII_16)
    unknown = ground_truth_of("posetrack17")
    unknown["categories"][0]["keypoints"] = [str(j) for j in range(17)]
    with pytest.raises(UserError, match=r"'categories': 17 joints .* say which with --joints"):
        read(coco.read, write_json(unknown))
    (record,), _ = read(coco.read, write_json(unknown), joints=skeletons.POSETRACK_17)
    assert record.people[0].visibility[8] == schema.LABELLED


def test_one_is_occluded_only_in_a_file_that_also_knows_two(write_json):
    """PoseTrack18 writes 1 for every labelled joint."""
    (record,), _ = read(coco.read, write_json(ground_truth_of("posetrack17", v=1)))
    assert not record.people[0].occluded.any()
    assert record.people_complete
    some = ground_truth_of("posetrack17", v=1)
    some["annotations"][0]["keypoints"][2] = 2
    some["images"][0]["ignore_regions_x"] = [[1, 2, 3]]
    (record,), _ = read(coco.read, write_json(some))
    assert record.people[0].occluded.any()
    assert not record.people_complete


def test_results_of_another_joint_set_and_confidence(write_json):
    keypoints = [value for j in range(16) for value in (j, 2 * j, 0.2)]
    path = write_json([{"image_id": "a.jpg", "keypoints": keypoints, "score": 1}])
    (record,), _ = read(coco.read, path, joints=skeletons.MPII_16, confidence=0.1)
    assert record.people[0].joints[15].tolist() == [15, 30]
    with pytest.raises(UserError, match="expected 51 finite numbers, found 48"):
        read(coco.read, path)


@pytest.mark.parametrize(
    ("file", "images", "people", "head"),
    [
        ("aic/test_aic.json", 3, 9, schema.LABELLED),
        ("crowdpose/test_crowdpose.json", 2, 5, schema.LABELLED),
        ("ochuman/test_ochuman.json", 3, 5, schema.DERIVED),
        ("jhmdb/test_jhmdb_sub1.json", 3, 3, schema.MISSING),
        ("posetrack18/annotations/test_posetrack18_val.json", 3, 14, schema.LABELLED),
    ],
)
def test_samples_of_other_data_sets(shared_data, file, images, people, head):
    found, _ = read(coco.read, shared_data / "mmpose_samples" / file)
    assert (len(found), sum(len(record.people) for record in found)) == (images, people)
    everybody = [person for record in found for person in record.people]
    assert {schema.MISSING, head} == {schema.MISSING, *(person.visibility[9] for person in everybody)}
    for person in everybody:  # the lower legs hang on the knees, on the same side
        for ankle, knee, other in ((0, 1, 4), (5, 4, 1)):
            lengths = np.linalg.norm(person.joints[ankle] - person.joints[[knee, other]], axis=1)
            if np.isfinite(lengths).all() and np.ptp(person.joints[[knee, other], 0]) > 20:
                assert lengths[0] < 2.5 * lengths[1]


def test_coco_sample(shared_data):
    found, _ = read(coco.read, shared_data / "mmpose_samples" / "coco" / "test_coco.json")
    assert len(found) == 4
    assert sum(len(record.people) for record in found) == 14
    for record in found:
        assert (shared_data / "mmpose_samples" / "coco" / record.image_id).exists()
        for person in record.people:
            labelled = person.joints[person.visibility == schema.LABELLED]
            assert (labelled >= 0).all()
            assert (labelled < [record.width, record.height]).all()


# ------------------------------------------------------------------------------------------- bare joints


def standing():
    """Somebody upright, all of them in view: 17 x [x, y], 200 pixels tall."""
    y = [10, 8, 8, 10, 10, 40, 40, 70, 70, 95, 95, 105, 105, 155, 155, 200, 200]
    x = [50, 52, 48, 55, 45, 65, 35, 68, 32, 70, 30, 58, 42, 58, 42, 58, 42]
    return np.array([x, y], float).T


def cut_at(y):
    """The same in a picture that ends at `y`: the estimator piles up there what lies below."""
    points = standing()
    below = points[:, 1] > y
    points[below, 1] = y - np.linspace(0, 4, below.sum())
    return points


@pytest.mark.parametrize(
    ("points", "missing"),
    [
        (standing(), []),
        (cut_at(165), [L_ANKLE, R_ANKLE]),
        (cut_at(125), [L_ANKLE, R_ANKLE]),
        (cut_at(108), [L_HIP, R_HIP, L_KNEE, R_KNEE, L_ANKLE, R_ANKLE]),
        (cut_at(80), [L_HIP, R_HIP, L_KNEE, R_KNEE, L_ANKLE, R_ANKLE]),
    ],
)
def test_legs_below_the_picture_are_found(points, missing):
    assert np.flatnonzero(coco.piled_up(points)).tolist() == missing


def test_somebody_sitting_on_a_chair_keeps_the_legs():
    points = standing()
    points[[L_HIP, R_HIP], 1] = 110
    points[[L_KNEE, R_KNEE], 1] = 120
    points[[L_ANKLE, R_ANKLE], 1] = 165
    assert not coco.piled_up(points).any()


def test_dict_reads_estimates_and_counts_what_it_overrules(write_json):
    data = {"a.jpg": standing().tolist(), "b.jpg": cut_at(80).tolist(), "c.jpg": []}
    (a, b, c), notes = read(coco.read_dict, write_json(data))
    assert [len(record.people) for record in (a, b, c)] == [1, 1, 0]
    assert (a.people[0].visibility > 0).all()
    assert b.people[0].visibility[:7].tolist() == [0] * 7  # both legs and the pelvis derived from the hips
    assert b.people[0].extra == {"keypoints": data["b.jpg"]}
    assert not a.people_complete
    assert a.width is None
    assert sorted(notes.values()) == [1, 6]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1], "expected an object {image: 17 x"),
        (
            {"a.jpg": [[1, 2]] * 16},
            "image a.jpg: expected 17 x 2 finite numbers, found 16 x 2",
        ),
        ({"a.jpg": [["x", "y"]] * 17}, "image a.jpg: expected 17 x"),
    ],
)
def test_dict_mistakes_are_named(write_json, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(coco.read_dict, write_json(content))


def test_stanford40_poses(shared_data):
    found, notes = read(coco.read_dict, shared_data / "stanford40" / "poses_yolo_coco17.json")
    assert len(found) == 9_532
    assert sum(not record.people for record in found) == 23
    people = [record.people[0] for record in found if record.people]
    cut = sum((person.visibility[:6] == schema.MISSING).any() for person in people)
    assert notes["people with leg joints piled up at the lower border"] == cut
    assert 0.4 < cut / len(people) < 0.65  # half of the boxes touch the lower edge of the photograph
