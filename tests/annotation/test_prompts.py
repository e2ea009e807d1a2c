import dataclasses
import json
import pathlib

import numpy as np
import pytest

from annotation import prompts, records, schema
from annotation.describers import openai_chat

GOLDEN = pathlib.Path(__file__).parent / "golden" / "chat_request_paper.json"


def two_people():
    """As MPII's .mat and as an estimator leave them: with the source's centre and scale, and without."""
    joints = np.array([[100 + 10 * n, 200 - 7.4 * n] for n in range(16)])
    joints[[0, 5]] = np.nan
    first = records.person(joints, extra={"scale": 3.02, "objpos": {"x": 594, "y": 257.4}, "id": 1234567})
    second = records.person(joints[::-1] + np.array([300.6, 0]))
    return records.ImageRecord(
        "secret/name-015601864.jpg", (first, second), 1280, 720, activity="curling", category="sports"
    )


def test_the_request_of_the_paper_is_what_it_was_when_captions_were_bought():
    """Bytes: a change here is a new version of the prompt, never an edit of this one."""
    body = openai_chat.body(openai_chat.Settings("gpt-3.5-turbo-0613"), two_people())
    assert json.dumps(body, ensure_ascii=False, indent=1).encode() + b"\n" == GOLDEN.read_bytes()


def test_the_fields_of_the_paper_in_its_order_and_no_other():
    content = prompts.content(two_people())
    assert list(content) == ["activity", "count", "people"]
    assert [list(person) for person in content["people"]] == [["id", "center", "scale", "kpts"]] * 2
    assert content["activity"] == "sports, curling"
    assert content["count"] == 2
    assert content["people"][0]["id"] == 1
    kpts = content["people"][0]["kpts"]
    assert len(kpts) == 16
    assert kpts[0] == kpts[5] == [-1, -1]
    assert kpts[1] == [110, 193]
    assert all(isinstance(n, int) for person in content["people"] for xy in person["kpts"] for n in xy)


def test_the_system_message_says_everything_in_the_order_of_the_paper():
    text = prompts.SYSTEM["paper"]
    parts = ["You are an expert", "0 right ankle", "y grows downwards", "[-1, -1] marks", "Describe the pose"]
    parts += ["{how_many(count)}", "{general_traits(activity)", "The left leg is", "The right leg is"]
    parts += [
        "The left arm is",
        "The right arm is",
        "The torso is",
        "The head is",
        "concise, precise and gender",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    for index, name in enumerate(schema.JOINT_NAMES):
        assert f"{index} {name}" in text


def test_centre_and_scale_come_from_the_source_or_from_the_joints():
    first, second = prompts.content(two_people())["people"]
    assert first["center"] == [594, 257]
    assert first["scale"] == 3.02
    known = np.array([xy for xy in second["kpts"] if xy != [-1, -1]])
    assert second["center"] == pytest.approx((known.min(0) + known.max(0)) / 2, abs=1)
    assert second["scale"] > 0
    csv = dataclasses.replace(two_people().people[1], extra={"Scale": "1.5", "center": "nowhere"})
    record = dataclasses.replace(two_people(), people=(csv,))
    assert prompts.content(record)["people"][0]["scale"] == 1.5


def test_the_computed_scale_is_mpiis_in_the_median(shared_data):
    from collections import Counter

    from annotation.sources import mpii

    ratios = []
    for number, record in enumerate(mpii.read_csv(shared_data / "mpii" / "mpii_human_pose.csv", Counter())):
        if number == 1000:
            break
        bare = dataclasses.replace(record.people[0], extra={})
        computed = prompts.content(dataclasses.replace(record, people=(bare,)))["people"][0]["scale"]
        ratios.append(computed / float(record.people[0].extra["Scale"]))
    assert np.median(ratios) == pytest.approx(1, abs=0.05)


def test_a_person_without_a_joint_and_an_image_without_an_activity():
    empty = records.person(np.full((16, 2), np.nan))
    content = prompts.content(records.ImageRecord("a.jpg", (empty,)))
    assert content["activity"] == "unknown"
    assert content["people"][0] == {"id": 1, "center": [-1, -1], "scale": 0.0, "kpts": [[-1, -1]] * 16}
    assert prompts.content(records.ImageRecord("a.jpg", (), activity="rowing"))["activity"] == "rowing"


def test_no_image_name_path_or_other_field_of_the_source_is_said():
    text = json.dumps(prompts.messages(two_people(), "paper"))
    for secret in ("secret", "015601864", ".jpg", "1234567", "1280", "720"):
        assert secret not in text
