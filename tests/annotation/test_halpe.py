from collections import Counter

import pytest

from annotation import schema
from annotation.errors import UserError
from annotation.sources import halpe

PELVIS, THORAX, NECK, HEAD_TOP = 6, 7, 8, 9


def result(image="a.jpg", joints=26, confidence=0.8, **fields):
    keypoints = [value for j in range(joints) for value in (10.5 + j, 20 + 2 * j, confidence)]
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": 2.9, "idx": [0.0]} | fields


def test_alphapose_results(write_json):
    notes = Counter()
    rows = [result(), result("b.jpg"), result(), result(confidence=0.1)]
    a, b = halpe.read(write_json(rows), notes)
    assert (a.image_id, b.image_id, a.source) == ("a.jpg", "b.jpg", "halpe")
    assert len(a.people) == 2
    (person, _), extra = a.people, a.people[0].extra
    places = {PELVIS: 19, NECK: 18, HEAD_TOP: 17, 0: 16, 15: 9}
    for joint, place in places.items():
        assert person.joints[joint].tolist() == [10.5 + place, 20 + 2 * place]
        assert person.visibility[joint] == schema.LABELLED
    assert person.visibility[THORAX] == schema.DERIVED
    assert extra == result()
    assert not a.people_complete
    assert +notes == {"people without any joint of confidence 0.3, left out": 1}


def test_a_confidence_of_ones_own(write_json):
    (record,) = halpe.read(write_json([result(confidence=0.1)]), Counter(), confidence=0.05)
    assert (record.people[0].visibility > 0).all()


@pytest.mark.parametrize("joints", [17, 136])
def test_other_joint_sets_are_refused(write_json, joints):
    sentence = rf"image a.jpg, person 1, field 'keypoints' \(Halpe-26\): expected 78 .* found {3 * joints}"
    with pytest.raises(UserError, match=sentence):
        list(halpe.read(write_json([result(joints=joints)]), Counter()))
