"""The zero-shot tasks as plain data: classes in a fixed order, prompts, k, split, source.

A class is what a reader of `datasets/` labels an image with. Its prompts are what the text tower reads;
several prompts of one class are averaged (`zero_shot.class_embeddings`).
"""

import dataclasses
from collections.abc import Mapping

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import kinetics400

PromptSet = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Task:
    """One zero-shot classification task.

    dataset: the folder below the data directory, and the reader of that name.
    kind: "activity", "age", "emotion" or "race"; the macro-average is taken over kinds.
    prompts: for each class, in the order of `classes`, one or more texts: what is asked.
    k: an answer counts as right if the label is among the k most similar classes.
    synthetic: the images are drawn, not photographed; the results table says so.
    prompt_sets: by version, what `with_prompts` can ask instead; "paper" has the paper's single prompts.
    prompt_set: which of them `prompts` is.
    several: an image has several labels, so those of an `EvaluationSet` are tuples of class names, and the
        score is mean average precision; k is not used.
    crop: "body" or "face", where the data set has boxes of both; else "".
    opt_in: evaluated only if it is asked for by name.
    terms: what must be read beside a result of this task; "" where nothing must.
    """

    name: str
    dataset: str
    kind: str
    classes: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    k: int
    split: str
    source: str
    synthetic: bool = False
    prompt_sets: Mapping[str, PromptSet] = dataclasses.field(default_factory=dict, hash=False)
    prompt_set: str = "paper"
    several: bool = False
    crop: str = ""
    opt_in: bool = False
    terms: str = ""

    def __post_init__(self):
        for prompts in (self.prompts, *self.prompt_sets.values()):
            if len(prompts) != len(self.classes) or len(set(self.classes)) != len(self.classes):
                raise ValueError(f"task {self.name}: expected distinct classes, each with its prompts")
            if not all(prompts):
                raise ValueError(f"task {self.name}: a class has no prompt")


def article(word: str) -> str:
    """ "a" or "an", by the first letter."""
    return "an" if word[0].lower() in "aeiou" else "a"


def with_prompts(task: Task, version: str) -> Task:
    """The task asked by another set of prompts. Raises `UserError` naming the versions that the task has."""
    if version not in task.prompt_sets:
        raise UserError(
            f"{task.name} has no prompts named {version!r}; expected one of {', '.join(task.prompt_sets)}"
        )
    return dataclasses.replace(task, prompts=task.prompt_sets[version], prompt_set=version)


def _sets(paper: PromptSet, ensemble: PromptSet) -> dict:
    """The fields of a task that is asked by the paper's prompts and can be asked by an ensemble.

    A change of an ensemble needs a new version beside the old one, since results name the version only.
    """
    return {"prompts": paper, "prompt_sets": {"paper": paper, "ensemble-v1": ensemble}}


def _texts(templates: tuple[str, ...], words: tuple[str, ...]) -> PromptSet:
    """Each class's word in all templates: {} is the word, {a} the word after its article."""
    return tuple(tuple(t.format(word, a=f"{article(word)} {word}") for t in templates) for word in words)


# The order of the data set's own ImageSplits/actions.txt ("reading" before "phoning").
STANFORD40_CLASSES = (
    "applauding",
    "blowing_bubbles",
    "brushing_teeth",
    "cleaning_the_floor",
    "climbing",
    "cooking",
    "cutting_trees",
    "cutting_vegetables",
    "drinking",
    "feeding_a_horse",
    "fishing",
    "fixing_a_bike",
    "fixing_a_car",
    "gardening",
    "holding_an_umbrella",
    "jumping",
    "looking_through_a_microscope",
    "looking_through_a_telescope",
    "playing_guitar",
    "playing_violin",
    "pouring_liquid",
    "pushing_a_cart",
    "reading",
    "phoning",
    "riding_a_bike",
    "riding_a_horse",
    "rowing_a_boat",
    "running",
    "shooting_an_arrow",
    "smoking",
    "taking_photos",
    "texting_message",
    "throwing_frisby",
    "using_a_computer",
    "walking_the_dog",
    "washing_dishes",
    "watching_TV",
    "waving_hands",
    "writing_on_a_board",
    "writing_on_a_book",
)

# Oldest age in years of each class; the last one is open.
UTKFACE_AGES = {"baby": 2, "child": 9, "teenager": 19, "young adult": 29, "adult": None}
AGES = {"kid": 12, "teenager": 19, "adult": None}  # of LAGENDA; EMOTIC names the same three without ages

# In the order of the codes 0 … 4 of the file names.
UTKFACE_RACES = ("white", "black", "asian", "indian", "others")

# As FairFace's label files spell them, in the order of its authors' classifier.
FAIRFACE_RACES = (
    "White",
    "Black",
    "Latino_Hispanic",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
)

# As EMOTIC's annotations spell them, in alphabetical order.
EMOTIC_EMOTIONS = (
    "Affection",
    "Anger",
    "Annoyance",
    "Anticipation",
    "Aversion",
    "Confidence",
    "Disapproval",
    "Disconnection",
    "Disquietment",
    "Doubt/Confusion",
    "Embarrassment",
    "Engagement",
    "Esteem",
    "Excitement",
    "Fatigue",
    "Fear",
    "Happiness",
    "Pain",
    "Peace",
    "Pleasure",
    "Sadness",
    "Sensitivity",
    "Suffering",
    "Surprise",
    "Sympathy",
    "Yearning",
)

# The codes 0 … 6 of fer2013.csv. Folders of the same data set sort neutral to 4, so they are read by name.
FER2013_CLASSES = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")

# The columns of fer2013new.csv.
FERPLUS_CLASSES = (
    "neutral",
    "happy",
    "surprised",
    "sad",
    "angry",
    "disgusted",
    "fearful",
    "contemptuous",
)


ACTIVITY_TEMPLATES = (
    "a photo of a person {}",
    "a photo of someone {}",
    "a photo of people {}",
    "a person is {}",
    "a picture of a person who is {}",
)
AGE_TEMPLATES = (
    "a photo of {a}",
    "a picture of {a}",
    "a portrait of {a}",
    "a photo of the face of {a}",
    "the person in the photo is {a}",
)
EMOTION_TEMPLATES = (
    "a photo of a person who is feeling {}",
    "a photo of someone who feels {}",
    "a picture of a person showing {}",
    "a person whose face and posture express {}",
    "the person in the photo feels {}",
)
RACE_TEMPLATES = (
    "a photo of {a} person",
    "a picture of {a} person",
    "a portrait of {a} person",
    "a photo of the face of {a} person",
)
FACE_TEMPLATES = (
    "a photo of {a} looking face",
    "a photo of {a} face",
    "a photo of a person who looks {}",
    "a portrait of {a} person",
    "the face of someone who feels {}",
)
# The ways in which the embedded data set's captions name an activity.
FIGURES_TEMPLATES = ("One person is {}.", "One person is shown {}.", "The image shows one person {}.")

# What the ensembles say where a class's own name is clipped or misspelt.
STANFORD40_WORDING = {
    "phoning": "talking on the phone",
    "shooting_an_arrow": "shooting an arrow with a bow",
    "texting_message": "texting a message on a phone",
    "throwing_frisby": "throwing a frisbee",
    "walking_the_dog": "walking a dog",
    "waving_hands": "waving their hands",
    "writing_on_a_book": "writing in a book",
}
EMOTIC_WORDING = {"Disquietment": "unease", "Doubt/Confusion": "doubt or confusion"}
RACE_WORDING = {"Latino_Hispanic": "Latino or Hispanic", "others": "Hispanic or Middle Eastern"}

RACE_TERMS = (
    "Race is what annotators saw in a picture, in categories that are not people's own. The task is there "
    "because the paper reports it and to find bias; it is not for sorting or deciding about people."
)

STANFORD40 = Task(
    name="stanford40",
    dataset="stanford40",
    kind="activity",
    classes=STANFORD40_CLASSES,
    **_sets(
        _texts(("a photo of a person {}",), tuple(name.replace("_", " ") for name in STANFORD40_CLASSES)),
        _texts(
            ACTIVITY_TEMPLATES,
            tuple(STANFORD40_WORDING.get(name, name.replace("_", " ")) for name in STANFORD40_CLASSES),
        ),
    ),
    k=3,
    split="test",
    source="Stanford 40 Actions (Yao et al., ICCV 2011); prompt and k of arXiv 2403.06904",
)

UTKFACE_AGE = Task(
    name="utkface_age",
    dataset="utkface",
    kind="age",
    classes=tuple(UTKFACE_AGES),
    **_sets(
        _texts(("a photo of a {} person",), tuple(UTKFACE_AGES)),  # the paper's, "a adult" too
        _texts(AGE_TEMPLATES, tuple(UTKFACE_AGES)),
    ),
    k=1,
    split="all",
    source="UTKFace (Zhang et al., CVPR 2017), perceived labels; groups, prompt and k of arXiv 2403.06904",
)

KINETICS400 = Task(
    name="kinetics400",
    dataset="kinetics400",
    kind="activity",
    classes=kinetics400.CLASSES,
    **_sets(
        _texts(("a photo of a person {}",), kinetics400.CLASSES),
        _texts(ACTIVITY_TEMPLATES, kinetics400.CLASSES),
    ),
    k=3,
    split="test",
    source="Kinetics-400 (Kay et al., 2017), a frame a clip; prompt and k of arXiv 2403.06904",
)

EMOTIC_AGE = Task(
    name="emotic_age",
    dataset="emotic",
    kind="age",
    classes=tuple(AGES),
    **_sets(_texts(("a photo of a {} person",), tuple(AGES)), _texts(AGE_TEMPLATES, tuple(AGES))),
    k=1,
    split="test",
    source="EMOTIC (Kosti et al., TPAMI 2019), people cut out, perceived labels; prompt and k of "
    "arXiv 2403.06904",
)

LAGENDA_BODY = Task(
    name="lagenda_body",
    dataset="lagenda",
    kind="age",
    classes=tuple(AGES),
    **_sets(_texts(("a photo of a {} person",), tuple(AGES)), _texts(AGE_TEMPLATES, tuple(AGES))),
    k=1,
    split="all",
    source="LAGENDA (Kuprashevich and Tolstykh, 2023), bodies cut out, perceived labels; groups, prompt and "
    "k of arXiv 2403.06904",
    crop="body",
)

LAGENDA_FACE = dataclasses.replace(
    LAGENDA_BODY,
    name="lagenda_face",
    source=LAGENDA_BODY.source.replace("bodies", "faces"),
    crop="face",
)

EMOTIC_EMOTION = Task(
    name="emotic_emotion",
    dataset="emotic",
    kind="emotion",
    classes=EMOTIC_EMOTIONS,
    **_sets(
        _texts(
            ("a photo of a person who is feeling {}",), tuple(emotion.lower() for emotion in EMOTIC_EMOTIONS)
        ),
        _texts(
            EMOTION_TEMPLATES,
            tuple(EMOTIC_WORDING.get(emotion, emotion.lower()) for emotion in EMOTIC_EMOTIONS),
        ),
    ),
    k=3,
    split="test",
    source="EMOTIC (Kosti et al., TPAMI 2019), people cut out, the first of their perceived emotions, as in "
    "arXiv 2403.06904 with its prompt and k",
)

EMOTIC_EMOTION_MAP = dataclasses.replace(
    EMOTIC_EMOTION,
    name="emotic_emotion_map",
    k=1,
    several=True,
    source="EMOTIC (Kosti et al., TPAMI 2019), people cut out, all of their perceived emotions, scored as "
    "its authors do; prompt of arXiv 2403.06904",
)

FER2013 = Task(
    name="fer2013",
    dataset="fer2013",
    kind="emotion",
    classes=FER2013_CLASSES,
    **_sets(
        _texts(("a photo of {a} looking face",), FER2013_CLASSES), _texts(FACE_TEMPLATES, FER2013_CLASSES)
    ),
    k=3,
    split="PrivateTest",
    source="FER2013 (Goodfellow et al., 2013), perceived labels; prompt and k of arXiv 2403.06904",
)

FERPLUS = Task(
    name="ferplus",
    dataset="ferplus",
    kind="emotion",
    classes=FERPLUS_CLASSES,
    **_sets(
        _texts(("a photo of {a} looking face",), FERPLUS_CLASSES), _texts(FACE_TEMPLATES, FERPLUS_CLASSES)
    ),
    k=3,
    split="PrivateTest",
    source="FER+ (Barsoum et al., ICMI 2016), majority of perceived labels; prompt and k of arXiv 2403.06904",
)

# What the paper's code measured on: the training splits. They are tasks of their own, since a result is known
# by the name of its task, so that the two splits can never be taken for each other.
EMOTIC_AGE_TRAIN = dataclasses.replace(EMOTIC_AGE, name="emotic_age_train", split="train", opt_in=True)
EMOTIC_EMOTION_TRAIN = dataclasses.replace(
    EMOTIC_EMOTION, name="emotic_emotion_train", split="train", opt_in=True
)
FER2013_TRAIN = dataclasses.replace(FER2013, name="fer2013_train", split="Training", opt_in=True)

FAIRFACE_RACE = Task(
    name="fairface_race",
    dataset="fairface",
    kind="race",
    classes=FAIRFACE_RACES,
    **_sets(
        # The paper's code lowers these names, and has "a" before each: "a east asian person".
        _texts(("a photo of a {} person",), tuple(race.lower() for race in FAIRFACE_RACES)),
        _texts(RACE_TEMPLATES, tuple(RACE_WORDING.get(race, race) for race in FAIRFACE_RACES)),
    ),
    k=1,
    split="val",
    source="FairFace (Karkkainen and Joo, WACV 2021), perceived labels; prompt and k of arXiv 2403.06904",
    opt_in=True,
    terms=RACE_TERMS,
)

UTKFACE_RACE = Task(
    name="utkface_race",
    dataset="utkface",
    kind="race",
    classes=UTKFACE_RACES,
    **_sets(
        _texts(
            ("a photo of {a} person",),
            tuple("other race" if race == "others" else race for race in UTKFACE_RACES),
        ),
        _texts(RACE_TEMPLATES, tuple(RACE_WORDING.get(race, race.capitalize()) for race in UTKFACE_RACES)),
    ),
    k=1,
    split="all",
    source="UTKFace (Zhang et al., CVPR 2017), perceived labels; prompt and k of arXiv 2403.06904",
    opt_in=True,
    terms=RACE_TERMS,
)

# The procedural people of the embedded data set. Names as in its generator (a test compares them).
FIGURES_TRAINED = (
    "standing still",
    "waving with one hand",
    "cheering",
    "standing with arms and legs apart",
    "running",
    "kneeling",
    "squatting",
    "sitting on a chair",
    "lying on the back",
    "doing a handstand",
    "bowing",
    "lunging",
    "balancing on one leg",
    "kicking a ball",
    "flexing both arms",
    "doing push-ups",
)

# Held out of training: a text tower that starts from nothing cannot know these names, so the prompts of each
# describe its pose in clauses that the geometry describer writes (a test checks the words). Written from the
# definition of the pose alone; where one side does something else than the other, both ways are averaged.
ARMS_UP = "Both arms are raised above the head and straight"
FIGURES_HELD_OUT_POSES = {
    "doing jumping jacks": (
        f"{ARMS_UP}; the torso is upright; the feet are wide apart; both legs are straight.",
    ),
    "kneeling with both arms raised": (
        f"{ARMS_UP}; the torso is upright; both knees are bent; the body is kneeling.",
    ),
    "waving from a chair": (
        "The right arm is raised above the head; the left arm is hanging down; the torso is upright; "
        "both knees are bent; the hips are as low as the knees.",
        "The left arm is raised above the head; the right arm is hanging down; the torso is upright; "
        "both knees are bent; the hips are as low as the knees.",
    ),
    "doing a lunge with the arms up": (
        f"{ARMS_UP}; the torso is upright; the right knee is bent; the feet are wide apart.",
        f"{ARMS_UP}; the torso is upright; the left knee is bent; the feet are wide apart.",
    ),
    "doing an overhead squat": (
        f"{ARMS_UP}; both knees are sharply bent; the hips are as low as the knees.",
    ),
    "doing the tree pose": (
        f"{ARMS_UP}; the torso is upright; the right knee is raised; the left leg is straight.",
        f"{ARMS_UP}; the torso is upright; the left knee is raised; the right leg is straight.",
    ),
    "doing a cartwheel": (
        "Both arms are stretched out past the head; both legs are straight; the feet are wide apart; "
        "the body is upside down.",
    ),
    "preparing to dive": (
        "Both arms are stretched out past the head; both legs are straight; "
        "the body is bent over at the hips.",
    ),
}

FIGURES = Task(
    name="figures",
    dataset="figures",
    kind="activity",
    classes=FIGURES_TRAINED,
    **_sets(_texts(("One person is {}.",), FIGURES_TRAINED), _texts(FIGURES_TEMPLATES, FIGURES_TRAINED)),
    k=1,
    split="test",
    source="the embedded procedural people, trained activities",
    synthetic=True,
)

FIGURES_HELD_OUT = Task(
    name="figures_held_out",
    dataset="figures",
    kind="activity",
    classes=tuple(FIGURES_HELD_OUT_POSES),
    # Descriptions already, of every way to do it: an ensemble has nothing to add.
    **_sets(tuple(FIGURES_HELD_OUT_POSES.values()), tuple(FIGURES_HELD_OUT_POSES.values())),
    k=1,
    split="test",
    source="the embedded procedural people, held-out activities by pose description",
    synthetic=True,
)

TASKS = {
    task.name: task
    for task in (
        FIGURES,
        FIGURES_HELD_OUT,
        STANFORD40,
        KINETICS400,
        EMOTIC_AGE,
        LAGENDA_BODY,
        LAGENDA_FACE,
        UTKFACE_AGE,
        EMOTIC_EMOTION,
        EMOTIC_EMOTION_MAP,
        FER2013,
        FERPLUS,
        EMOTIC_AGE_TRAIN,
        EMOTIC_EMOTION_TRAIN,
        FER2013_TRAIN,
        FAIRFACE_RACE,
        UTKFACE_RACE,
    )
}


def by_name(name: str) -> Task:
    """Raises `UserError` with the names that exist."""
    if name not in TASKS:
        raise UserError(f"no task is named {name!r}; expected one of {', '.join(TASKS)}")
    return TASKS[name]


def class_names() -> list[str]:
    """The classes of all tasks: what `training_text.collect` should look for in the training captions."""
    return sorted({name for task in TASKS.values() for name in task.classes})
