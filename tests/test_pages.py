import base64
import hashlib
import html.parser
import re

import pytest

from pages.document import document
from pages.markup import Markup, element, escape, join

HOSTILE = """</script><script>x()</script><img src=x onerror="x()"> ' " & \u202e \x00 \ud800"""


class Reader(html.parser.HTMLParser):
    """The tags, attributes and text of a page, as a parser that is not ours sees them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_text_stays_text_in_content_and_in_attributes():
    page = Reader(element("p", HOSTILE, title=HOSTILE, data_name=HOSTILE))
    assert page.tags == ["p"]
    shown = HOSTILE.replace("\ud800", "?")
    assert page.text == shown
    assert page.attributes == [("title", shown), ("data-name", shown)]


def test_a_page_can_always_be_encoded():
    document(HOSTILE, element("p", HOSTILE)).html.encode("utf-8")


def test_only_markup_is_taken_as_it_stands():
    assert element("p", element("b", "<")) == "<p><b>&lt;</b></p>"
    assert join(["<", Markup("<br>")], " & ") == "&lt; &amp; <br>"
    assert escape(3) == "3"
    assert type(Markup("<i>") + "<b>") is str, "a sum of markup and text must not pass as markup"


def test_attributes_that_say_nothing_are_left_out():
    assert element("input", value=None, checked=True, disabled=False, class_="a", data_n=0) == (
        '<input checked class="a" data-n="0">'
    )


@pytest.mark.parametrize(
    "address",
    [
        *("http://other.example/", "//other.example/", "/\\other.example", "\\\\other.example", "https:x"),
        *("javascript:x()", "data:text/html,x", "/\t/other.example", " //other.example", "java\nscript:x()"),
    ],
)
def test_a_link_elsewhere_cannot_be_made(address):
    for name in ("href", "src", "action"):
        with pytest.raises(ValueError, match="not a relative address"):
            element("a", **{name: address})


@pytest.mark.parametrize(
    "address", ["", "/", "a/b.html", "../b", "?text=a%3Ab:c", "/?q=http://x", "#part", "/a?b#c"]
)
def test_relative_addresses_are_taken(address):
    assert Reader(element("a", href=address)).attributes == [("href", address)]


def test_the_name_of_an_attribute_is_not_data():
    with pytest.raises(ValueError, match="not the name"):
        element("p", **{"onclick=x() a": "1"})


def test_the_policy_allows_the_styles_and_scripts_of_the_page_and_nothing_else():
    page = document("title", element("p", "text"), style=".a { color: red }", script="let a = 1 < 2;")
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none'")
    assert "unsafe" not in page.policy
    assert ("content", page.policy) in Reader(page.html).attributes


def test_a_page_without_a_script_allows_none():
    page = document("title")
    assert "script" not in page.policy
    assert "connect-src" not in page.policy


def test_data_cannot_close_the_style_or_the_script():
    for where in ("style", "script"):
        with pytest.raises(ValueError, match="closing tag"):
            document("title", **{where: "</script><script>"})
