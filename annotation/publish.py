"""A journal's captions as a data set to share, in the layout of the released MPII Pose Descriptions.

    MODEL/SPLIT.json        what `annotation.sources.captions` reads, one file per model and split
    parquet/SPLIT.parquet   the same of all models (`parquet_schema`)
    README.md               the data card, in the form that the Hugging Face hub shows
    provenance.json         who wrote the captions: describer, version, parameters; written last

A model is a caption's source, "gpt-4.1-mini/paper", and the folders follow its path. Photographs are never
part of it. The same journal gives the same bytes, and so does a journal that was imported from them.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import statistics
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from annotation import card, files, journal, parts, prompts, records, schema
from annotation.errors import UserError

PROVENANCE, CARD, IMPORTED = "provenance.json", "README.md", "imported.json"
ROWS_PER_GROUP = 1000  # of the Parquet file; as many are in memory

# What the released files hold besides image and people, and where MPII's own annotations say it.
_MPII_FIELDS = {"video_id": "vididx", "video_frame": "frame_sec", "activity_id": "act_id"}


@dataclasses.dataclass(frozen=True)
class Published:
    """One image and its captions: (model, text)."""

    record: records.ImageRecord
    captions: list[tuple[str, str]]


# ---------------------------------------------------------------------------------------------- export


def export(
    directory: Path, out: Path, split: str, formats: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Write the journal of `directory` as the split `split` of `out`; returns its entry of provenance.json.

    formats: "released", "parquet" or both. say: receives what the user should know. Other splits of `out`
    stay as they are. Raises UserError where a file of this split is there already: nothing is overwritten.
    """
    images: list[Published] = []
    written_by: dict[str, list[Any]] = {}
    for folder in parts.journals(directory):
        images += _read(folder, written_by)
    described = [image for image in images if image.captions]
    if not described:
        raise UserError(f"{directory}: no caption to export")
    if bare := len(images) - len(described):
        say(f"left out {bare} of {len(images)} images, which have no caption yet")
    images = described
    models = sorted({model for image in images for model, _ in image.captions})
    _refuse_unsafe(models)
    names = [f"{model}/{split}.json" for model in models if "released" in formats]
    names += [f"parquet/{split}.parquet"] if "parquet" in formats else []
    entry = {
        "files": names,
        "images": len(images),
        "models": {model: _summary(images, model) | {"written_by": written_by[model]} for model in models},
    }
    partial = out / ".partial"
    with files.exclusive(partial):  # and not OUT itself, where the lock would be published, too
        try:
            provenance = read_provenance(out)
            _refuse_existing(out, split, names, provenance)
            for name in names:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                if name.endswith(".parquet"):
                    _write_parquet(images, models, partial / name)
                else:
                    _write_json(images, name.removesuffix(f"/{split}.json"), partial / name)
            for name in names:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial / name, out / name)
            provenance[split] = entry
            with files.replacing(out / CARD) as file:
                file.write(card.text(out.resolve().name, provenance))
            with files.replacing(out / PROVENANCE) as file:
                json.dump(provenance, file, indent=1, sort_keys=True, ensure_ascii=False)
        finally:
            shutil.rmtree(partial)
    return entry


def read_provenance(folder: Path) -> dict[str, Any]:
    """{split: its entry} of an exported data set; {} for any other folder."""
    path = folder / PROVENANCE
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
        for entry in found.values():
            for of in entry["models"].values():
                of["written_by"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not what `annotate export` wrote ({error!r}); delete or restore it"
        ) from None
    return found


def _read(folder: Path, written_by: dict[str, list[Any]]) -> Iterator[Published]:
    """The images of one journal; `written_by` collects, for each model, who wrote its captions."""
    rows = journal.accepted(folder)
    imported = _imported(folder)
    for record in journal.read_records(folder):
        captions = []
        for row in rows.get(journal.input_hash(record), ()):
            for caption in row["captions"]:
                model = caption["source"]
                captions.append((model, caption["text"]))
                known = written_by.setdefault(model, [])
                for writer in imported.get(model, []) if row["describer"] == "imported" else [_writer(row)]:
                    if writer not in known:
                        known.append(writer)
        yield Published(record, captions)


def keep_writers(folder: Path, written_by: dict[str, list[Any]]) -> None:
    """Put down in a journal's folder who wrote captions that were imported into it, for its next export."""
    with files.replacing(folder / IMPORTED) as file:
        json.dump(_imported(folder) | written_by, file)


def _imported(folder: Path) -> dict[str, list[Any]]:
    path = folder / IMPORTED
    return json.loads(path.read_bytes()) if path.exists() else {}


def _writer(row: dict[str, Any]) -> dict[str, Any]:
    """Who wrote a row's captions. Of a service's address only the host is published, not who may use it."""
    params = dict(row["params"])
    if "base_url" in params:
        url = urllib.parse.urlsplit(params["base_url"])
        params["base_url"] = f"{url.scheme}://{url.hostname}"
    answer = row.get("answer") or {}
    return {
        "describer": row["describer"],
        "version": row["version"],
        "params": params,
        # Of a service: the model that says it answered, the parameters sent, the hash of the prompt's text.
        **{name: answer[name] for name in ("returned_model", "sent", "prompt") if answer.get(name)},
    }


def _refuse_unsafe(models: list[str]) -> None:
    for model in models:
        path = PurePosixPath(model)
        if path.is_absolute() or ".." in path.parts or str(path) != model or path.parts[0] == "parquet":
            raise UserError(f"captions of {model!r}: not a name that a folder can have")


def _refuse_existing(out: Path, split: str, names: list[str], provenance: dict[str, Any]) -> None:
    there = [out / name for name in names if (out / name).exists()]
    if split in provenance:
        there.append(out / PROVENANCE)
    elif not provenance and (out / CARD).exists():
        there.append(out / CARD)
    if there:
        raise UserError(
            f"{there[0]}: there already, and export overwrites nothing; choose another --out"
            + (f" (it holds the split {split})" if split in provenance else "")
        )


def _summary(images: list[Published], model: str) -> dict[str, Any]:
    """Counts and lengths in words, of the captions of one model."""
    words = [len(text.split()) for image in images for by, text in image.captions if by == model]
    return {
        "images": sum(any(by == model for by, _ in image.captions) for image in images),
        "captions": len(words),
        "words": {
            "least": min(words),
            "mean": round(statistics.fmean(words), 1),
            "most": max(words),
        },
    }


# ------------------------------------------------------------------------------------------------ rows


def _write_json(images: list[Published], model: str, path: Path) -> None:
    rows = [row for image in images for row in _rows(image, model)]
    with files.replacing(path) as file:
        json.dump(rows, file)  # in one line, as the released files were written


def _rows(image: Published, model: str) -> list[dict[str, Any]]:
    texts = [text for by, text in image.captions if by == model]
    row = released_row(image.record) if texts else {}
    return [row | {"description": text} for text in texts]


def released_row(record: records.ImageRecord) -> dict[str, Any]:
    """The record in the released layout, its description None. Joints count from 1, as the released do.

    One that was imported gives back its fields exactly as they stood in the file.
    """
    if record.source == "captions":
        return record.extra | {"people": [person.extra for person in record.people]}
    told = prompts.content(record)
    return {
        "image": record.image_id,
        **{name: record.extra.get(mpii) for name, mpii in _MPII_FIELDS.items()},
        "activity": ", ".join(text for text in (record.category, record.activity) if text),
        "count": told["count"],
        "people": [
            _person(number, person, to_llm["center"], to_llm["scale"])
            for number, (person, to_llm) in enumerate(zip(record.people, told["people"], strict=True))
        ],
        "description": None,
        "width": record.width,
        "height": record.height,
        "people_complete": record.people_complete,
        "category": record.category,
    }


def _person(number: int, person: records.Person, center: list[float], scale: float) -> dict[str, Any]:
    visible = person.visibility != schema.MISSING
    return {
        "id": number,
        "center": center,
        "scale": scale,
        "kpts": [
            [x + 1, y + 1] if v else [-1, -1]
            for (x, y), v in zip(person.joints.tolist(), visible.tolist(), strict=True)
        ],
        "kpts_vis": visible.astype(int).tolist(),
        "visibility": person.visibility.tolist(),
        "occluded": person.occluded.astype(int).tolist(),
    }


# --------------------------------------------------------------------------------------------- Parquet


def parquet_schema() -> Any:
    """The columns of the Parquet file: one row per caption, model after model."""
    import pyarrow as pa

    numbers = pa.list_(pa.int64())
    person = pa.struct(
        {
            "id": pa.int64(),
            "center": pa.list_(pa.float64()),  # x, y, pixels counted from 1
            "scale": pa.float64(),  # height / 200 pixels
            "kpts": pa.list_(pa.list_(pa.float64())),  # 16 x [x, y], pixels counted from 1; missing: [-1, -1]
            "kpts_vis": numbers,  # 16 x 0 missing, 1 there
        }
    )
    return pa.schema(
        {
            "image": pa.string(),
            "activity": pa.string(),
            "category": pa.string(),
            "count": pa.int64(),
            "people": pa.list_(person),
            "model": pa.string(),
            "description": pa.string(),
        }
    )


def _write_parquet(images: list[Published], models: list[str], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    columns = parquet_schema()
    # The released fields that are columns; `from_pylist` passes over the others.
    rows = (
        row | {"category": image.record.category, "model": model}
        for model in models
        for image in images
        for row in _rows(image, model)
    )
    with pyarrow.parquet.ParquetWriter(path, columns, compression="zstd") as writer:
        while group := list(itertools.islice(rows, ROWS_PER_GROUP)):
            try:
                table = pa.Table.from_pylist(group, columns)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise UserError(
                    f"a field between images {group[0]['image']} and {group[-1]['image']} is not of its "
                    f"column's type ({error}); mend it, or export with --format=released"
                ) from None
            writer.write_table(table)
