"""The page on a phone, without eyes, in the dark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.conftest import opened
from support.page import at, choose, finished, png

__all__ = ["png"]  # a fixture


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    yield from opened(context, address)
    context.close()


def test_a_phone_shows_all_of_it(phone: Page, png: bytes) -> None:
    choose(phone, png)
    finished(phone)
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = phone.locator("#frame").bounding_box()
    assert box is not None
    phone.touchscreen.tap(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    assert at(phone.locator("#divider")) == pytest.approx(80, abs=2)
    heights = phone.locator("button:visible, a.button:visible").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 40  # for a thumb


def test_everything_has_a_name_for_those_who_do_not_see_it(page: Page, png: bytes) -> None:
    choose(page, png)
    finished(page)
    nameless = page.locator("button:visible, a:visible, input:not([hidden]), [role=slider]").evaluate_all(
        """all => all.filter(one => !(one.textContent.trim() || one.getAttribute("aria-label")
                                      || one.labels?.length)).map(one => one.outerHTML)"""
    )
    assert nameless == []
    expect(page.get_by_role("status")).to_have_text(
        f"Done: {page.locator('#bytes').inner_text()} bytes, {page.locator('#bpp').inner_text()}."
    )
    expect(page.locator("#left")).to_have_attribute("alt", "Original: photo one.png")
    assert (page.locator("#right").get_attribute("alt") or "").startswith("rdeic: ")


def test_dark_and_still_are_respected(browser: Browser, address: str) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
        for page in opened(context, address):
            colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            moving = page.evaluate("getComputedStyle(document.querySelector('#example')).transitionDuration")
            assert moving == "0s"
        context.close()
    assert len(colours) == 2
