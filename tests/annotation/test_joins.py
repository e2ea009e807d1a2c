from collections import Counter

import pytest

from annotation import joins
from annotation.errors import UserError


def test_activities_are_joined_by_image_and_the_rest_is_counted(tmp_path, make_record):
    path = tmp_path / "activities.csv"
    path.write_text("split,action,image\ntrain,riding_a_bike,a.jpg\ntrain,riding_a_bike,a.jpg\n", "utf-8")
    notes = Counter()
    source = [make_record("a.jpg", category="sports"), make_record("b.jpg", activity="own")]
    a, b = joins.with_activities(source, joins.read_activities(path), notes)
    assert (a.activity, a.category) == ("riding_a_bike", "sports")
    assert b.activity == "own"
    assert list(notes.values()) == [1]


def test_activity_and_category_columns(tmp_path):
    path = tmp_path / "activities.csv"
    path.write_text('image,activity,category\na.jpg,"yoga, Power",conditioning exercise\n', "utf-8")
    assert joins.read_activities(path) == {"a.jpg": ("yoga, Power", "conditioning exercise")}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,activity\n", "activities.csv: columns name, activity; expected image and activity"),
        ("image,activity\na.jpg,x\na.jpg,y\n", "activities.csv: line 3: a second activity 'y' for a.jpg"),
        ("", "activities.csv: columns ; expected image"),
    ],
)
def test_activity_mistakes_are_named(tmp_path, text, sentence):
    (tmp_path / "activities.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        joins.read_activities(tmp_path / "activities.csv")


def test_list_keeps_the_images_named_and_says_what_it_did_not_find(tmp_path, make_record):
    path = tmp_path / "list.txt"
    path.write_text("b.jpg\n\nnowhere.jpg\nb.jpg\n")
    notes = Counter()
    source = [make_record("a.jpg"), make_record("b.jpg")]
    assert [r.image_id for r in joins.only_listed(source, joins.read_list(path), notes)] == ["b.jpg"]
    assert notes["names of the list without an image in the source"] == 1
    path.write_text("\n")
    with pytest.raises(UserError, match=r"list.txt: names no image"):
        joins.read_list(path)
