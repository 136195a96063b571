"""The documentation as a site: it builds without a warning, its links lead somewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup

from docs.building.sequence import drawing
from nnsight_magic import errors
from nnsight_magic.magics.options import OPTIONS


@cache
def page(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    return {str(each["id"]) for each in page(path).find_all(id=True)}


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_link_inside_the_site_leads_to_a_page_and_a_place_on_it(site):
    lost = []
    for path in pages(site):
        for link in page(path).find_all("a", href=True):
            target, _, place = unquote(str(link["href"])).partition("#")
            if re.match(r"[a-z]+:", target) or link["href"] == "#":
                continue
            there = (path.parent / target).resolve() if target else path
            if not there.exists() or (place and place not in anchors(there)):
                lost.append(f"{path.relative_to(site)}: {link['href']}")
    assert lost == []


def test_nothing_of_a_page_is_fetched_from_elsewhere(site):
    """Scripts, styles, pictures and fonts: a lecture hall may have no network."""
    for path in pages(site):
        for each in page(path).find_all(["script", "img", "link", "source", "iframe"]):
            address = str(each.get("src") or each.get("href") or "")
            wanted = each.name != "link" or "stylesheet" in (each.get("rel") or [])
            assert not (wanted and address.startswith(("http:", "https:", "//"))), (path, each)
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8"), style


def test_every_error_has_a_place_on_the_page_that_explains_it(site):
    known = [
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, Exception) and not name.endswith("Warning")
    ]
    assert len(known) > 25
    explained = {each.get_text() for each in page(site / "troubleshooting.html").find_all("h3")}
    headings = {heading.rstrip("#").strip() for heading in explained}
    assert sorted(set(known) - {"NnsightError"} - headings) == []
    assert {name.lower() for name in known} - {"nnsighterror"} <= anchors(
        site / "troubleshooting.html"
    )


@pytest.mark.parametrize("magic", OPTIONS)
def test_every_magic_stands_there_with_every_option_that_its_parser_knows(site, magic):
    heading = page(site / "magics.html").find(id=f"{magic}-magic")
    assert heading is not None
    text = heading.find_parent("section").get_text() if heading.name != "section" else heading.text
    for option in OPTIONS[magic]:
        for spelling in option.spellings:
            assert spelling in text
        assert option.help in text.replace("’", "'").replace("\n", " ")


def test_every_picture_with_a_twin_is_there_in_both_colours(site):
    both = 0
    for path in pages(site):
        for picture in page(path).find_all("img", class_="only-light"):
            assert "only-dark" in picture.find_next("img")["class"]
            both += 1
    assert both >= 10


def test_a_diagram_of_another_kind_is_not_drawn_as_if_it_were_one():
    with pytest.raises(ValueError, match="alt it worked"):
        drawing("sequenceDiagram\n  participant A as one\n  alt it worked\n")


def test_a_diagram_has_every_lane_and_every_message_in_it():
    text = (
        "sequenceDiagram\n participant A as the <one>\n participant B as two (below)\n A->>B: x < y"
    )
    drawn = drawing(f"{text}\n B-->>A: back\n Note over B: a note\n A->>A: to itself")
    for said in ("the &lt;one&gt;", "two", "below", "x &lt; y", "back", "a note", "to itself"):
        assert said in drawn
    assert drawn.count("marker-end") == 3
    assert drawn.count("stroke-dasharray") == 1
