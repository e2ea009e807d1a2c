from collections import Counter

import numpy as np
import pytest

from annotation import schema, skeletons
from annotation.errors import UserError
from annotation.skeletons import COCO_17, JOINT_SETS, to_mpii
from annotation.sources import coco, mpii

COCO_NAMES = (
    "nose",
    *("left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
PELVIS, THORAX, NECK, HEAD_TOP = 6, 7, 8, 9
DERIVED = [PELVIS, THORAX, NECK, HEAD_TOP]


def points():
    return np.random.default_rng(0).uniform(0, 100, (17, 2))


def test_every_joint_keeps_its_name_and_its_side():
    person = to_mpii(COCO_17, points())
    for joint, name in enumerate(schema.JOINT_NAMES):
        if joint not in DERIVED:
            source = COCO_NAMES.index(name.replace(" ", "_"))
            np.testing.assert_array_equal(person.joints[joint], points()[source])
            assert person.visibility[joint] == schema.LABELLED


def test_derived_joints_lie_between_their_parents_and_are_flagged():
    p = dict(zip(COCO_NAMES, points(), strict=True))
    shoulders = (p["left_shoulder"] + p["right_shoulder"]) / 2
    ears = (p["left_ear"] + p["right_ear"]) / 2
    person = to_mpii(COCO_17, points())
    np.testing.assert_allclose(person.joints[PELVIS], (p["left_hip"] + p["right_hip"]) / 2)
    np.testing.assert_allclose(person.joints[THORAX], shoulders)
    np.testing.assert_allclose(person.joints[NECK], 0.75 * shoulders + 0.25 * ears)
    np.testing.assert_allclose(person.joints[HEAD_TOP], 1.8 * ears - 0.8 * shoulders)
    assert (person.visibility[DERIVED] == schema.DERIVED).all()


# Where each format keeps MPII's joints, counted by hand from its documentation; None: it does not have it.
PLACES = {
    "COCO_17": (16, 14, 12, 11, 13, 15, None, None, None, None, 10, 8, 6, 5, 7, 9),
    "BODY_25": (11, 10, 9, 12, 13, 14, 8, 1, None, None, 4, 3, 2, 5, 6, 7),
    "MEDIAPIPE_33": (28, 26, 24, 23, 25, 27, None, None, None, None, 16, 14, 12, 11, 13, 15),
    "HALPE_26": (16, 14, 12, 11, 13, 15, 19, None, 18, 17, 10, 8, 6, 5, 7, 9),
    "MPII_16": tuple(range(16)),
    "AIC_14": (8, 7, 6, 9, 10, 11, None, None, 13, 12, 2, 1, 0, 3, 4, 5),
    "CROWDPOSE_14": (11, 9, 7, 6, 8, 10, None, None, 13, 12, 5, 3, 1, 0, 2, 4),
    "POSETRACK_17": (16, 14, 12, 11, 13, 15, None, None, 1, 2, 10, 8, 6, 5, 7, 9),
    "JHMDB_15": (13, 9, 5, 6, 10, 14, None, None, None, None, 11, 7, 3, 4, 8, 12),
}
EARS = {
    "COCO_17": (4, 3),
    "BODY_25": (17, 18),
    "MEDIAPIPE_33": (8, 7),
    "HALPE_26": (4, 3),
    "POSETRACK_17": (4, 3),
}


@pytest.mark.parametrize("name", PLACES)
def test_joints_lie_where_the_format_keeps_them(name):
    skeleton = getattr(skeletons, name)
    points = np.random.default_rng(1).uniform(0, 100, (skeleton.joint_count, 2))
    person = to_mpii(skeleton, points)
    for joint, place in enumerate(PLACES[name]):
        if place is not None:
            np.testing.assert_array_equal(person.joints[joint], points[place])
            assert person.visibility[joint] == schema.LABELLED
        else:
            can_be = joint in (PELVIS, THORAX) or name in EARS
            assert person.visibility[joint] == (schema.DERIVED if can_be else schema.MISSING)
    if PLACES[name][NECK] is None and name in EARS:
        shoulders, ears = (person.joints[12] + person.joints[13]) / 2, points[list(EARS[name])].mean(0)
        np.testing.assert_allclose(person.joints[NECK], 0.75 * shoulders + 0.25 * ears)


def test_a_joint_that_was_not_found_is_derived_where_its_neighbours_were():
    points = np.random.default_rng(2).uniform(0, 100, (26, 2))
    points[[19, 12]] = np.nan  # Halpe's own hip, and the right hip
    assert to_mpii(skeletons.HALPE_26, points).visibility[PELVIS] == schema.MISSING
    points[12] = 3, 4
    person = to_mpii(skeletons.HALPE_26, points)
    assert person.visibility[PELVIS] == schema.DERIVED
    np.testing.assert_allclose(person.joints[PELVIS], (points[11] + points[12]) / 2)


def test_a_joint_set_is_known_by_its_names_however_they_are_spelt():
    for found in JOINT_SETS.values():
        assert skeletons.known([name.title().replace(" ", "_") for name in found.names]) is found
        assert skeletons.known(found.names[::-1]) is None
    with pytest.raises(UserError, match=r"f.json: 3 joints \(a, b, c …\) in an order that is none of coco17"):
        skeletons.named(["a", "b", "c"], "f.json")


def test_the_number_of_joints_decides_only_where_one_set_has_so_many():
    assert skeletons.counted(16, "f.json") is skeletons.MPII_16
    assert skeletons.counted(26, "f.json") is skeletons.HALPE_26
    for count, asked in {17: "--joints=coco17 or --joints=posetrack17", 14: "--joints=aic14 or"}.items():
        with pytest.raises(UserError, match=f"f.json: {count} joints without names .*{asked}"):
            skeletons.counted(count, "f.json")
    with pytest.raises(UserError, match=r"f.json: 21 joints; expected those of coco17"):
        skeletons.counted(21, "f.json")


@pytest.fixture(scope="module")
def mpii_joints(shared_data):
    """What MPII's annotators labelled, (P, 16, 2), of every fourth photograph."""
    records = mpii.read_csv(shared_data / "mpii" / "mpii_human_pose.csv", Counter())
    return np.array([record.people[0].joints for record in records])[::4]


def neck_height(joints):
    """Where the upper neck lies from the middle of the shoulders (0) to the top of the head (1), median."""
    shoulders, neck, top = joints[:, [12, 13]].mean(1), joints[:, NECK], joints[:, HEAD_TOP]
    up = top - shoulders
    return np.nanmedian(((neck - shoulders) * up).sum(1) / (up**2).sum(1))


@pytest.mark.parametrize(
    "file",
    [
        "aic/test_aic.json",
        "crowdpose/test_crowdpose.json",
        "posetrack18/annotations/test_posetrack18_val.json",
    ],
)
def test_necks_and_heads_of_other_sets_are_where_mpii_has_them(shared_data, mpii_joints, file):
    people = [p for r in coco.read(shared_data / "mmpose_samples" / file, Counter()) for p in r.people]
    joints = np.array([person.joints for person in people])
    assert neck_height(joints) == pytest.approx(neck_height(mpii_joints), abs=0.1)


def test_a_derived_joint_needs_all_its_parents():
    expected = {
        "left_hip": {PELVIS},
        "right_shoulder": {THORAX, NECK, HEAD_TOP},
        "left_ear": {NECK, HEAD_TOP},
        "nose": set(),
    }
    for missing, gone in expected.items():
        incomplete = points()
        incomplete[COCO_NAMES.index(missing)] = np.nan
        person = to_mpii(COCO_17, incomplete)
        assert {joint for joint in DERIVED if person.visibility[joint] == schema.MISSING} == gone, missing
        assert np.isnan(person.joints[list(gone)]).all()


def test_occlusion_is_carried_and_a_derived_joint_is_hidden_only_with_all_its_parents():
    occluded = np.zeros(17, bool)
    occluded[
        [COCO_NAMES.index(name) for name in ("left_hip", "right_hip", "left_shoulder", "left_wrist")]
    ] = True
    person = to_mpii(COCO_17, points(), occluded)
    hidden = {schema.JOINT_NAMES[joint] for joint in np.flatnonzero(person.occluded)}
    assert hidden == {"left hip", "right hip", "left shoulder", "left wrist", "pelvis"}


def test_derived_joints_agree_with_what_mpii_annotators_labelled(mpii_joints):
    coco = np.full((len(mpii_joints), 17, 2), np.nan)
    for joint, index in enumerate(COCO_17.mpii):
        if index is not None:
            coco[:, index] = mpii_joints[:, joint]
    derived = np.array([to_mpii(COCO_17, person).joints for person in coco])
    for joint in (PELVIS, THORAX):
        distance = np.linalg.norm(derived[:, joint] - mpii_joints[:, joint], axis=1)
        distance = distance[np.isfinite(distance)]
        assert len(distance) > 3_000
        assert (distance <= 1).mean() > 0.98
