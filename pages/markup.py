"""HTML and SVG from Python values. What is not `Markup` already is text, and is escaped."""

from __future__ import annotations

import base64
import html
import re

_VOID = {"br", "hr", "img", "input", "link", "meta"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
# Attributes that a browser follows. A relative address has no colon before its first / ? or #.
_ADDRESSES = {"action", "formaction", "href", "src"}
_PICTURES = {"image/jpeg", "image/png", "image/webp"}
# Without blanks and control characters, which a browser drops before it looks for "//".
_RELATIVE = re.compile(r"(?![/\\]{2})[^:/?#\\\x00-\x20]*([/?#][^\x00-\x20]*)?")


class Markup(str):
    """HTML that is safe to put into a page as it stands."""

    __slots__ = ()


def escape(text: object) -> Markup:
    """Text as HTML, in content and in quoted attributes.

    A lone surrogate, which JSON may hold and UTF-8 may not, becomes "?".
    """
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(str(text).encode("utf-8", "replace").decode()))


def join(parts, between: object = "") -> Markup:
    """Several pieces, each escaped unless it is Markup, with `between` between them."""
    return Markup(escape(between).join(map(escape, parts)))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """One element. `class_` and `for_` stand for class and for, `data_x` for data-x.

    children: Markup, or text, which is escaped; None is left out.
    attributes: text or numbers; None and False are left out, True is an attribute without a value.
    Raises ValueError for a link to another host or scheme: pages of this project make no outside request.
    """
    written = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an attribute")
        if value is None or value is False:
            continue
        if name in _ADDRESSES and not _RELATIVE.fullmatch(str(value)):
            raise ValueError(f"{name}={value!r} is not a relative address")
        written.append(name if value is True else f'{name}="{escape(value)}"')
    opening = Markup(f"<{' '.join(written)}>")
    if tag in _VOID:
        return opening
    return Markup(f"{opening}{join(child for child in children if child is not None)}</{tag}>")


def picture(content: bytes, media_type: str, alt: str, **attributes: object) -> Markup:
    """An image whose bytes are part of the page. alt: what it shows, for those who do not see it.

    Raises ValueError for a type that is not one of photographs and plots: an SVG could hold a script.
    """
    if media_type not in _PICTURES:
        raise ValueError(f"{media_type!r} is none of {', '.join(sorted(_PICTURES))}")
    rest = element("img", alt=alt, **attributes).removeprefix("<img")
    return Markup(f'<img src="data:{media_type};base64,{base64.b64encode(content).decode()}"{rest}')
