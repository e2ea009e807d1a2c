"""A whole page: one file that a browser shows from a server or from a disk, without asking anyone else."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from pathlib import Path

from pages.markup import Markup, element

STYLE = (Path(__file__).parent / "style.css").read_text("utf-8")


@dataclasses.dataclass(frozen=True)
class Document:
    """A page and the Content-Security-Policy it is to be served with.

    The policy also stands in the page, for a page that is opened from a disk.
    """

    html: str
    policy: str


def document(title: str, *body: object, style: str = "", script: str = "") -> Document:
    """A page from the elements of its body.

    title: text. style, script: CSS and JavaScript of the project itself, trusted, added to the common style.
    Nothing that is data may be part of them. They are the only ones that the policy lets the browser apply:
    an element that slipped in with the data would do nothing.
    """
    style = STYLE + style
    if "</" in style + script:
        raise ValueError("a style or script must not hold a closing tag")
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src 'self' data:",
            f"style-src {_digest(style)}",
            *((f"script-src {_digest(script)}", "connect-src 'self'") if script else ()),
            "form-action 'self'",
            "base-uri 'none'",
        )
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # Without it a browser asks the server, or the disk, for favicon.ico.
        Markup('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Markup(style)),
    )
    scripts = element("script", Markup(script)) if script else None
    page = element("html", head, element("body", *body, scripts), lang="en")
    return Document(f"<!doctype html>\n{page}\n", policy)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
