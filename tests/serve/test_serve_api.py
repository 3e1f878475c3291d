"""The HTTP API, on a tiny model."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")  # of rdeic[serve]

from starlette.testclient import TestClient

import rdeic
from rdeic.codec import codec
from rdeic.container import marks
from rdeic.pictures import images
from rdeic.serve import page
from rdeic.serve.problems import KINDS, PREFIX
from rdeic.serve.settings import Limits
from support import serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tiny: codec.Codec) -> Iterator[TestClient]:
    with serving.client(tiny) as client:
        yield client


@pytest.fixture(scope="module")
def png(photo: images.Picture) -> bytes:
    return images.encode(photo, "png")


@pytest.fixture(scope="module")
def blob(tiny: codec.Codec, photo: images.Picture) -> bytes:
    return tiny.compress(photo)


def problem(response: object) -> str:
    """The name of the problem; it must be one in all respects."""
    assert response.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    said = response.json()  # type: ignore[attr-defined]
    name = said["type"].removeprefix(PREFIX)
    assert said["status"] == response.status_code == KINDS[name].status  # type: ignore[attr-defined]
    assert said["title"] == KINDS[name].title
    assert said["detail"]
    return name


def test_a_compressed_picture_is_the_file_that_the_package_makes(
    server: TestClient, tiny: codec.Codec, png: bytes
) -> None:
    done = server.post("/v1/compress?quality=30&seed=7", content=png, headers={"Content-Type": "image/png"})
    assert done.status_code == 200
    assert done.headers["content-type"] == "image/x-rdeic"
    assert done.content == tiny.compress(png, quality=30, seed=7)
    info = rdeic.inspect(done.content)
    assert done.headers["rdeic-bpp"] == f"{info.bpp:.5f}"
    assert done.headers["rdeic-size"] == "130x96"


def test_a_wish_for_a_size_is_kept(server: TestClient, blob: bytes, png: bytes) -> None:
    limit = len(blob)
    done = server.post(f"/v1/compress?max_bytes={limit}", content=png)
    assert done.status_code == 200
    assert len(done.content) <= limit


def test_a_restored_picture_is_the_one_that_the_package_restores(
    server: TestClient, tiny: codec.Codec, blob: bytes
) -> None:
    done = server.post("/v1/decompress?detail=0.5&steps=3", content=blob)
    assert done.headers["content-type"] == "image/png"
    assert np.array_equal(Image.open(io.BytesIO(done.content)), tiny.decompress(blob, 0.5, 3))
    assert marks.find(done.content) == marks.checksum(blob)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "png"),
        ("image/webp", "webp"),
        ("image/png;q=0.5, image/jpeg", "jpeg"),
        ("text/html, image/*;q=0.8", "png"),
        ("image/*, image/png;q=0", "webp"),
        ("application/octet-stream", "png"),
        ("nonsense, image/avif", "avif"),
    ],
)
def test_accept_chooses_the_format(server: TestClient, blob: bytes, accept: str, kind: str) -> None:
    done = server.post("/v1/decompress", content=blob, headers={"Accept": accept})
    assert done.headers["content-type"] == f"image/{kind}"
    image = Image.open(io.BytesIO(done.content))
    assert (image.format, image.size) == (kind.upper(), (130, 96))


def test_inspecting_says_what_the_package_says(server: TestClient, blob: bytes) -> None:
    info = rdeic.inspect(blob)
    done = server.post("/v1/inspect", content=blob).json()
    assert done == {**json.loads(json.dumps(info._asdict())), "bpp": info.bpp}


def test_metadata_go_along_only_where_that_is_asked_for(server: TestClient, photo: images.Picture) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", exif=exif)
    kept = server.post("/v1/compress?metadata=basic", content=buffer.getvalue()).content
    left = server.post("/v1/compress", content=buffer.getvalue()).content
    found = rdeic.inspect(kept).metadata
    assert found is not None and found.make == "Maker"
    assert rdeic.inspect(left).metadata is None


def test_conventional_codecs_say_honestly_how_small_they_get(server: TestClient, png: bytes) -> None:
    done = server.post("/v1/compare?codec=webp&bytes=400", content=png)
    assert int(done.headers["rdeic-bytes"]) == pytest.approx(400, rel=0.03)
    assert Image.open(io.BytesIO(done.content)).size == (130, 96)
    least = server.post("/v1/compare?codec=jpeg&bytes=1", content=png)
    assert int(least.headers["rdeic-bytes"]) > 100  # what a header takes
    assert least.headers["rdeic-downscale"] == "4"


def test_a_picture_is_shown_upright(server: TestClient, photo: images.Picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "TIFF", exif=exif)
    done = server.post("/v1/show", content=buffer.getvalue())
    assert Image.open(io.BytesIO(done.content)).size == (96, 130)


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("compress", {"Content-Type": "multipart/form-data; boundary=x"}, "unsupported-media"),
        ("decompress", {"Content-Type": "image/png"}, "unsupported-media"),
        ("decompress", {"Accept": "text/html"}, "not-acceptable"),
        ("decompress", {"Accept": "image/png;q=0"}, "not-acceptable"),
        ("compress", {"Accept": "image/png"}, "not-acceptable"),
        ("compress?qualty=3", {}, "bad-parameters"),
        ("compress?quality=nan", {}, "bad-parameters"),
        ("compress?quality=101", {}, "bad-parameters"),
        ("compress?quality=3&bpp=1", {}, "bad-parameters"),
        ("compress?max_bytes=0", {}, "bad-parameters"),
        ("compress?seed=4294967296", {}, "bad-parameters"),
        ("compress?background=blurple", {}, "bad-parameters"),
        ("compress?max_bytes=20", {}, "out-of-reach"),
        ("decompress?steps=51", {}, "bad-parameters"),
        ("decompress?detail=-1", {}, "bad-parameters"),
        ("compare?codec=gif&bytes=100", {}, "bad-parameters"),
        ("compare", {}, "bad-parameters"),
        ("nothing", {}, "not-found"),
        ("progress/12345678", {}, "method-not-allowed"),
    ],
)
def test_requests_that_make_no_sense_are_named(
    server: TestClient, png: bytes, path: str, headers: dict[str, str], name: str
) -> None:
    assert problem(server.post(f"/v1/{path}", content=png, headers=headers)) == name


@pytest.mark.parametrize("content", [b"", b"hello", b"%PDF-1.4 and so on", b"RDE"])
def test_what_is_no_picture_is_unsupported(server: TestClient, content: bytes) -> None:
    assert problem(server.post("/v1/compress", content=content)) == "unsupported-media"


def test_broken_and_transparent_pictures_are_told_apart(server: TestClient, png: bytes) -> None:
    assert problem(server.post("/v1/compress", content=png[:-2000])) == "bad-picture"
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), (9, 9, 9, 90)).save(buffer, "PNG")
    refused = server.post("/v1/compress", content=buffer.getvalue())
    assert problem(refused) == "transparent-picture"
    assert "background=white" in refused.json()["detail"]
    assert server.post("/v1/compress?background=white", content=buffer.getvalue()).status_code == 200


def test_broken_files_and_those_of_other_models_are_told_apart(server: TestClient, blob: bytes) -> None:
    for path in ("decompress", "inspect"):
        assert problem(server.post(f"/v1/{path}", content=blob[:-1])) == "bad-file"
    foreign = (ROOT / "tests" / "golden_files").glob("**/*.rdeic")
    assert problem(server.post("/v1/decompress", content=next(foreign).read_bytes())) == "other-model"


def test_what_is_too_large_is_refused(tiny: codec.Codec, png: bytes, blob: bytes) -> None:
    with serving.client(tiny, Limits(body_bytes=len(png) - 1, pixels=130 * 96 - 1)) as server:
        assert problem(server.post("/v1/compress", content=png)) == "too-many-bytes"
        assert problem(server.post("/v1/compress", content=iter([png[:9], png[9:]]))) == "too-many-bytes"
        assert problem(server.post("/v1/decompress", content=blob)) == "too-many-pixels"
    with serving.client(tiny, Limits(pixels=130 * 96 - 1)) as server:
        refused = server.post("/v1/compress", content=png)
        assert problem(refused) == "too-many-pixels"
        assert "--" not in refused.json()["detail"]  # no option of the command line


def test_work_that_takes_too_long_is_given_up(tiny: codec.Codec, png: bytes) -> None:
    with serving.client(tiny, Limits(work_seconds=0.001)) as server:
        late = server.post("/v1/compress", content=png)
        assert problem(late) == "too-long"
        assert int(late.headers["retry-after"]) >= 1


def test_a_server_for_this_machine_answers_to_no_other_name(server: TestClient) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7334", ""):
        assert problem(server.get("/healthz", headers={"Host": host})) == "misdirected"
    for host in ("localhost", "localhost:80", "127.0.0.1:7334", "[::1]:7334"):
        assert server.get("/healthz", headers={"Host": host}).status_code == 200


def test_other_sites_get_nothing(server: TestClient) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert problem(server.post("/v1/inspect", content=b"RDE", headers=headers)) == "foreign-origin"
    own = server.get("/healthz", headers={"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"})
    assert own.status_code == 200
    assert not {name for name in own.headers if name.startswith("access-control-")}


def test_a_token_opens_everything_but_the_page(tiny: codec.Codec, blob: bytes) -> None:
    with serving.client(tiny, host="0.0.0.0", token="secret") as server:
        assert server.get("/").status_code == server.get("/healthz").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            refused = server.post("/v1/inspect", content=blob, headers=headers)
            assert problem(refused) == "unauthorized"
            assert refused.headers["www-authenticate"] == "Bearer"
        assert problem(server.get("/metrics")) == "unauthorized"
        right = {"Authorization": "Bearer secret", "Host": "any.example"}
        assert server.post("/v1/inspect", content=blob, headers=right).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/assets/../app.py", "/assets/%2e%2e/app.py", "//etc/passwd", "/assets/", "/docs"],
)
def test_no_file_can_be_asked_for(server: TestClient, path: str) -> None:
    assert problem(server.get(path)) == "not-found"


def test_the_page_loads_nothing_from_elsewhere(server: TestClient) -> None:
    assets = [route.path for route in page.routes()]
    assert {"/", "/assets/main.js", "/assets/style.css"} <= set(assets)
    for path in assets:
        done = server.get(path)
        assert "default-src 'none'" in done.headers["content-security-policy"]
        text = done.text.replace("http://www.w3.org/2000/svg", "")
        assert path.endswith(".jpg") or ("http://" not in text and "https://" not in text)
        assert server.get(path, headers={"If-None-Match": done.headers["etag"]}).status_code == 304


def test_the_counters_count(server: TestClient, blob: bytes) -> None:
    server.post("/v1/decompress", content=blob)
    text = server.get("/metrics").text
    assert 'rdeic_requests_total{path="/v1/decompress",status="200"}' in text
    assert 'rdeic_work_seconds_count{operation="decompress"}' in text
    assert "rdeic_waiting 0.0" in text and "rdeic_working 0.0" in text


def test_every_answer_is_described(server: TestClient) -> None:
    described = server.get("/openapi.json").json()
    for path in ("compress", "decompress", "compare", "show"):
        answers = described["paths"][f"/v1/{path}"]["post"]["responses"]
        assert {"200", "401", "403", "406", "408", "413", "415", "421", "422", "429", "500", "503"} == set(
            answers
        )
        assert all("application/problem+json" in answers[code]["content"] for code in answers if code > "3")
    assert described["paths"]["/v1/inspect"]["post"]["responses"]["200"]["content"]["application/json"][
        "example"
    ]


def test_the_documentation_names_every_problem() -> None:
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    assert {name for name, kind in KINDS.items() if f"| `{name}` | {kind.status} |" not in text} == set()
