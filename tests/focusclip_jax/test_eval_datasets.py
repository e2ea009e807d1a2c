"""Readers against tiny fixtures in the real layouts, and against the real files where they are at hand."""

import collections
import dataclasses

import numpy as np
import PIL.Image
import pytest
import scipy.io
from tensorflow_datasets.proto import tf_example_pb2

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import datasets, tasks
from focusclip_jax.evaluation.datasets import (
    base,
    emotic,
    fairface,
    fer2013,
    ferplus,
    kinetics400,
    lagenda,
    shards,
    stanford40,
    utkface,
)


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
    assert "3 left out for want of a usable label or box: 30_2_0_" in images.summary()
    assert grey(images, 0) == 70
    by_race = datasets.load(tasks.UTKFACE_RACE, tmp_path)
    assert by_race.labels == images.groups["perceived race"]
    assert by_race.groups == {
        "perceived age": images.labels,
        "perceived gender": images.groups["perceived gender"],
    }


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


def at(root, dataset):
    """The data directory in which `root` is the folder of the data set."""
    (root / "data").mkdir()
    (root / "data" / dataset).symlink_to(root)
    return root / "data"


FOLDERS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")  # as a directory sorts them


def test_fer2013_folders_are_read_by_name_not_by_their_order(tmp_path):
    for level, name in enumerate(FOLDERS):
        save(tmp_path / "test" / name / f"PrivateTest_{level}.jpg", 10 * level, (48, 48), "L")
    images = fer2013.load(tmp_path)
    labels = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
    assert {grey(images, i) // 10: label for i, label in enumerate(images.labels)} == dict(enumerate(labels))
    assert images.names[0] == "angry/PrivateTest_0.jpg"
    save(tmp_path / "test" / "sad" / "PublicTest_1.jpg", 0, (48, 48), "L")  # of the validation split
    assert fer2013.load(tmp_path).names == images.names
    save(tmp_path / "train" / "sad" / "Training_1.jpg", 200, (48, 48), "L")
    trained = datasets.load(tasks.FER2013_TRAIN, at(tmp_path, "fer2013"))
    assert (trained.names, trained.labels, grey(trained, 0)) == (("sad/Training_1.jpg",), ("sad",), 200)
    assert trained.summary() == "1 of 28,709 images present (train/<class>/)."
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
    trained = fer2013.load(tmp_path, "Training")
    assert (trained.labels, grey(trained, 0)) == (("angry",), 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (csv_rows((7, 0, "PrivateTest")), "line 2: emotion is '7'; expected a code from 0 to 6"),
        (csv_rows((1, 256, "PrivateTest")), "line 2: expected 2304 grey values"),
        ("emotion,pixels,Usage\n1,0 0 0,PrivateTest\n", "line 2: expected 2304 grey values"),
        ("emotion,pixels,Usage\n1,,PrivateTest\n", "line 2: expected 2304 grey values"),
        ("emotion,pixels\n1,0 0 0\n", "expected the columns emotion, pixels, Usage"),
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


VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"


@pytest.fixture
def plus(tmp_path):
    """Votes and pixels in two folders side by side, as published."""
    votes = (
        "Training,fer0000000.png,9,0,0,0,0,0,0,0,1,0",
        "PrivateTest,fer0032298.png,0,0,0,0,0,0,0,8,1,1",
        "PrivateTest,fer0032299.png,5,0,0,5,0,0,0,0,0,0",  # no majority
        "PrivateTest,fer0032300.png,1,4,1,1,1,1,0,0,0,0",  # single votes are outliers: 4 of 4
        "PrivateTest,,0,0,0,0,0,0,0,0,0,10",  # not a face, hence without a name
        "PrivateTest,fer0032302.png,0,0,3,0,0,0,0,0,7,0",
    )
    save_text(tmp_path / "ferplus" / "fer2013new.csv", VOTES + "\n".join(votes) + "\n")
    rows = [(0, 10 * i, line.partition(",")[0]) for i, line in enumerate(votes)]
    save_text(tmp_path / "fer2013" / "fer2013.csv", csv_rows(*rows))
    return tmp_path


def save_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_ferplus_takes_the_majority_and_counts_faces_without_one(plus):
    images = datasets.load(tasks.FERPLUS, plus)
    assert images.names == ("fer0032298.png", "fer0032300.png")
    assert images.labels == ("contemptuous", "happy")
    assert (grey(images, 0), grey(images, 1)) == (10, 30)  # the pixels of their rows
    assert images.left_out == ("fer0032299.png", "fer2013new.csv line 6", "fer0032302.png")
    assert images.summary().startswith("2 of 3,589 images present (fer2013new.csv by majority, fer2013.csv")


def test_ferplus_columns_are_its_classes_in_order():
    assert tuple(label for label in ferplus.COLUMNS.values() if label) == tasks.FERPLUS.classes


def test_ferplus_mistakes_are_named(plus):
    votes, faces = plus / "ferplus" / "fer2013new.csv", plus / "fer2013" / "fer2013.csv"
    lines = votes.read_text().splitlines()
    votes.write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match=r"fer2013\.csv, line 7: expected .* in the same rows"):
        ferplus.load(votes.parent)
    votes.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(UserError, match=r"new\.csv, line 2: expected .* in the same rows"):
        ferplus.load(votes.parent)
    votes.write_text("\n".join(lines).replace("0,8,1,1", "0,8,one,1"))
    with pytest.raises(UserError, match=r"new\.csv, line 3: expected whole numbers of votes"):
        ferplus.load(votes.parent)
    faces.unlink()
    assert "holds no fer2013.csv" in datasets.absent(tasks.FERPLUS, plus)


def struct(*records):
    """A Matlab struct array, 1 × n, as scipy writes it."""
    array = np.zeros((1, len(records)), [(name, object) for name in records[0]])
    for i, record in enumerate(records):
        array[0, i] = tuple(record.values())
    return array


def cell(*texts):
    return np.array(texts, object).reshape(1, -1)


def person(box, emotions, age, gender, tested=True):
    """As in Annotations.mat: one annotator's labels for training, their union for testing."""
    one = struct({"categories": cell(*emotions[:1])})
    labels = {"annotations_categories": struct({"categories": cell(*emotions)})}
    if tested:
        labels = {"annotations_categories": np.hstack([one, one]), "combined_categories": cell(*emotions)}
    return {"body_bbox": np.array([box], float), **labels, "gender": gender, "age": age}


def photograph(filename, folder, *people):
    size = struct({"n_row": 40, "n_col": 60})
    return {"filename": filename, "folder": folder, "image_size": size, "person": struct(*people)}


@pytest.fixture
def emotic_data(tmp_path):
    root = tmp_path / "emotic"
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:40, 20:60] = 200
    for folder, name in (
        ("mscoco/images", "a.png"),
        ("framesdb/images", "b.png"),
        ("ade20k/images", "d.png"),
    ):
        (root / "emotic" / folder).mkdir(parents=True)
        PIL.Image.fromarray(pixels).save(root / "emotic" / folder / name)
    test = struct(
        photograph(
            "a.png",
            "mscoco/images",
            person((20, 10, 90, 70), ("Peace", "Affection"), "Kid", "Female"),  # leaves the image
            person((60, 0, 80, 40), ("Pain",), "Adult", "Male"),  # lies beside it
            person((-5, -5, 20, 10), (), "Teenager", "Male"),  # nobody saw an emotion
        ),
        photograph("b.png", "framesdb/images", person((0, 0, 60, 40), ("Doubt/Confusion",), "Adult", "Male")),
        photograph("c.png", "framesdb/images", person((0, 0, 60, 40), ("Anger",), "Adult", "Male")),
    )
    train = struct(
        photograph(
            "d.png", "ade20k/images", person((0, 0, 9.6, 9), ("Fear", "Anger"), "Adult", "Male", tested=False)
        )
    )
    (root / "Annotations").mkdir()
    scipy.io.savemat(root / "Annotations" / "Annotations.mat", {"test": test, "train": train, "val": train})
    return tmp_path


def test_emotic_cuts_people_out_and_reads_each_label(emotic_data):
    images = datasets.load(tasks.EMOTIC_AGE, emotic_data)
    a = "mscoco/images/a.png person"
    assert images.names == (f"{a} 1", f"{a} 3", "framesdb/images/b.png person 1")
    assert images.labels == ("kid", "teenager", "adult")
    assert [images.read(i).shape for i in range(3)] == [(30, 40, 3), (10, 20, 3), (40, 60, 3)]
    assert (images.read(0) == 200).all()
    assert (images.read(1) == 0).all()
    assert images.groups == {"perceived gender": ("female", "male", "male")}
    assert images.left_out == (f"{a} 2",)
    assert images.summary().startswith(
        "3 of 5 images present (Annotations/Annotations.mat, test); 1 left out"
    )
    first = datasets.load(tasks.EMOTIC_EMOTION, emotic_data)
    assert first.labels == ("Peace", "Doubt/Confusion")
    assert first.left_out == (f"{a} 2", f"{a} 3")
    every = datasets.load(tasks.EMOTIC_EMOTION_MAP, emotic_data)
    assert every.labels == (("Peace", "Affection"), ("Doubt/Confusion",))
    assert (every.names, every.left_out) == (first.names, first.left_out)


def test_emotic_training_people_have_one_annotators_labels(emotic_data):
    images = datasets.load(tasks.EMOTIC_EMOTION_TRAIN, emotic_data)
    assert (images.labels, images.names) == (("Fear",), ("ade20k/images/d.png person 1",))
    assert images.read(0).shape == (9, 10, 3)
    assert datasets.load(tasks.EMOTIC_AGE_TRAIN, emotic_data).labels == ("adult",)


def test_emotic_mistakes_are_named(emotic_data):
    root = emotic_data / "emotic"
    file = root / "Annotations" / "Annotations.mat"
    strange = photograph("b.png", "framesdb/images", person((0, 0, 9, 9), ("Joy",), "Adult", "Male"))
    scipy.io.savemat(file, {"test": struct(strange)})
    with pytest.raises(UserError, match=r"framesdb/images/b\.png person 1: 'Joy' is none of the 26"):
        emotic.load(root, emotic.age, "test")
    with pytest.raises(UserError, match=r"Annotations\.mat: holds no variable train"):
        emotic.load(root, emotic.age, "train")
    strange = photograph("b.png", "framesdb/images", person((0, 0, 9), ("Anger",), "Adult", "Male"))
    scipy.io.savemat(file, {"test": struct(strange)})
    with pytest.raises(UserError, match=r"test, b\.png: not an annotation of EMOTIC"):
        emotic.load(root, emotic.age, "test")
    file.write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"Annotations\.mat: not a readable Matlab 5 file"):
        emotic.load(root, emotic.age, "test")


BOXES = ",".join(f"{part}_{edge}" for part in ("face", "person") for edge in ("x0", "y0", "x1", "y1"))
LAGENDA = f"""img_name,age,gender,{BOXES}
lag_benchmark/a.png,12,F,20,10,30,20,-4,5,70,50
lag_benchmark/a.png,13,M,-1,-1,-1,-1,0,0,20,40
lag_benchmark/a.png,-1,-1,0,0,5,5,0,0,20,40
lag_benchmark/b.png,20,M,3,3,9,9,-1,-1,-1,-1
lag_benchmark/b.png,19,M,8,6,20,20,0,0,8,6
lag_benchmark/c.png,40,F,3,3,9,9,0,0,8,6
"""


def test_lagenda_cuts_out_bodies_or_faces(tmp_path):
    root = tmp_path / "lagenda"
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:20, 20:30] = 90
    save(root / "lag_benchmark" / "b.png", 5)
    PIL.Image.fromarray(pixels).save(root / "lag_benchmark" / "a.png")
    save_text(root / "lagenda_annotation.csv", LAGENDA)
    bodies = datasets.load(tasks.LAGENDA_BODY, tmp_path)
    assert bodies.labels == ("kid", "teenager", "teenager")
    assert [bodies.read(i).shape for i in range(3)] == [(35, 60, 3), (40, 20, 3), (6, 8, 3)]
    assert bodies.groups == {"perceived gender": ("female", "male", "male")}
    assert not bodies.left_out
    assert bodies.summary().startswith(
        "3 of 4 images present (lagenda_annotation.csv, rows with age and body"
    )
    faces = datasets.load(tasks.LAGENDA_FACE, tmp_path)
    assert faces.labels == ("kid", "adult")
    assert grey(faces, 0) == 90
    assert faces.left_out == ("lag_benchmark/b.png line 6",)  # beside the image, which is 8 × 6
    assert faces.expected == 4
    save_text(root / "lagenda_annotation.csv", LAGENDA.replace("12,F", "twelve,F"))
    with pytest.raises(UserError, match=r"annotation\.csv, line 2: age is 'twelve'; expected a number"):
        lagenda.load(root, "face")
    save_text(root / "lagenda_annotation.csv", LAGENDA.replace("lag_benchmark/", "elsewhere/"))
    with pytest.raises(UserError, match=r"none of the 4 face boxes with an age in .* has its image"):
        lagenda.load(root, "face")
    (root / "lag_benchmark" / "a.png").write_bytes(b"cut off")
    save_text(root / "lagenda_annotation.csv", LAGENDA)
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        lagenda.load(root, "face")


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((1, 2, 5, 6), (1, 2, 5, 6)),
        ((-3, -3, 99, 99), (0, 0, 8, 6)),
        ((0.4, 0.6, 3.4, 3.6), (0, 1, 3, 4)),
        ((5, 2, 1, 6), None),  # turned round
        ((3, 3, 3, 6), None),
        ((8, 0, 12, 6), None),
        ((-5, 0, 0, 6), None),
        ((float("nan"), 0, 5, 5), None),
    ],
)
def test_boxes_are_clipped_to_the_image(box, inside):
    assert base.clipped(box, (8, 6)) == inside


KINETICS = """label,youtube_id,time_start,time_end,split
abseiling,-3B32lodo2M,59,69,test
"passing American football (in game)",0abcdefghij,0,10,test
zumba,1abcdefghij,5,15,test
,2abcdefghij,5,15,test
"""


@pytest.mark.parametrize(("listing", "folder"), [("test.csv", "abseiling"), ("annotations/test.csv", "")])
def test_kinetics_frames_are_found_by_the_clips_of_the_csv(tmp_path, listing, folder):
    root = tmp_path / "kinetics400"
    save(root / "test" / folder / "-3B32lodo2M_000059_000069.jpg", 40)
    save(root / "test" / folder / "0abcdefghij_000000_000010.jpg", 80)
    save(root / "test" / folder / "2abcdefghij_000005_000015.jpg", 80)
    save_text(root / listing, KINETICS)
    images = datasets.load(tasks.KINETICS400, tmp_path)
    assert images.labels == ("abseiling", "passing American football (in game)")
    assert [grey(images, i) for i in range(2)] == [40, 80]
    assert images.left_out == ("2abcdefghij_000005_000015",)
    assert images.summary().startswith("2 of 4 images present (test.csv)")
    save_text(root / listing, KINETICS.replace("zumba", "zumbaing"))
    with pytest.raises(UserError, match=r"test\.csv, line 4: 'zumbaing' is no class of Kinetics-400"):
        kinetics400.load(root)
    save_text(root / listing, KINETICS.replace("5,15", "5.5,15"))
    with pytest.raises(UserError, match=r"test\.csv, line 4: expected whole seconds"):
        kinetics400.load(root)
    save_text(root / listing, KINETICS.splitlines()[0] + "\nzumba,1abcdefghij,5,15,test\n")
    with pytest.raises(UserError, match=r"test: no frame of the 1 clips"):
        kinetics400.load(root)


FAIRFACE = """file,age,gender,race,service_test
val/1.jpg,3-9,Male,East Asian,False
val/2.jpg,more than 70,Female,Latino_Hispanic,True
val/3.jpg,20-29,Female,White,True
"""


@pytest.mark.parametrize("folder", ["val", "fairface-img-margin025-trainval/val"])
def test_fairface_reads_the_listed_faces(tmp_path, folder):
    root = tmp_path / "fairface"
    save(root / folder / "1.jpg", 20)
    save(root / folder / "2.jpg", 50)
    save_text(root / "fairface_label_val.csv", FAIRFACE)
    images = datasets.load(tasks.FAIRFACE_RACE, tmp_path)
    assert images.labels == ("East Asian", "Latino_Hispanic")
    assert [grey(images, i) for i in range(2)] == [20, 50]
    assert images.groups == {
        "perceived gender": ("male", "female"),
        "perceived age": ("3-9", "more than 70"),
    }
    assert images.summary() == f"2 of 3 images present (fairface_label_val.csv, {folder})."
    save_text(root / "fairface_label_val.csv", FAIRFACE.replace("White", "Red"))
    with pytest.raises(UserError, match=r"val\.csv, line 4: race is 'Red'; expected one of White, Black"):
        fairface.load(root)


def test_a_csv_that_is_cut_off_is_named(tmp_path):
    save_text(tmp_path / "fairface_label_val.csv", FAIRFACE[:-20])
    with pytest.raises(UserError, match=r"val\.csv, line 4: expected 5 fields, found fewer"):
        fairface.load(tmp_path)


def test_every_task_has_a_reader_and_says_how_to_get_its_data(tmp_path):
    for task in tasks.TASKS.values():
        data_dir = tmp_path / task.name
        root = data_dir / task.dataset
        sentence = datasets.absent(task, data_dir)
        assert sentence.startswith(f"{task.name} was not evaluated, since {root} does not exist: ")
        assert str(root) in sentence.split(": ", 1)[1]
        root.mkdir(parents=True)
        sentence = datasets.absent(task, data_dir)
        if not task.synthetic:
            assert sentence.startswith(f"{task.name} was not evaluated, since {root} holds no ")
        with pytest.raises(UserError, match=str(root)):
            datasets.load(task, data_dir)


def test_labels_without_images_are_absent_data_not_a_mistake(shared_data):
    for task in (tasks.KINETICS400, tasks.FERPLUS, tasks.FAIRFACE_RACE):
        assert "holds no " in datasets.absent(task, shared_data)
    assert "holds no fer2013.csv or train/<class>/" in datasets.absent(tasks.FER2013_TRAIN, shared_data)
    for task in (tasks.STANFORD40, tasks.UTKFACE_AGE, tasks.UTKFACE_RACE, tasks.FER2013):
        assert datasets.absent(task, shared_data) is None


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


def test_the_real_ferplus_votes(shared_data):
    votes = shared_data / "ferplus" / "fer2013new.csv"
    rows = list(base.table(votes, ("Usage", "Image name", *ferplus.COLUMNS)))
    assert len(rows) == 35887
    tested = [row for _, row in rows if row["Usage"] == "PrivateTest"]
    assert len(tested) == fer2013.IMAGES["PrivateTest"]
    counts = collections.Counter(
        ferplus.majority({column: int(row[column]) for column in ferplus.COLUMNS}) for row in tested
    )
    emotions = {"neutral": 1090, "happy": 893, "surprised": 396, "sad": 384, "angry": 273, "disgusted": 18}
    assert counts == emotions | {"fearful": 83, "contemptuous": 16, None: 436}


def test_the_real_fairface_labels(shared_data):
    rows = [row for _, row in base.table(shared_data / "fairface" / fairface.LABELS, ("file", "race"))]
    assert len(rows) == 10954
    assert {row["race"] for row in rows} == set(tasks.FAIRFACE_RACES)
    with pytest.raises(UserError, match="none of the 10,954 images"):
        fairface.load(shared_data / "fairface")
