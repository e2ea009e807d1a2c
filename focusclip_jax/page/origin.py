"""How fast the run went, how it was set, and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from focusclip_jax import config as configs
from focusclip_jax.page.layout import columns, facts_table, folded
from focusclip_jax.page.record import Record, speed
from pages import chart
from pages.markup import Markup, element


def throughput(records: Sequence[Record]) -> list[Markup]:
    speeds = [speed(record) for record in records]
    if not any(speeds):
        return []

    def row(name: str, value) -> tuple[str, list[str]]:
        return name, [value(s, r) if s else "–" for s, r in zip(speeds, records, strict=True)]

    def per_device(speed: dict[str, float], record: Record) -> str:
        return chart.number(speed["images_per_second"] / max(1, len(record.about.get("devices", ()))))

    facts = [
        row("images per second", lambda s, _: chart.number(s["images_per_second"])),
        row("images per second and device", per_device),
        row("seconds per step", lambda s, _: chart.number(s["step_seconds"])),
        row("waiting for data", lambda s, _: f"{100 * s['data_wait']:.1f} % of the time"),
        row("model operations per second and device", _operations),
        row("memory at most", _memory),
        row("time in steps, compilation included", lambda s, _: _duration(s["taken"])),
        row("devices", lambda _, r: r.devices or "–"),
        row("batch", lambda _, r: f"{r.config['batch_size']:,} images" if r.config else "–"),
    ]
    note = (
        "Medians over the rows of metrics.jsonl but the first, whose time holds the compilation. Evaluation "
        "and checkpoints are not in them. The second view of an image is not counted as another image."
    )
    return [facts_table(records, facts, mark=False), element("p", note, class_="faint small")]


def _operations(speed: dict[str, float], record: Record) -> str:
    """With what they are counted from, as run.json states it."""
    if "teraflops_per_second_per_chip" not in speed:
        return "–"
    rate = f"{chart.number(speed['teraflops_per_second_per_chip'])} TFLOP/s"
    about = record.about.get("flops", {})
    if "mfu" in speed:
        rate += f", {100 * speed['mfu']:.1f} % of the dense bfloat16 peak of a {about.get('chip', 'chip')}"
    if about:
        lengths = ", ".join(map(str, about.get("per_step", {})))
        rate += (
            f"; texts of {lengths} tokens, {about.get('image_encodes')} image and "
            f"{about.get('text_encodes')} text encodes an example"
        )
    return rate


def _memory(speed: dict[str, float], _: Record) -> str:
    if "device_memory_gib" in speed:
        return f"{speed['device_memory_gib']:.2f} GiB on the fullest device"
    return f"{speed['host_memory_gib']:.2f} GiB of the host" if "host_memory_gib" in speed else "–"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def settings(records: Sequence[Record]) -> list[Markup]:
    """What differs between the runs, then what differs from the defaults, then everything, folded."""
    if not any(record.config for record in records):
        return [element("p", "No config.json is here.", class_="faint")]
    defaults = dict(configs.leaves(configs.recorded(configs.default())))
    names = list(dict.fromkeys([*defaults, *(name for record in records for name in record.config)]))

    def shown(settings: dict[str, Any], name: str) -> str:
        return json.dumps(settings[name], ensure_ascii=False) if name in settings else "–"

    rows = [
        (name, [shown(defaults, name), *(shown(record.config, name) for record in records)])
        for name in sorted(names)
    ]
    changed = [(name, values) for name, values in rows if set(values[1:]) != {values[0]}]
    changed.sort(key=lambda row: len(set(row[1][1:])) == 1)
    parts = []
    if len(records) > 1:
        differing = sum(len(set(values[1:])) > 1 for _, values in rows)
        about = (
            f"{differing} of {len(rows)} settings differ between the runs: the first rows, marked ≠. Below "
            "them those that differ from their defaults."
        )
        parts.append(element("p", about, class_="faint small"))
    else:
        about = f"{len(changed)} of {len(rows)} settings differ from their defaults."
        parts.append(element("p", about, class_="faint small"))
    first = ("setting", "default")
    parts.append(facts_table(records, changed, first=first))
    parts.append(folded(f"all {len(rows)} settings", facts_table(records, rows, first=first)))
    return parts


def provenance(records: Sequence[Record]) -> list[Markup]:
    """Where the numbers come from: data, code, versions, devices."""
    abouts = [record.about for record in records]
    packages = dict.fromkeys(name for about in abouts for name in about.get("packages", {}))
    facts = [
        ("folder", [str(record.folder) for record in records]),
        ("training shards", [record.config.get("data.train") or "–" for record in records]),
        ("fingerprint of the shards", [about.get("shards") or "–" for about in abouts]),
        ("hash of the tokenizer", [about.get("tokenizer") or "–" for about in abouts]),
        ("imported from", [_imported(about) for about in abouts]),
        ("seed", [about.get("seed", "–") for about in abouts]),
        ("commit", [_commit(about) for about in abouts]),
        ("started", [about.get("started", "–") for about in abouts]),
        ("devices", [record.devices or "–" for record in records]),
        ("processes", [about.get("processes", "–") for about in abouts]),
        ("Python", [about.get("python", "–") for about in abouts]),
        *((name, [about.get("packages", {}).get(name, "–") for about in abouts]) for name in packages),
    ]
    facts = [(name, values) for name, values in facts if set(values) != {"–"}]
    parts = [facts_table(records, facts)]
    if any(record.parameters for record in records):
        texts = [element("pre", record.parameters) for record in records]
        parts.append(
            folded("parameters: shapes and how they are split over devices", columns(records, texts))
        )
    return parts


def _imported(about: dict[str, Any]) -> str:
    imported = about.get("imported")
    if not imported:
        return "–"
    commit = imported.get("commit")
    return f"{imported.get('source')}{f' at {commit}' if commit else ''}"


def _commit(about: dict[str, Any]) -> str:
    commit = about.get("commit") or "–"
    return f"{commit}, with changes that were not committed" if about.get("dirty") else commit
