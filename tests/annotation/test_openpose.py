from collections import Counter

import numpy as np
import pytest

from annotation import records, schema
from annotation.__main__ import main
from annotation.errors import UserError
from annotation.sources import openpose

RIGHT_ANKLE, THORAX, RIGHT_WRIST = 0, 7, 10


def triples(confidence=0.9, scale=1.0):
    return [value for j in range(25) for value in ((10 + 2 * j) * scale, (20 + 3 * j) * scale, confidence)]


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(photo(101, 201))
    (folder / "b b.PNG").write_bytes(photo(101, 201, format="PNG"))
    return folder


def read(path, images, **options):
    notes = Counter()
    return list(openpose.read(path, notes, images, **options)), +notes


def people(*lists, **fields):
    return {
        "version": 1.3,
        "people": [{"person_id": [-1], "pose_keypoints_2d": one} for one in lists],
    } | fields


def test_a_folder_gives_each_photograph_its_people(write_json, tmp_path, photos):
    (tmp_path / "json").mkdir()
    second = triples()
    second[3 * 11 : 3 * 11 + 3] = 0, 0, 0
    write_json(people(triples(), second), "json/a_keypoints.json")
    write_json(people(), "json/b b_keypoints.json")
    write_json(people(triples()), "json/gone_keypoints.json")
    (a, b), notes = read(tmp_path / "json", photos)
    assert (a.image_id, b.image_id) == ("a.jpg", "b b.PNG")
    assert [len(a.people), len(b.people)] == [2, 0]
    assert not a.people_complete
    first, second = a.people
    assert first.joints[RIGHT_ANKLE].tolist() == [10 + 2 * 11, 20 + 3 * 11]
    assert first.joints[THORAX].tolist() == [12, 23]  # OpenPose's "neck"
    assert first.joints[RIGHT_WRIST].tolist() == [18, 32]
    assert (first.visibility[[THORAX, 8, 9]] == [schema.LABELLED, schema.DERIVED, schema.DERIVED]).all()
    assert second.visibility[RIGHT_ANKLE] == schema.MISSING
    assert first.extra == {"person_id": [-1], "pose_keypoints_2d": triples()}
    assert a.extra == {"version": 1.3}
    assert notes == {"files without a photograph in --images, left out": 1}


def test_zero_is_missing_even_where_any_confidence_will_do(write_json, photos):
    some = triples()
    some[3 * 4 : 3 * 4 + 3] = 0, 0, 0
    (record,), _ = read(write_json(people(some), "a_keypoints.json"), photos, confidence=0.0)
    assert record.people[0].visibility[RIGHT_WRIST] == schema.MISSING


def test_joints_and_people_below_the_confidence_are_missing(write_json, photos):
    some = triples()
    some[3 * 4 + 2] = 0.29
    path = write_json(people(some, triples(0.1), []), "a_keypoints.json")
    (record,), notes = read(path, photos)
    (person,) = record.people
    assert person.visibility[RIGHT_WRIST] == schema.MISSING
    assert notes == {"people without any joint of confidence 0.3, left out": 2}
    (record,), _ = read(path, photos, confidence=0.05)
    assert len(record.people) == 2


def test_normalised_coordinates_become_pixels(write_json, photos):
    """OpenPose divides by the last column and row: 100 and 200 here."""
    normalised = np.array(triples()).reshape(-1, 3) * [1 / 100, 1 / 200, 1]
    pixels = write_json(people(triples()), "a_keypoints.json")
    (expected,), _ = read(pixels, photos)
    (record,), _ = read(write_json(people(normalised.ravel().tolist()), "a_keypoints.json"), photos)
    np.testing.assert_allclose(record.people[0].joints, expected.people[0].joints)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "a_keypoints.json: not a file of OpenPose"),
        ({"people": 3}, "'people': expected a list, found int"),
        (people(triples()[:54]), r"person 1, field 'pose_keypoints_2d' \(BODY_25\): expected 75 .* found 54"),
        (people(triples(), None), "person 2, field 'pose_keypoints_2d'"),
        (people([-0.5, 0.25, 0.9] * 25), "coordinates from -1 to 1; expected pixels or 0 to 1"),
    ],
)
def test_mistakes_are_named(write_json, photos, content, sentence):
    with pytest.raises(UserError, match=sentence):
        read(write_json(content, "a_keypoints.json"), photos)


def test_photographs_are_needed_and_must_be_told_apart(write_json, photos, tmp_path):
    path = write_json(people(triples()), "a_keypoints.json")
    with pytest.raises(UserError, match=r"a_keypoints.json: .* add --images=DIR"):
        read(path, None)
    (photos / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"a.jpg and a.png differ in their suffix only"):
        read(path, photos)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no .json file in this folder"):
        read(tmp_path / "empty", tmp_path / "empty")


def test_the_verb_takes_a_folder_and_its_flags(write_json, tmp_path, photos, capsys):
    (tmp_path / "json").mkdir()
    write_json(people(triples(0.2)), "json/a_keypoints.json")
    command = ["describe", f"--source=openpose:{tmp_path / 'json'}", f"--images={photos}"]
    command += ["--describer=geometry", "--activity=dancing", f"--out={tmp_path / 'out'}"]
    assert main(command) == 2
    assert "no image with a joint" in capsys.readouterr().err
    assert main([*command, "--confidence=0.1"]) == 0
    (line,) = (tmp_path / "out" / "records.jsonl").read_text("utf-8").splitlines()
    record = records.from_json(line, "line")
    assert (record.image_id, record.width, record.height, record.activity) == ("a.jpg", 101, 201, "dancing")
    with pytest.raises(SystemExit):
        main([*command, "--confidence=-1"])
    assert "'-1' is not a number from 0" in capsys.readouterr().err
