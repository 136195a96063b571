"""The documentation in a browser: from files, without a server and without a network."""

from __future__ import annotations

import pytest

from tests.browser.conftest import new_page

LOOKED_AT = ("index", "start", "magics", "views", "architecture", "troubleshooting", "coming-from")


@pytest.fixture(params=["light", "dark"])
def phone(browser, request):
    page = new_page(browser)
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme=request.param)
    yield page
    assert page.abroad == []
    page.context.close()


def test_on_a_phone_no_page_is_wider_than_the_screen(phone, site):
    for name in LOOKED_AT:
        phone.goto((site / f"{name}.html").as_uri())
        phone.wait_for_load_state()
        width = phone.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{name} is {width} wide"


def test_a_picture_stands_there_once_in_the_colours_of_the_page(phone, site, request):
    phone.goto((site / "views.html").as_uri())
    theme = phone.evaluate("document.documentElement.dataset.theme")
    other = {"light": "dark", "dark": "light"}[theme]
    assert phone.locator(f"img.only-{theme}").first.is_visible()
    assert not phone.locator(f"img.only-{other}").first.is_visible()


def test_search_finds_a_page_without_a_server(browser, site):
    page = new_page(browser)
    page.goto((site / "search.html").as_uri() + "?q=softcap")
    page.locator("#search-results li a").first.wait_for()
    found = page.locator("#search-results li a").all_inner_texts()
    assert any("lens" in each.lower() or "analyses" in each.lower() for each in found), found
    assert page.abroad == []
    page.context.close()
