import base64
import hashlib
import html.parser
import re

import pytest

from pages import chart
from pages.document import document
from pages.markup import Markup, element, escape, join, picture

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


def test_a_picture_is_inside_the_page_and_is_no_drawing_that_could_hold_a_script():
    image = Reader(picture(b"\x89PNG", "image/png", HOSTILE, width=3))
    assert image.tags == ["img"]
    source, *rest = image.attributes
    assert base64.b64decode(source[1].removeprefix("data:image/png;base64,")) == b"\x89PNG"
    assert rest == [("alt", HOSTILE.replace("\ud800", "?")), ("width", "3")]
    for media_type in ("image/svg+xml", "text/html", 'image/png" onload="x()'):
        with pytest.raises(ValueError, match="is none of"):
            picture(b"", media_type, "")


def points_of(markup):
    """(x, y, tooltip) of every point of a chart."""
    found = re.findall(r'<circle cx="([^"]*)" cy="([^"]*)" r="2.2"><title>(.*?)</title>', markup)
    return [(float(x), float(y), title) for x, y, title in found]


def test_every_point_of_a_chart_says_its_value_and_higher_values_are_higher():
    lines = [
        chart.Line("a", [(10, 0.5), (20, 1500), (40, 2e-7)], 1, level=700),
        chart.Line(HOSTILE, [(20, -3)], 2),
    ]
    drawn = chart.line_chart(HOSTILE, lines, HOSTILE)
    assert "script" not in Reader(drawn).tags
    points = points_of(drawn)
    assert [title for *_, title in points] == [
        "step 10: 0.5",
        "step 20: 1,500",
        "step 40: 2e-07",
        "step 20: -3",
    ]
    (x10, y_half, _), (x20, y_most, _), (x40, y_0, _), (also_x20, y_least, _) = points
    assert x20 == also_x20
    assert (x40 - x20) == pytest.approx(2 * (x20 - x10), abs=0.2)
    assert y_most < y_half <= y_0 < y_least
    legend = re.findall(r"<output[^>]*>(.*?)</output>", drawn)
    assert legend == ["2e-07", "-3"]


def test_a_long_line_keeps_its_ends_and_extremes_and_says_what_is_not_drawn():
    values = [(n, n % 7 + (100 if n == 4321 else 0) - (100 if n == 1234 else 0)) for n in range(10_000)]
    kept = chart.thinned(values)
    assert len(kept) <= chart.MOST
    assert {values[0], values[-1], values[4321], values[1234]} <= set(kept)
    assert kept == sorted(set(kept))
    drawn = chart.line_chart("t", [chart.Line("a", values, 1)])
    assert f"{10_000 - len(points_of(drawn)):,} points between the extremes are not drawn" in drawn


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3, 12345), (0.07, 0.0704), (5, 5), (0, 0), (-2, -2), (1e-9, 3e-9), (400, 400)]
)
def test_ticks_are_few_round_and_around_all_values(low, high):
    found = chart.ticks(low, high, 4)
    assert found[0] <= low <= high <= found[-1]
    assert 2 <= len(found) <= 7
    assert found == sorted(set(found))
    assert all(len(re.sub(r"e.*|[-.0]", "", f"{tick:.12g}")) <= 4 for tick in found)


def test_an_interval_lies_where_its_numbers_are():
    drawn = chart.interval_bar(30, (20, 45), {"chance": 10, "constant": 60}, 60)
    assert "30 [20, 45], chance 10, constant 60" in drawn
    numbers = {name: float(value) for name, value in re.findall(r' (cx|x1|x2)="([^"]*)"', drawn)}
    width = chart.BAR - 4
    assert numbers["cx"] == pytest.approx(2 + width / 2, abs=0.1)
    assert numbers["x1"] == pytest.approx(2 + width / 3, abs=0.1)
    assert numbers["x2"] == pytest.approx(2 + width * 45 / 60, abs=0.1)
