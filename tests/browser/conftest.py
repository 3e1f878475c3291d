"""Chromium, driven by playwright; `make test-browser` installs both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright.sync_api")  # of rdeic[browser]
pytest.importorskip("fastapi")  # of rdeic[serve]

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support import serving

_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
PATIENCE = 600_000  # ms until a test gives up; a busy machine takes its time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("RDEIC_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no Chromium: apt-get install chromium, or name one in RDEIC_CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(tiny_folder: Path) -> Iterator[str]:
    with serving.program("--model", str(tiny_folder), "--device", "cpu") as (_, port):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The page, opened; in the end nothing may have failed in it, and nobody else may have been asked for anything."""
    yield from opened(context, address)


def opened(context: BrowserContext, address: str) -> Iterator[Page]:
    asked, failures = set[str](), list[str]()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda said: failures.append(said.text) if "Content Security" in said.text else None)
    page.goto(address)
    yield page
    assert failures == []
    assert asked <= {urlsplit(address).netloc, ""}  # blob: has none
