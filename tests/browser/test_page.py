"""The page in a browser, as a person uses it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

import rdeic
from browser.conftest import PATIENCE, opened
from rdeic.codec import codec
from rdeic.pictures import images
from support import serving
from support.page import at, choose, finished, png

__all__ = ["png"]  # a fixture


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()


def shown(page: Page, image: str) -> bytes:
    """The bytes of the picture file that an <img> shows."""
    # The policy of the page allows no fetch of blob: addresses, so the picture is drawn.
    script = """(image) => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        canvas.getContext("2d").drawImage(image, 0, 0);
        return canvas.toDataURL("image/png").split(",")[1];
    }"""
    return base64.b64decode(page.locator(image).evaluate(script))


def hand_over(page: Page, content: bytes, event: str) -> None:
    """Drops or pastes a file."""
    script = """([text, event]) => {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "photo.png", { type: "image/png" }));
        const made = event === "drop"
            ? new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true });
        document.body.dispatchEvent(made);
    }"""
    page.evaluate(script, [base64.b64encode(content).decode(), event])


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_that_is_handed_over_is_compressed(page: Page, png: bytes, event: str) -> None:
    hand_over(page, png, event)
    assert finished(page) > 0
    expect(page.locator("#right-tag")).to_contain_text("rdeic, ")


def test_what_is_saved_is_what_the_package_makes(page: Page, png: bytes, tiny: codec.Codec) -> None:
    choose(page, png)
    size = finished(page)
    blob = saved(page, "#save")
    assert blob == tiny.compress(png, quality=50)
    assert len(blob) == size
    picture = saved(page, "#save-picture")
    expected = tiny.decompress(blob)
    assert Image.open(io.BytesIO(picture)).tobytes() == expected.tobytes()
    assert Image.open(io.BytesIO(shown(page, "#right"))).convert("RGB").tobytes() == expected.tobytes()
    assert Image.open(io.BytesIO(shown(page, "#left"))).convert("RGB").tobytes() == images.read(png).tobytes()


def test_the_quality_slider_changes_the_size(page: Page, png: bytes) -> None:
    choose(page, png)
    before = finished(page)
    page.focus("#quality")
    page.keyboard.press("End")
    expect(page.locator("#quality-value")).to_have_text("100")
    expect(page.locator("#bytes")).not_to_have_text(f"{before:,}")
    assert finished(page) > before


def test_a_wish_in_bytes_is_kept(page: Page, png: bytes) -> None:
    choose(page, png)
    wish = finished(page) - 20
    page.get_by_role("radio", name="a size").check()
    page.fill("#wish", str(wish))
    page.keyboard.press("Tab")
    expect(page.locator("#command")).to_contain_text(f"--bytes {wish}")
    assert finished(page) <= wish
    page.fill("#wish", "3")
    page.keyboard.press("Tab")
    expect(page.get_by_role("alert")).to_contain_text("too few for this picture")


def test_detail_and_steps_restore_again(page: Page, png: bytes, tiny: codec.Codec) -> None:
    choose(page, png)
    finished(page)
    page.focus("#detail")
    page.keyboard.press("Home")
    page.focus("#steps")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#command")).to_contain_text("--detail 0 --steps 3")
    finished(page)
    expected = tiny.decompress(saved(page, "#save"), 0, 3)
    assert Image.open(io.BytesIO(saved(page, "#save-picture"))).tobytes() == expected.tobytes()


def test_the_divider_follows_the_mouse(page: Page, png: bytes) -> None:
    choose(page, png)
    finished(page)
    box = page.locator("#frame").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60, steps=4)
    assert at(page.locator("#divider")) == pytest.approx(25, abs=1)
    page.mouse.move(box["x"] - 500, box["y"] + 60)
    assert at(page.locator("#divider")) == 0
    page.mouse.up()
    page.mouse.move(box["x"] + 90, box["y"] + 60)
    assert at(page.locator("#divider")) == 0
    knob = page.locator("#divider .line").bounding_box()
    assert knob is not None and knob["x"] == pytest.approx(box["x"], abs=2)


def test_the_divider_obeys_the_keyboard(page: Page, png: bytes) -> None:
    choose(page, png)
    finished(page)
    slider = page.get_by_role("slider", name="Divider between the two pictures")
    slider.focus()
    for key, place in {
        "ArrowRight": 51,
        "Shift+ArrowRight": 61,
        "PageDown": 51,
        "Home": 0,
        "End": 100,
    }.items():
        page.keyboard.press(key)
        assert at(slider) == place
    expect(slider).to_have_attribute("aria-valuetext", "100% original, 0% rdeic")


@pytest.mark.parametrize("name", ["AVIF", "WebP", "JPEG"])
def test_other_codecs_are_one_click_away(page: Page, png: bytes, name: str) -> None:
    choose(page, png)
    finished(page)
    ours = shown(page, "#right")
    page.get_by_role("radio", name=name).check()
    expect(page.locator("#right-tag")).to_contain_text(f"{name}, ")
    expect(page.locator("#remark")).to_contain_text(name)
    assert shown(page, "#right") != ours
    page.get_by_role("radio", name="rdeic").check()
    expect(page.locator("#right-tag")).to_contain_text("rdeic, ")
    assert shown(page, "#right") == ours


def test_a_file_of_ours_is_restored_and_explained(page: Page, tiny: codec.Codec, png: bytes) -> None:
    blob = tiny.compress(png, quality=20, seed=9)
    choose(page, blob, "small.rdeic")
    assert finished(page) == len(blob)
    expect(page.locator("#divider")).to_be_hidden()
    expect(page.locator("#size")).to_be_hidden()
    page.click("summary")
    header = page.locator("#header")
    for text in ("130 \u00d7 96", "Seed", rdeic.inspect(blob).fingerprint):
        expect(header).to_contain_text(text)
    expect(page.locator("#command")).to_have_text("rdeic decompress small.rdeic -o small.restored.png")


def test_a_bad_file_is_explained_and_changes_nothing(page: Page, png: bytes) -> None:
    choose(page, b"hello", "letter.png")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("letter.png: Not a picture")
    choose(page, png)
    size = finished(page)
    expect(alert).to_be_hidden()
    choose(page, b"RDE\1and rubbish", "broken.rdeic")
    expect(alert).to_contain_text("broken.rdeic: ")
    assert finished(page) == size


def test_a_transparent_picture_gets_a_background_when_asked(page: Page) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (96, 64), (200, 30, 30, 99)).save(buffer, "PNG")
    choose(page, buffer.getvalue())
    page.get_by_role("button", name="Put white behind it").click()
    assert finished(page) > 0
    expect(page.locator("#command")).to_contain_text("--background white")


def test_a_picture_that_browsers_do_not_know_is_shown(page: Page, photo: images.Picture) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "TIFF")
    choose(page, buffer.getvalue(), "scan.tif")
    finished(page)
    assert Image.open(io.BytesIO(shown(page, "#left"))).convert("RGB").tobytes() == photo.tobytes()


def test_the_command_can_be_copied(page: Page, png: bytes) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(page, png)
    finished(page)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    lines = ["rdeic compress 'photo one.png' --quality 50"]
    lines += ["rdeic decompress 'photo one.rdeic' -o 'photo one.restored.png'"]
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(lines)


def test_long_work_shows_how_far_it_is_and_can_be_ended(page: Page, photo: images.Picture) -> None:
    large = Image.fromarray(photo).resize((4000, 3000))
    buffer = io.BytesIO()
    large.save(buffer, "JPEG")
    choose(page, buffer.getvalue(), "large.jpg")
    expect(page.locator("#work")).to_be_visible()
    expect(page.locator("#work-text")).to_contain_text("Compressing")
    page.focus("#detail")
    page.keyboard.press("ArrowRight")  # the page is alive, and begins again
    expect(page.locator("#detail-value")).to_have_text("1.1")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#work")).to_be_hidden()
    expect(page.locator("#result")).to_be_hidden()
    page.evaluate("scrollTo(0, 0)")


def restores_12_megapixels(page: Page, photo: images.Picture) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).resize((4000, 3000)).save(buffer, "JPEG")
    choose(page, buffer.getvalue(), "large.jpg")
    expect(page.locator("#result")).to_be_visible()
    assert finished(page) > 0
    restored = Image.open(io.BytesIO(saved(page, "#save-picture")))
    assert (restored.format, restored.size) == ("JPEG", (4000, 3000))


def test_12_megapixels_come_to_an_end(page: Page, photo: images.Picture) -> None:
    restores_12_megapixels(page, photo)


@pytest.mark.slow  # a minute and a half of one core
def test_the_shipped_model_brings_12_megapixels_to_an_end(
    context: BrowserContext, photo: images.Picture
) -> None:
    with serving.program("--device", "cpu", "--seconds", str(PATIENCE // 1000)) as (_, port):
        for page in opened(context, f"http://127.0.0.1:{port}/"):
            restores_12_megapixels(page, photo)
