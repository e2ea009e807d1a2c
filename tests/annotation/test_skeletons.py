from collections import Counter

import numpy as np

from annotation import schema
from annotation.skeletons import COCO_17, to_mpii
from annotation.sources import mpii

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


def test_derived_joints_agree_with_what_mpii_annotators_labelled(shared_data):
    records = mpii.read_csv(shared_data / "mpii" / "mpii_human_pose.csv", Counter())
    labelled = np.array([record.people[0].joints for record in records])[::4]
    coco = np.full((len(labelled), 17, 2), np.nan)
    for joint, index in enumerate(COCO_17.mpii):
        if index is not None:
            coco[:, index] = labelled[:, joint]
    derived = np.array([to_mpii(COCO_17, person).joints for person in coco])
    for joint in (PELVIS, THORAX):
        distance = np.linalg.norm(derived[:, joint] - labelled[:, joint], axis=1)
        distance = distance[np.isfinite(distance)]
        assert len(distance) > 3_000
        assert (distance <= 1).mean() > 0.98
