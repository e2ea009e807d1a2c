"""What check-dataset says of data sets that are whole, in part, absent and damaged."""

import csv
import json

import pytest
import scipy.io

from annotation import __main__ as cli
from annotation import check_dataset
from annotation.check_dataset import DataSet, Photographs, Table

SMALL = DataSet(
    name="small",
    folder="small",
    used_for="this test",
    parts=(
        Photographs("images/*.jpg", 12),
        Table("labels.csv", check_dataset.rows, {"rows": 3}),
    ),
    get="from nowhere",
    terms="none",
)


@pytest.fixture
def data(tmp_path, photo, monkeypatch):
    """A whole copy of SMALL, the only data set."""
    monkeypatch.setattr(check_dataset, "DATA_SETS", (SMALL,))
    folder = tmp_path / "data" / "small" / "images"
    folder.mkdir(parents=True)
    for n in range(12):
        (folder / f"{n:02d}.jpg").write_bytes(photo())
    (folder.parent / "labels.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    return folder.parent


@pytest.fixture
def check(tmp_path, capsys):
    """check(*flags): (exit status, what it printed, the errors)."""

    def run(*flags, data_dir=None):
        code = cli.main(["check-dataset", f"--data-dir={data_dir or tmp_path / 'data'}", *flags])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_whole_data_set(data, check):
    code, out, err = check()
    assert (code, err.strip().splitlines()[1:]) == (0, [])
    assert "small          complete    2 of 2" in out
    assert "+ images/*.jpg: 12 of 12 photographs, 12 decoded" in out
    assert "+ labels.csv: 3 rows" in out
    assert "get    from nowhere" in out
    assert "terms  none" in out


def test_a_part_of_the_photographs_is_no_mistake(data, check):
    for n in range(5):
        (data / "images" / f"{n:02d}.jpg").unlink()
    code, out, _ = check()
    assert code == 0
    assert "small          in part     2 of 2" in out
    assert "+ images/*.jpg: 7 of 12 photographs" in out


def test_what_is_missing_is_no_mistake_unless_it_was_named(data, check):
    (data / "labels.csv").unlink()
    for path in (data / "images").iterdir():
        path.unlink()
    code, out, _ = check()
    assert code == 0
    assert "small          absent      0 of 2" in out
    assert "- labels.csv: missing" in out
    code, out, err = check("small")
    assert code == 2
    assert "small: nothing of it is in" in err


def test_more_photographs_than_published(data, check, photo):
    (data / "images" / "extra.jpg").write_bytes(photo())
    code, out, err = check()
    assert code == 2
    assert "13 photographs; only 12 were published" in err
    assert "small          DAMAGED" in out


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_damaged_photograph_is_named(data, check, photo, content):
    (data / "images" / "03.jpg").write_bytes(photo()[:-300] if content is None else content)
    code, _, err = check()
    assert code == 2
    assert "03.jpg: cannot be decoded (1 of 12 photographs that were tried)" in err


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_rows_is_named(data, check, count):
    (data / "labels.csv").write_text("a,b\n" + "1,2\n" * count)
    code, _, err = check()
    assert code == 2
    assert f"labels.csv: {count} rows; the published file has 3 rows" in err


def test_a_file_that_cannot_be_read_is_named(data, check):
    (data / "labels.csv").write_bytes(b"\xff\xfe\x00")
    code, _, err = check()
    assert code == 2
    assert "labels.csv: cannot be read" in err


def test_all_that_is_wrong_is_said(data, check):
    (data / "labels.csv").write_text("a\n")
    (data / "images" / "03.jpg").write_bytes(b"")
    _, _, err = check()
    assert "labels.csv" in err
    assert "03.jpg" in err


def test_a_sample_covers_all_of_the_names(data, photo, monkeypatch):
    monkeypatch.setattr(check_dataset, "SAMPLE", 4)
    tried = []
    monkeypatch.setattr(check_dataset, "_decodes", lambda path: tried.append(path.name) or True)
    check_dataset.check(SMALL, data.parent)
    assert tried == ["00.jpg", "03.jpg", "06.jpg", "09.jpg"]


def test_mistakes_are_named(check, tmp_path):
    (tmp_path / "data").mkdir()
    code, _, err = check("nonsense")
    assert code == 2
    assert "no data set 'nonsense'; there are mpii, mpii-captions, stanford40" in err
    code, _, err = check(data_dir=tmp_path / "nowhere")
    assert code == 2
    assert "nowhere: not a folder" in err


# ------------------------------------------------------------------------------------------ real layouts


def test_the_real_data_is_in_order(shared_data, check):
    code, out, err = check(data_dir=shared_data)
    assert code == 0, err
    for line in (
        "+ mpii_human_pose.csv: 17,372 rows",
        "+ splits/train_images.txt: 22,246 lines",
        "+ JPEGImages/*.jpg: 3,600 of 9,532 photographs, 100 decoded",
        "+ ImageSplits/test.txt: 5,532 lines",
        "+ images/*.jpg: 2,000 of 23,708 photographs",
        "+ test/disgust/*.jpg: 55 of 55 photographs",
        "+ fer2013new.csv: 28,709 Training, 3,589 PublicTest, 3,589 PrivateTest",
        "+ label_map.txt: 400 lines",
        "+ fairface_label_val.csv: 10,954 rows",
    ):
        assert line in out


def test_every_data_set_says_how_to_get_it():
    names = [data_set.name for data_set in check_dataset.DATA_SETS]
    assert len(set(names)) == len(names) == 10
    for data_set in check_dataset.DATA_SETS:
        assert data_set.get
        assert data_set.terms
        assert data_set.parts


def test_the_paper_s_captions_add_up():
    (captions,) = check_dataset.chosen(["mpii-captions"])
    counts = {part.path: part.expected["entries"] for part in captions.parts}
    assert "gpt-4-0613/val.json" not in counts
    assert counts["gpt-4-0613/train.json"] + counts["llama-2-70b-chat-hf/val.json"] == 17367
    assert len(counts) == 7


def test_the_emotions_add_up():
    (fer2013,) = check_dataset.chosen(["fer2013"])
    folders = sum(part.count for part in fer2013.parts if isinstance(part, Photographs))
    assert folders == fer2013.parts[0].expected["PrivateTest"]


def test_counters(tmp_path):
    path = tmp_path / "file"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["Usage", "text"], ["a", "two\nlines"], ["b", "x"], ["a", "y"]])
    assert check_dataset.rows(path) == {"rows": 3}
    assert check_dataset.rows_by_usage(path) == {"a": 2, "b": 1}
    path.write_text(json.dumps([1, 2]))
    assert check_dataset.entries(path) == {"entries": 2}
    path.write_text("a\nb\n")
    assert check_dataset.lines(path) == {"lines": 2}
    mat = tmp_path / "file.mat"
    scipy.io.savemat(mat, {"RELEASE": {"annolist": [{"image": n} for n in range(3)]}})
    assert check_dataset.mpii_images(mat) == {"images": 3}
    scipy.io.savemat(mat, {split: [{"image": n} for n in range(4)] for split in ("train", "val", "test")})
    assert check_dataset.emotic_images(mat) == {"train": 4, "val": 4, "test": 4}
