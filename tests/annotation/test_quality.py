"""The quality report: its measures by hand, its sums by brute force, and the verb on small journals."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from annotation import journal, records, validators
from annotation.__main__ import main
from annotation.errors import UserError
from annotation.quality import report, similarity, text
from annotation.verbs import stats

# --------------------------------------------------------------------------------------- measures of a text


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("pose", 1), ("poses", 2), ("raised", 1), ("located", 3), ("ankles", 2), ("angled", 2), ("whole", 1),
        ("centre", 2), ("area", 3), ("idea", 3), ("being", 2), ("science", 2), ("individual", 5),
        ("position", 3), ("horizontal", 4), ("squatting", 2), ("knees", 1), ("90-degree", 2), ("bodies", 2),
        ("the", 1), ("x", 1),
    ],
)  # fmt: skip
def test_syllables(word, count):
    assert text.syllables(word) == count


def test_flesch_kincaid_grade():
    words = validators.words(
        "The left arm is raised, the right knee bends slightly."
    )  # 10 words, 11 syllables
    assert text.grade(words, 2) == pytest.approx(0.39 * 5 + 11.8 * 1.1 - 15.59)


def test_mtld_counts_factors_from_both_ends():
    # Forwards a b a | c d e f: 2 of 3 words differ, which is a factor; the rest, all different, adds none.
    # Backwards f e d c a b a: 6 of 7 differ, (1 - 6/7) / 0.28 of a factor.
    assert text.mtld(list("abacdef")) == pytest.approx((7 / 1 + 7 / ((1 / 7) / 0.28)) / 2)
    assert np.isnan(text.mtld(list("abcdef")))
    assert np.isnan(text.mtld([]))


def test_more_varied_words_have_a_higher_mtld():
    plain, varied = ["a", "b", "c", "d"] * 30, [f"w{n % 40}" for n in range(120)]
    assert text.mtld(varied) > 3 * text.mtld(plain)


def test_repetition_counts_ngrams_of_the_length_asked_for():
    words = list("abcabcd")
    assert text.repetition(words, 1) == pytest.approx(3 / 7)
    assert text.repetition(words, 2) == pytest.approx(2 / 6)
    assert text.repetition(words, 3) == pytest.approx(1 / 5)
    assert text.repetition(words, 4) == 0
    assert text.repetition(["a"], 3) == 0


# ------------------------------------------------------------------------------------------------- similarity


def random_texts(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        [[f"w{n}" for n in rng.integers(0, 50, rng.integers(1, 9))] for _ in range(rng.integers(1, 5))]
        for _ in range(count)
    ]


def compared_one_by_one(texts):
    """The same numbers from all n x n cosines."""
    counts = np.array([[sum(s.count(f"w{n}") for s in sentences) for n in range(50)] for sentences in texts])
    idf = np.log((1 + len(texts)) / (1 + (counts > 0).sum(0))) + 1

    def unit(words):
        vector = np.array([words.count(f"w{n}") for n in range(50)]) * idf
        return vector / np.linalg.norm(vector)

    units = [unit([word for sentence in sentences for word in sentence]) for sentences in texts]
    pairs = [a @ b for n, a in enumerate(units) for b in units[:n]]
    neighbours = [unit(a) @ unit(b) for sentences in texts for a, b in itertools.pairwise(sentences)]
    return np.mean(pairs), np.mean(neighbours)


@pytest.mark.parametrize("texts_at_once", [7, 2000])
def test_similarity_is_that_of_all_pairs(monkeypatch, texts_at_once):
    monkeypatch.setattr(similarity, "_TEXTS_AT_ONCE", texts_at_once)
    texts = random_texts(60)
    corpus = similarity.Corpus()
    for sentences in texts:
        corpus.add(sentences)
    assert corpus.style_and_coherence() == pytest.approx(compared_one_by_one(texts))


def test_corpora_of_several_workers_join():
    texts = random_texts(60, seed=1)
    joined = similarity.Corpus()
    for part in (texts[:10], texts[10:], []):
        corpus = similarity.Corpus()
        for sentences in part:
            corpus.add(sentences)
        joined.extend(corpus)
    assert joined.style_and_coherence() == pytest.approx(compared_one_by_one(texts))


def test_equal_texts_are_alike_and_one_text_is_compared_with_nothing():
    corpus = similarity.Corpus()
    corpus.add([["a", "b"], ["a", "b"]])
    assert np.isnan(corpus.style_and_coherence()[0])
    corpus.add([["a", "b"], ["a", "b"]])
    assert corpus.style_and_coherence() == pytest.approx((1, 1))
    assert np.isnan(similarity.Corpus().style_and_coherence()).all()


# --------------------------------------------------------------------------------------------------- journals

ASKED = journal.Describer("openai", "paper", {"model": "m", "base_url": "u"})
RIGHT_UP = "One person stands. The right arm is raised. The left arm is lowered."
LEFT_UP = "One person stands. The left arm is raised. The right arm is lowered. She smiles."


def standing(image_id):
    """The own right arm up, the left one down."""
    joints = np.full((16, 2), np.nan)
    joints[[6, 7, 10, 11, 12, 13, 14, 15]] = [
        (100, 200), (100, 100), (70, 20), (70, 60), (75, 100), (125, 100), (130, 150), (130, 200),
    ]  # fmt: skip
    return records.ImageRecord(image_id, (records.person(joints),), source="test")


@pytest.fixture
def asked(tmp_path):
    """Four images: two captions, of which one is wrong; one refused answer; one request that failed."""
    directory = tmp_path / "train"
    directory.mkdir()
    images = [standing(f"{n}.jpg") for n in range(4)]
    (directory / journal.RECORDS).write_text(
        "".join(f"{records.to_json(image)}\n" for image in images), "utf-8"
    )
    answer = {"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "cost": 0.0}
    with journal.open_journal(directory) as opened:
        for image, status, fields in (
            (images[0], journal.OK, {"captions": [records.Description("0.jpg", RIGHT_UP, "m/paper")]}),
            (images[1], journal.OK, {"captions": [records.Description("1.jpg", LEFT_UP, "m/paper")]}),
            (
                images[2],
                journal.REJECTED,
                {
                    "captions": [records.Description("2.jpg", "As an", "m/paper")],
                    "reasons": ["cut off: ends in 'As an'", "refusal: 'as an ai'"],
                },
            ),
            (images[3], journal.FAILED, {"error": "429"}),
        ):
            attempt = opened.intent(
                ASKED,
                journal.input_hash(image),
                image.image_id,
                {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0},
            )
            opened.outcome(attempt, status, **fields, answer=answer)
    return directory


def test_a_group_counts_what_came_of_the_requests(asked):
    (group,) = report.summary(report.measure([asked]))["groups"]
    assert (group["split"], group["source"], group["captions"]) == ("train", "m/paper", 2)
    assert group["answers_without_caption"] == {"failed": 1, "rejected": 1}
    assert group["rejected_when_asked"] == {"cut off": 1, "refusal": 1}
    assert group["captions_refused_today"] == 1
    assert group["refused_today"] == {"gendered word": 1, "contradicts the joints": 1}
    assert group["claims"] == {
        "confirmed": 2,
        "contradicted": 2,
        "undecided": 0,
        "agreement": 0.5,
        "captions_with_contradiction": 1,
    }
    assert group["words"] == {"min": 13, "max": 15, "mean": 14, "std": 1}
    assert group["sentences"]["mean"] == 3.5
    assert group["gendered_words"] == {"per_1000_words": round(1000 / 28, 6), "captions": 1}
    assert group["left_and_right"] == {"left": 2, "right": 2, "left_share": 0.5}


def test_captions_that_were_replaced_do_not_count(write_journal, tmp_path):
    directory = write_journal(tmp_path / "j", [standing("a.jpg")], lambda record: ["Old old old."])
    newer = dataclasses.replace(journal.Describer("test", "1", {}), version="2")
    with journal.open_journal(directory) as opened:
        caption = records.Description("a.jpg", "New.", "test/0")
        opened.append(newer, journal.input_hash(standing("a.jpg")), "a.jpg", [caption])
    (group,) = report.summary(report.measure([directory]))["groups"]
    assert (group["captions"], group["words"]["max"]) == (1, 1)


def test_workers_find_what_one_process_finds(write_journal, tmp_path, monkeypatch):
    texts = [RIGHT_UP, LEFT_UP]
    directory = write_journal(
        tmp_path / "j",
        [standing(f"{n}.jpg") for n in range(12)],
        lambda record: [texts[int(record.image_id[0]) % 2]],
    )
    alone = report.summary(report.measure([directory]))
    monkeypatch.setattr(report, "_IMAGES_AT_ONCE", 4)
    monkeypatch.setattr(report, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr(report.os, "sched_getaffinity", lambda pid: {0, 1})
    assert report.summary(report.measure([directory])) == alone


# ------------------------------------------------------------------------------------------------------ verb


def test_the_verb_prints_a_table_and_writes_numbers_and_pictures(asked, write_journal, tmp_path, capsys):
    val = write_journal(tmp_path / "val", [standing("v.jpg")], lambda record: [RIGHT_UP])
    out = tmp_path / "out"
    assert main(["stats", f"--journal={asked}", f"--journal={val}", f"--out={out}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["split", "source", "captions"]
    assert [line.split()[:3] for line in printed[1:3]] == [["train", "m/paper", "2"], ["val", "test/0", "1"]]
    assert "train, m/paper: answers refused when asked: 1 cut off, 1 refusal" in printed
    written = json.loads((out / stats.STATS).read_text("utf-8"))
    assert [group["split"] for group in written["groups"]] == ["train", "val"]
    assert {"words", "sentences", "syllables", "version", "numpy", "scipy", "matplotlib"} <= set(
        written["method"]
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "joints.png",
        "lengths.png",
        "stats.json",
        "style.png",
    ]
    for path in out.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 150
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn


def test_journals_of_one_name_are_told_apart_by_their_path(write_journal, tmp_path):
    paths = [write_journal(tmp_path / name / "train", [standing("a.jpg")]) for name in ("a", "b")]
    assert {split for split, _ in report.measure(paths)} == {str(path) for path in paths}


def test_a_mistake_gets_a_sentence(write_journal, tmp_path, capsys):
    assert main(["stats", f"--journal={tmp_path / 'nowhere'}"]) == 2
    assert "records.jsonl: not there" in capsys.readouterr().err
    path = write_journal(tmp_path / "j", [standing("a.jpg")])
    with pytest.raises(UserError, match="given twice"):
        stats.run(stats_arguments(path, path))
    (path / journal.JOURNAL).unlink()
    with pytest.raises(UserError, match="holds no caption"):
        stats.run(stats_arguments(path))


def stats_arguments(*paths):
    from annotation.__main__ import _parser

    return _parser().parse_args(["stats", *(f"--journal={path}" for path in paths)])
