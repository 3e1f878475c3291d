"""What a person does on the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from browser.conftest import PATIENCE
from rdeic.pictures import images

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def png(photo: images.Picture) -> bytes:
    return images.encode(photo, "png")


def choose(page: Page, content: bytes, name: str = "photo one.png") -> None:
    page.set_input_files("#file", files=[{"name": name, "mimeType": "image/png", "buffer": content}])


def finished(page: Page) -> int:
    """Waits until the picture is restored => bytes of the file."""
    expect(page.locator("#result")).to_be_visible()
    expect(page.locator("#frame:not(.stale)")).to_be_visible()
    expect(page.locator("#work")).to_be_hidden()
    return int(page.locator("#bytes").inner_text().replace(",", ""))


def at(slider: Locator) -> int:
    return int(slider.get_attribute("aria-valuenow") or "-1")
