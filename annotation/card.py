"""The data card of exported captions: README.md in the form that the Hugging Face hub shows."""

from __future__ import annotations

import json
from typing import Any

# How a model's name begins → what its output may be used for, in short; the terms themselves decide.
_TERMS = {
    "geometry": "written by the rules of this project, without a language model: no terms of a third party",
    "gpt-": "OpenAI's terms of use: its output may not be used to develop models that compete with OpenAI's",
    "llama-2": "Llama 2 Community License: its output may not be used to improve other large language models",
}
_OTHER = "the terms of whoever provides the model: look them up"

_BODY = """\
# {title}

Descriptions of people's poses, written from annotated joints and a label of the activity.
The photographs are **not** part of this data set; `image` names a file of the data set that was annotated.
MPII's photographs, for one, are for research only and come from its own site.

## What it holds

{counts}

Words are separated by white space.

## Who wrote the captions

{writers}

`provenance.json` says the same for programs. Version and wording of the prompt, and all that shapes an
answer, are among the parameters.

## Fields

One row per image and caption.

| field | meaning |
|---|---|
| `image` | file name of the photograph |
| `video_id`, `video_frame`, `activity_id` | MPII's numbers, null elsewhere; JSON only |
| `activity` | category and activity, with a comma between |
| `category` | "" where unknown |
| `count` | how many people are annotated |
| `people` | `id`; `center`, pixels; `scale`, height / 200 pixels; `kpts`, 16 joints as [x, y], pixels \
counted from 1, [-1, -1] where missing; `kpts_vis`, 0 where missing |
| `description` | the caption |
| `model` | who wrote it; Parquet only, in JSON the folder says it |
| `width`, `height` | of the photograph, null where unknown; JSON only |
| `people_complete` | whether everybody in the photograph is annotated; JSON only |
| `visibility`, `occluded` of a person | 0 missing, 1 derived from other joints, 2 labelled; 1 where hidden; \
JSON only |

The joints are, in this order: right ankle, right knee, right hip, left hip, left knee, left ankle, pelvis,
thorax, upper neck, head top, right wrist, right elbow, right shoulder, left shoulder, left elbow, left
wrist. Left and right are the person's own.

## What to know before using it

- The writers saw joints and the activity, never a pixel. Objects, surroundings, looks and moods in a caption
  are inferred from the activity, or invented.
- Left and right are the person's own, not the viewer's.
- Captions repeat the errors of the annotation: a joint that is missing there is missing here, and people who
  were not annotated are not counted.
- For research. Not for decisions about people: not for hiring, education, health, identification or
  surveillance.

## Terms

{terms}

The joints keep the terms of the data set they come from.
"""


def text(title: str, provenance: dict[str, Any]) -> str:
    """The card of a data set called `title`. provenance: {split: its entry}, as `publish.export` makes it."""
    models = sorted({model for entry in provenance.values() for model in entry["models"]})
    captions = sum(of["captions"] for entry in provenance.values() for of in entry["models"].values())
    return _front_matter(title, provenance, models, captions) + _BODY.format(
        title=title,
        counts=_counts(provenance),
        writers=_writers(provenance, models),
        terms="\n".join(f"- `{model}`: {_terms(model)}." for model in models),
    )


def _front_matter(title: str, provenance: dict[str, Any], models: list[str], captions: int) -> str:
    lines = [
        "---",
        f"pretty_name: {json.dumps(title)}",
        "language:\n- en",
        "license: other",
        "license_name: see-terms-below",
        f"size_categories:\n- {_size(captions)}",
        "task_categories:\n- image-to-text\n- zero-shot-classification",
        "tags:\n- human-pose\n- keypoints\n- synthetic-captions",
        "configs:",
    ]
    # All configurations of a data set on the hub share one file format: Parquet where it is there.
    if any(name.endswith(".parquet") for entry in provenance.values() for name in entry["files"]):
        configs = {"default": "parquet/{}.parquet"}
    else:
        configs = {model.replace("/", "--"): f"{model}/{{}}.json" for model in models}
    for config, pattern in configs.items():
        there = [
            split for split, entry in sorted(provenance.items()) if pattern.format(split) in entry["files"]
        ]
        if there:
            lines += [f"- config_name: {json.dumps(config)}", "  data_files:"]
        for split in there:
            name = "validation" if split == "val" else split
            lines += [f"  - split: {name}", f"    path: {json.dumps(pattern.format(split))}"]
    return "\n".join([*lines, "---", "", ""])


def _size(captions: int) -> str:
    """The hub's category for a number of rows."""
    for limit, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if captions < limit:
            return name
    return "n>1M"


def _counts(provenance: dict[str, Any]) -> str:
    lines = ["| split | model | images | captions | words: least, mean, most |", "|---|---|---|---|---|"]
    for split, entry in sorted(provenance.items()):
        for model, of in sorted(entry["models"].items()):
            words = of["words"]
            lines.append(
                f"| {split} | {_cell(model)} | {of['images']:,} | {of['captions']:,} "
                f"| {words['least']}, {words['mean']}, {words['most']} |"
            )
    return "\n".join(lines)


def _writers(provenance: dict[str, Any], models: list[str]) -> str:
    lines = ["| model | describer | version | parameters | answered as |", "|---|---|---|---|---|"]
    for model in models:
        writers = []
        for entry in provenance.values():
            for writer in entry["models"].get(model, {}).get("written_by", ()):
                if writer not in writers:
                    writers.append(writer)
        for writer in writers:
            params = json.dumps(writer["params"], ensure_ascii=False, sort_keys=True)
            cells = (writer["version"], params, writer.get("returned_model", ""))
            lines.append(
                f"| {_cell(model)} | {writer['describer']} | {' | '.join(_cell(cell) for cell in cells)} |"
            )
        if not writers:
            lines.append(f"| {_cell(model)} | imported from a release that does not say | | | |")
    return "\n".join(lines)


def _cell(value: str) -> str:
    """Text as code in a Markdown table, whatever it holds."""
    clean = " ".join(value.replace("|", "\\|").replace("`", "'").split())
    return f"`{clean}`" if clean else ""


def _terms(model: str) -> str:
    return next((terms for start, terms in _TERMS.items() if model.startswith(start)), _OTHER)
