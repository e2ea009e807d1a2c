"""Class orders and prompts are part of a published number: a change here is a change of the benchmark."""

import re

import pytest

from annotation.describers import geometry
from annotation.sources import figures
from focusclip_jax.data.augment import mirror_text
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import published, tasks


def test_stanford40_prompts_are_the_papers_and_stand_beside_their_class():
    prompts = dict(zip(tasks.STANFORD40.classes, tasks.STANFORD40.prompts, strict=True))
    assert len(prompts) == 40
    assert prompts["watching_TV"] == ("a photo of a person watching TV",)
    assert prompts["looking_through_a_telescope"] == ("a photo of a person looking through a telescope",)
    assert tasks.STANFORD40.k == 3


def test_stanford40_classes_are_in_the_order_of_the_data_set(shared_data):
    lines = (shared_data / "stanford40" / "ImageSplits" / "actions.txt").read_text().splitlines()[1:]
    assert tasks.STANFORD40.classes == tuple(line.split()[0] for line in lines)


def test_utkface_asks_for_five_age_groups():
    assert tasks.UTKFACE_AGE.classes == ("baby", "child", "teenager", "young adult", "adult")
    assert tasks.UTKFACE_AGE.prompts[3] == ("a photo of a young adult person",)
    assert tasks.UTKFACE_AGE.k == 1


def test_fer2013_follows_the_csv_codes_with_neutral_last():
    assert tasks.FER2013.classes == ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
    assert tasks.FER2013.prompts[0] == ("a photo of an angry looking face",)
    assert tasks.FER2013.prompts[6] == ("a photo of a neutral looking face",)
    assert tasks.FER2013.k == 3


def test_kinetics_classes_are_in_the_order_of_the_label_map(shared_data):
    lines = (shared_data / "kinetics400" / "label_map.txt").read_text().splitlines()
    assert tasks.KINETICS400.classes == tuple(lines)


def test_kinetics_asks_for_400_activities():
    task = tasks.KINETICS400
    assert (len(task.classes), task.k) == (400, 3)
    assert (task.classes[0], task.classes[-1]) == ("abseiling", "zumba")
    assert task.prompts[0] == ("a photo of a person abseiling",)


@pytest.mark.parametrize("task", [tasks.EMOTIC_AGE, tasks.LAGENDA_BODY, tasks.LAGENDA_FACE])
def test_bodies_and_faces_are_asked_for_three_ages(task):
    assert task.classes == ("kid", "teenager", "adult")
    assert task.prompts[2] == ("a photo of a adult person",)  # as the paper's code words it
    assert task.prompt_sets["ensemble-v1"][2][0] == "a photo of an adult"
    assert task.k == 1


def test_emotic_asks_for_26_emotions_in_two_ways():
    task = tasks.EMOTIC_EMOTION
    assert len(task.classes) == 26
    assert list(task.classes) == sorted(task.classes)
    assert task.prompts[9] == ("a photo of a person who is feeling doubt/confusion",)
    assert (task.k, task.several) == (3, False)
    assert tasks.EMOTIC_EMOTION_MAP.several
    assert tasks.EMOTIC_EMOTION_MAP.prompts == task.prompts


def test_ferplus_adds_contempt_to_the_emotions_of_fer2013():
    assert set(tasks.FERPLUS.classes) == {*tasks.FER2013.classes, "contemptuous"}
    prompts = dict(zip(tasks.FERPLUS.classes, tasks.FERPLUS.prompts, strict=True))
    assert prompts["angry"] == ("a photo of an angry looking face",)
    assert prompts["contemptuous"] == ("a photo of a contemptuous looking face",)
    assert tasks.FERPLUS.k == 3


def test_race_is_asked_only_by_request_and_with_its_terms():
    races = [task for task in tasks.TASKS.values() if task.kind == "race"]
    assert [task.name for task in races] == ["fairface_race", "utkface_race"]
    assert all(task.opt_in and "to find bias" in task.terms for task in races)
    fairface, utkface = (dict(zip(task.classes, task.prompts, strict=True)) for task in races)
    assert fairface["Latino_Hispanic"] == ("a photo of a latino_hispanic person",)
    assert utkface["asian"] == ("a photo of an asian person",)
    assert utkface["others"] == ("a photo of an other race person",)
    asked = [task.prompt_sets["ensemble-v1"] for task in races]
    assert asked[0][2][0] == "a photo of a Latino or Hispanic person"
    assert asked[1][3][0] == "a photo of an Indian person"


def test_the_papers_splits_are_tasks_of_their_own_and_the_default_ones_are_test_splits():
    defaults = {task.name: task.split for task in tasks.TASKS.values() if not task.opt_in}
    assert set(defaults.values()) == {"test", "all", "PrivateTest"}
    trained = {task.name: task.split for task in tasks.TASKS.values() if task.name.endswith("_train")}
    assert trained == {
        "emotic_age_train": "train",
        "emotic_emotion_train": "train",
        "fer2013_train": "Training",
    }
    for name in trained:
        task, tested = tasks.TASKS[name], tasks.TASKS[name.removesuffix("_train")]
        assert (task.prompts, task.classes, task.k) == (tested.prompts, tested.classes, tested.k)


def test_every_task_of_the_papers_table_is_there():
    assert set(published.PUBLISHED) <= set(tasks.TASKS)
    for kind, names in published.HEADLINE.items():
        assert {(tasks.TASKS[name].kind, tasks.TASKS[name].opt_in) for name in names} == {(kind, False)}


def test_figures_ask_for_the_activities_that_the_generator_draws():
    assert tasks.FIGURES.classes == figures.TRAINED
    assert tasks.FIGURES_HELD_OUT.classes == figures.HELD_OUT


def test_held_out_prompts_tell_the_classes_apart_without_naming_them():
    for name, prompts in zip(tasks.FIGURES_HELD_OUT.classes, tasks.FIGURES_HELD_OUT.prompts, strict=True):
        assert all(name not in prompt for prompt in prompts)
    assert len(set(tasks.FIGURES_HELD_OUT.prompts)) == len(tasks.FIGURES_HELD_OUT.classes)


def test_no_side_is_preferred_in_held_out_prompts():
    for prompts in tasks.FIGURES_HELD_OUT.prompts:
        assert {mirror_text(prompt) for prompt in prompts} == set(prompts)


def test_figures_prompts_use_only_words_that_training_captions_use():
    drawn = figures.Figures(seed=0, count=200)
    words = set()
    for i in range(drawn.count):
        record, _ = figures.generate(drawn, i)
        for description in geometry.describe(record, detail="short"):
            words.update(re.findall(r"[a-z-]+", description.text.lower()))
    ensembles = [task.prompt_sets["ensemble-v1"] for task in (tasks.FIGURES, tasks.FIGURES_HELD_OUT)]
    for prompts in ensembles[0] + ensembles[1]:
        for prompt in prompts:
            assert words.issuperset(re.findall(r"[a-z-]+", prompt.lower())), prompt


def test_a_task_cannot_have_a_class_without_a_prompt_or_twice():
    fields = {"name": "x", "dataset": "x", "kind": "age", "k": 1, "split": "test", "source": "x"}
    with pytest.raises(ValueError, match="each with its prompts"):
        tasks.Task(classes=("a", "b"), prompts=(("a",),), **fields)
    with pytest.raises(ValueError, match="no prompt"):
        tasks.Task(classes=("a", "b"), prompts=(("a",), ()), **fields)
    with pytest.raises(ValueError, match="distinct"):
        tasks.Task(classes=("a", "a"), prompts=(("a",), ("b",)), **fields)


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"'kinetics40'; expected one of figures, .*stanford40"):
        tasks.by_name("kinetics40")


def test_every_task_can_be_asked_by_the_papers_prompts_and_by_an_ensemble():
    for task in tasks.TASKS.values():
        assert set(task.prompt_sets) == {"paper", "ensemble-v1"}
        assert task.prompts == task.prompt_sets["paper"]
        asked = tasks.with_prompts(task, "ensemble-v1")
        assert (asked.prompts, asked.prompt_set) == (task.prompt_sets["ensemble-v1"], "ensemble-v1")
        assert tasks.with_prompts(asked, "paper") == task
        texts = [text for prompts in asked.prompts for text in prompts]
        assert len(set(texts)) == len(texts)  # no text for two classes, none twice


def test_an_unknown_set_of_prompts_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match="stanford40 has no prompts named 'v2'; expected one of paper,"):
        tasks.with_prompts(tasks.STANFORD40, "v2")
