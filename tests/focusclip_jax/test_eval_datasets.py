"""Readers against tiny fixtures in the real layouts, and against the real files where they are at hand."""

import collections
import dataclasses

import numpy as np
import PIL.Image
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import datasets, tasks
from focusclip_jax.evaluation.datasets import fer2013, shards, stanford40, utkface


def save(path, level=0, size=(8, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, size, level if mode == "L" else (level, level, level)).save(path)


def grey(images, i):
    """Mean level of image i, which must be RGB."""
    image = images.read(i)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    return round(float(image.mean()))


@pytest.fixture
def stanford(tmp_path):
    root = tmp_path / "stanford40"
    save(root / "JPEGImages" / "writing_on_a_book_002.jpg", 50)
    save(root / "JPEGImages" / "applauding_254.jpg", 100, mode="L")  # the real set has a grey one too
    save(root / "JPEGImages" / "applauding_001.jpg")  # a training image
    (root / "ImageSplits").mkdir()
    (root / "ImageSplits" / "test.txt").write_text(
        "applauding_254.jpg\napplauding_073.jpg\nwriting_on_a_book_002.jpg\n"
    )
    return root


def test_stanford40_reads_the_listed_images_that_exist(stanford):
    images = stanford40.load(stanford)
    assert images.names == ("applauding_254.jpg", "writing_on_a_book_002.jpg")
    assert images.labels == ("applauding", "writing_on_a_book")
    assert (grey(images, 0), grey(images, 1)) == (100, 50)
    assert images.summary() == "2 of 5,532 images present (ImageSplits/test.txt)."
    assert not images.complete


def test_stanford40_mistakes_are_named(stanford):
    listing = stanford / "ImageSplits" / "test.txt"
    listing.write_text("applauding_254.jpg\nsleeping_001.jpg\n")
    with pytest.raises(UserError, match=r"test\.txt: sleeping_001\.jpg names none of the 40 actions"):
        stanford40.load(stanford)
    listing.write_text("applauding_073.jpg\n")
    with pytest.raises(UserError, match="JPEGImages: none of the 1 images"):
        stanford40.load(stanford)
    listing.unlink()
    with pytest.raises(UserError, match=r"test\.txt: not found"):
        stanford40.load(stanford)


def test_an_unreadable_photograph_is_named(stanford):
    (stanford / "JPEGImages" / "applauding_254.jpg").write_bytes(b"\xff\xd8 cut off")
    with pytest.raises(UserError, match=r"applauding_254\.jpg: not a readable image"):
        stanford40.load(stanford).read(0)


@pytest.mark.parametrize("folder", ["utkface/images", "utkface"])
def test_utkface_reads_labels_from_file_names(tmp_path, folder):
    for name in (
        "2_1_0_20170109150557335.jpg.chip.jpg",
        "19_0_4_20170109142408075.jpg",
        "116_0_2_20170109142408076.jpg.chip.jpg",
        "61_3_20170109150557335.jpg.chip.jpg",  # as published: no race
        "53__0_20170116184028385.jpg.chip.jpg",  # as published: no gender
        "30_2_0_20170116184028385.jpg.chip.jpg",  # there is no gender 2
    ):
        save(tmp_path / folder / name, 70)
    images = utkface.load(tmp_path / "utkface")
    by_name = dict(zip(images.names, images.labels, strict=True))
    assert by_name == {
        "2_1_0_20170109150557335.jpg.chip.jpg": "baby",
        "19_0_4_20170109142408075.jpg": "teenager",
        "116_0_2_20170109142408076.jpg.chip.jpg": "adult",
    }
    assert images.groups == {
        "perceived gender": ("male", "male", "female"),
        "perceived race": ("asian", "others", "white"),
    }
    assert len(images.left_out) == 3
    assert images.summary().startswith("3 of 23,708 images present")
    assert "3 left out for want of a usable label: 30_2_0_" in images.summary()
    assert grey(images, 0) == 70


@pytest.mark.parametrize(
    ("years", "group"),
    [
        *((0, "baby"), (2, "baby"), (3, "child"), (9, "child"), (10, "teenager"), (19, "teenager")),
        *((20, "young adult"), (29, "young adult"), (30, "adult"), (116, "adult")),
    ],
)
def test_age_groups_have_the_papers_borders(years, group):
    assert utkface.age_group(years) == group


def test_utkface_without_faces_is_a_mistake(tmp_path):
    (tmp_path / "utkface").mkdir()
    with pytest.raises(UserError, match="utkface: no face found"):
        utkface.load(tmp_path / "utkface")


FOLDERS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")  # as a directory sorts them


def test_fer2013_folders_are_read_by_name_not_by_their_order(tmp_path):
    for level, name in enumerate(FOLDERS):
        save(tmp_path / "test" / name / f"PrivateTest_{level}.jpg", 10 * level, (48, 48), "L")
    images = fer2013.load(tmp_path)
    labels = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
    assert {grey(images, i) // 10: label for i, label in enumerate(images.labels)} == dict(enumerate(labels))
    assert images.names[0] == "angry/PrivateTest_0.jpg"
    (tmp_path / "test" / "contempt").mkdir()
    with pytest.raises(UserError, match="contempt: not a class of FER2013"):
        fer2013.load(tmp_path)


def csv_rows(*rows):
    lines = [f'{code},"{" ".join([str(level)] * 48 * 48)}",{usage}' for code, level, usage in rows]
    return "emotion,pixels,Usage\n" + "\n".join(lines) + "\n"


def test_fer2013_csv_codes_end_with_neutral_and_only_the_test_split_is_read(tmp_path):
    table = tmp_path / "fer2013.csv"
    rows = [(code, 30 * code, "PrivateTest") for code in range(7)]
    table.write_text(csv_rows((0, 1, "Training"), (3, 1, "PublicTest"), *rows))
    images = fer2013.load(tmp_path)
    assert images.labels == ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
    assert [grey(images, i) for i in range(7)] == [0, 30, 60, 90, 120, 150, 180]
    assert images.read(0).shape == (48, 48, 3)
    assert images.names[0] == "fer2013.csv line 4"
    assert images.summary() == "7 of 3,589 images present (fer2013.csv, Usage PrivateTest)."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (csv_rows((7, 0, "PrivateTest")), "line 2: emotion is '7'; expected a code from 0 to 6"),
        (csv_rows((1, 256, "PrivateTest")), "line 2: expected 2304 grey values"),
        ("emotion,pixels,Usage\n1,0 0 0,PrivateTest\n", "line 2: expected 2304 grey values"),
        ("emotion,pixels,Usage\n1,,PrivateTest\n", "line 2: expected 2304 grey values"),
        ("emotion,pixels\n1,0 0 0\n", "expected the columns emotion, pixels and Usage"),
        (csv_rows((1, 0, "Training")), "no row with Usage PrivateTest"),
    ],
)
def test_fer2013_csv_mistakes_are_named(tmp_path, text, sentence):
    (tmp_path / "fer2013.csv").write_text(text)
    with pytest.raises(UserError, match=rf"fer2013\.csv.*{sentence}"):
        fer2013.load(tmp_path)


def test_fer2013_that_is_in_no_known_layout_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match=r"expected fer2013\.csv or the folders test/\{angry,"):
        fer2013.load(tmp_path)


@pytest.fixture
def active(row):
    """active(activity, level): an example to be packed, with that activity and grey level."""

    @dataclasses.dataclass
    class Active:
        activity: str
        level: int

        def payload(self):
            image = np.full((40, 60, 3), self.level, np.uint8)
            example = tf_example_pb2.Example.FromString(
                row(image_id=f"{self.activity} {self.level}", image=image).payload()
            )
            example.features.feature["activity"].bytes_list.value[0] = self.activity.encode()
            return example.SerializeToString()

    return Active


def test_shards_give_each_task_the_activities_it_asks_for(pack, active):
    rows = [active("cheering", 10), active("bowing", 20), active("", 30), active("running", 40)]
    path = pack([*rows, active("cheering", 50)], split="test")
    images = shards.load(path, ("cheering", "running"))
    assert images.labels == ("cheering", "running", "cheering")
    assert [grey(images, i) for i in range(3)] == [10, 40, 50]
    assert images.names == ("cheering 10", "running 40", "cheering 50")
    assert images.left_out == (" 30",)
    assert images.complete
    with pytest.raises(UserError, match="none of its 5 examples shows one of yoga"):
        shards.load(path, ("yoga",))


def test_every_task_has_a_reader_and_says_how_to_get_its_data(tmp_path):
    for task in tasks.TASKS.values():
        data_dir = tmp_path / task.name
        root = data_dir / task.dataset
        sentence = datasets.absent(task, data_dir)
        assert sentence.startswith(f"{task.name} was not evaluated, since {root} does not exist: ")
        assert str(root) in sentence.split(": ", 1)[1]
        root.mkdir(parents=True)
        assert datasets.absent(task, data_dir) is None
        with pytest.raises(UserError, match=str(root)):
            datasets.load(task, data_dir)


def test_the_real_stanford40(shared_data):
    images = datasets.load(tasks.STANFORD40, shared_data)
    assert images.summary().startswith("1,200 of 5,532 images present")
    assert collections.Counter(images.labels) == dict.fromkeys(tasks.STANFORD40_CLASSES, 30)
    lists = shared_data / "stanford40" / "ImageSplits"
    listed = {name: (lists / f"{name}_test.txt").read_text().split() for name in tasks.STANFORD40_CLASSES}
    assert all(name in listed[label] for name, label in zip(images.names, images.labels, strict=True))
    assert images.read(0).shape == (451, 300, 3)


def test_the_real_utkface(shared_data):
    images = datasets.load(tasks.UTKFACE_AGE, shared_data)
    counts = {"baby": 127, "child": 98, "teenager": 157, "young adult": 595, "adult": 1023}
    assert collections.Counter(images.labels) == counts
    races = {"white": 854, "black": 373, "asian": 268, "indian": 349, "others": 156}
    assert collections.Counter(images.groups["perceived race"]) == races
    assert images.read(0).shape == (200, 200, 3)
    assert not images.left_out


def test_the_real_fer2013(shared_data):
    images = datasets.load(tasks.FER2013, shared_data)
    counts = {"angry": 491, "disgusted": 55, "fearful": 528, "happy": 879, "neutral": 626}
    assert collections.Counter(images.labels) == counts | {"sad": 594, "surprised": 416}
    assert images.complete
    assert images.read(0).shape == (48, 48, 3)
