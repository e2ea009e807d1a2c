"""What the training captions said, kept so that a class can be called seen or unseen without the shards."""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text


@dataclasses.dataclass(frozen=True)
class TrainingText:
    """The words of all training captions and activities, and which phrases of interest occur in them.

    words: every word, lower case. A single-word name needs nothing more.
    phrases: the longer names that were asked about while the captions were at hand → do they occur? Keeping
        all word sequences instead would grow with the captions without bound.
    """

    words: frozenset[str]
    phrases: dict[str, bool]

    def mentions(self, name: str) -> bool:
        """Does the training text contain `name` as whole words in a row, within one sentence?

        "riding_a_bike" and "Riding a bike" are the same name. Raises `UserError` for a name of several known
        words that was not among the names given to `collect`.
        """
        if not self.answers([name]):
            raise UserError(
                f"the class {name!r} is newer than this model, whose captions were not searched for it; "
                "start training with the same --workdir once more, which records it"
            )
        phrase = _normalised(name)
        known = self.words.issuperset(phrase.split())
        return known and self.phrases.get(phrase, True)

    def unheard(self, texts: Iterable[str]) -> tuple[list[str], int]:
        """The distinct words of some texts that no training caption has, sorted; and how many there are."""
        words = {word for text in texts for word in _normalised(text).split()} - {"."}
        return sorted(words - self.words), len(words)

    def answers(self, names: Iterable[str]) -> bool:
        """Is it certain for each name whether the training text contains it?"""
        several = (phrase for phrase in map(_normalised, names) if " " in phrase)
        return all(p in self.phrases or not self.words.issuperset(p.split()) for p in several)


def collect(texts: Iterable[str], names: Iterable[str]) -> TrainingText:
    """Read all captions and activities once. `names`: the classes of every task that may be evaluated."""
    words = set()
    wanted = {phrase for phrase in map(_normalised, names) if " " in phrase}
    of_first_word: dict[str, list[list[str]]] = {}
    for phrase in wanted:
        of_first_word.setdefault(phrase.split()[0], []).append(phrase.split())
    found: set[str] = set()
    for text in texts:
        said = _normalised(text).split()
        words.update(said)
        for at, word in enumerate(said):
            for several in of_first_word.get(word, ()):
                if said[at : at + len(several)] == several:
                    found.add(" ".join(several))
    return TrainingText(frozenset(words - {"."}), {phrase: phrase in found for phrase in sorted(wanted)})


def write(path: Path, text: TrainingText | None) -> None:
    """text: None for an imported model, whose captions nobody here has read."""
    row = text and {"words": sorted(text.words), "phrases": text.phrases}
    write_text(path, json.dumps(row, ensure_ascii=False))


def read(path: Path) -> TrainingText | None:
    """Inverse of `write`. Raises `UserError` where the file is missing or damaged."""
    try:
        row = json.loads(path.read_text())
        return None if row is None else TrainingText(frozenset(row["words"]), dict(row["phrases"]))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; training writes it at its start") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not readable; expected the words and phrases that training wrote") from None


def _normalised(text: str) -> str:
    """Lower-case words separated by single spaces; "." stands between sentences, so no phrase crosses one."""
    return " ".join(
        "." if token in ".!?;:" else token for token in re.findall(r"[^\W_]+|[.!?;:]", text.lower())
    )
