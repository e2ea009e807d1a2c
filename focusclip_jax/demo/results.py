"""The answers as HTML. Labels, names and complaints are text of others: `pages.markup` escapes everything."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image

from focusclip_jax.demo.answers import Answer, Answers, Look, People
from pages.markup import Markup, element, picture

MOST = 12  # labels that a ranking shows


def html(answers: Answers) -> Markup:
    """A column for each model, the same things side by side; the people last, where joints are given."""
    runs = answers.of_runs
    parts = [_row("Labels", "how well each fits, if one of them does", [_ranking(run) for run in runs])]
    area = answers.people.area if answers.people else None
    rollouts = [_figure(run, run.rollout, "Attention rollout", area) for run in runs]
    gradients = [_figure(run, run.gradient, "Gradient × attention", area) for run in runs]
    if len(runs) == 1:
        where = f"left: its attention; right: what speaks for “{answers.text}”"
        parts.append(_row("Where it looks", where, [*rollouts, *gradients]))
    else:
        parts.append(_row("Attention", "what flows from the patches into the embedding", rollouts))
        parts.append(_row("Gradient", f"what speaks for “{answers.text}”", gradients))
    if answers.people:
        parts.append(_row("The people", "as their joints draw them", _people(answers.people)))
    scale = element("span", "least", element("i", "", class_="scale", aria_hidden="true"), "most")
    note = (
        "Each map is stretched from its own least to its own most, so two maps can be compared in their "
        "places, not in their strength. A map shows where a model draws from, not why."
    )
    return element("div", *parts, element("p", scale, " ", note, class_="note"), class_="answers")


def heading(names: Sequence[str]) -> Markup:
    """The top of the page."""
    runs = [element("b", name) for name in names]
    said = element("p", "Asking ", *([runs[0]] if len(runs) == 1 else [runs[0], " beside ", runs[1]]), ".")
    return element("header", element("h1", "Where does it look?"), said)


def complaint(sentence: str) -> Markup:
    """What could not be done."""
    return element("div", element("p", sentence), class_="answers complaint", role="alert")


def waiting() -> Markup:
    """Before anything was asked."""
    return element(
        "div",
        element("p", "Drop a photo, type some labels, and press Look. Nothing of it leaves this machine."),
        class_="answers empty",
    )


def _row(title: str, subtitle: str, cells: Sequence[Markup]) -> Markup:
    heading = element("h3", title, " ", element("small", subtitle))
    return element("section", heading, element("div", *cells, class_=f"cells of-{len(cells)}"))


def _ranking(answer: Answer) -> Markup:
    rows = [
        element(
            "li",
            element("span", label, class_="label", dir="auto"),
            element("span", f"{100 * probability:.1f} %", class_="percent"),
            element(
                "span",
                element("i", "", style=f"width: {100 * probability:.1f}%"),
                class_="bar",
                aria_hidden="true",
            ),
        )
        for label, probability in answer.ranked[:MOST]
    ]
    left = len(answer.ranked) - MOST
    more = element("p", f"and {left} less likely ones", class_="more") if left > 0 else None
    about = element("p", answer.run.about, class_="about")
    return element("div", element("h4", answer.run.name), about, element("ol", *rows), more, class_="ranking")


def _figure(answer: Answer, look: Look, title: str, area: float | None) -> Markup:
    said = ""
    if area is not None and look.inside is not None:
        said = f"{100 * look.inside:.0f} % on the people, who are {100 * area:.0f} % of the area"
    caption = element("figcaption", element("b", answer.run.name), element("span", said) if said else None)
    return element("figure", _jpeg(look.picture, f"{title} of {answer.run.name} over the photo"), caption)


def _people(people: People) -> list[Markup]:
    named = (
        (people.skeletons, "joints", "orange: own right, blue: own left"),
        (people.heatmap, "heatmap", "of ten body parts, as the paper draws it"),
    )
    return [
        element(
            "figure",
            _jpeg(pixels, f"The photo with its {name}"),
            element("figcaption", element("b", name), element("span", said)),
        )
        for pixels, name, said in named
    ]


def _jpeg(pixels: np.ndarray, alt: str) -> Markup:
    content = io.BytesIO()
    PIL.Image.fromarray(pixels).save(content, "JPEG", quality=88)
    return picture(content.getvalue(), "image/jpeg", alt)
