from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pnp_ovss.engine import InputError
from pnp_ovss.engine.errors import ExecutionError, PnpOvssError
from pnp_ovss.engine.inputs.images import load_rgb
from pnp_ovss.engine.inputs.urls import fetch

REDIRECTS = {
    "/moved": "/image",
    "/circle": "/circle",
    "/file": "file:///etc/passwd",
    "/ftp": "ftp://127.0.0.1/a",
    "/data": "data:text/plain,hello",
    "/named": "http://me:secret@127.0.0.1/image",
}


def encoded() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(buffer, "PNG")
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        with contextlib.suppress(OSError):
            if path in REDIRECTS:
                self.send_response(302)
                self.send_header("Location", REDIRECTS[path])
                self.end_headers()
            elif path == "/image":
                self.answer(encoded())
            elif path == "/short":
                self.answer(encoded(), more=10)
            elif path == "/endless":
                self.answer(b"", more=None)
                while True:
                    self.wfile.write(bytes(10_000))
            elif path == "/drip":
                self.answer(b"", more=1000)
                self.drip(b"x" * 1000)
            elif path == "/drip-head":
                self.drip(b"HTTP/1.0 200 OK\r\n" + b"A: b\r\n" * 1000)
            elif path == "/nonsense":
                self.wfile.write(b"what?\r\n\r\n")
            else:
                self.send_error(503 if path == "/busy" else 404)

    def answer(self, data: bytes, more: int | None = 0) -> None:
        self.send_response(200)
        if more is not None:
            self.send_header("Content-Length", str(len(data) + more))
        self.end_headers()
        self.wfile.write(data)

    def drip(self, data: bytes) -> None:
        for byte in data:
            self.wfile.write(bytes([byte]))
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("path", ["/image", "/image?a=b%20c", "/moved"])
def test_an_image_is_fetched(server: str, path: str) -> None:
    assert fetch(server + path) == encoded()
    assert load_rgb(server + path, fetch_urls=True).getpixel((1, 1)) == (255, 0, 0)
    assert load_rgb(server.replace("http", "HTTP") + path, fetch_urls=True).size == (4, 3)


@pytest.mark.parametrize(
    ("path", "kind", "cause"),
    [
        ("/gone", InputError, "HTTP 404"),
        ("/busy", ExecutionError, "HTTP 503"),
        ("/circle", InputError, "infinite loop"),
        ("/file", InputError, "file"),
        ("/ftp", InputError, "ftp://"),
        ("/data", InputError, "data:"),
        ("/named", InputError, "user name"),
        ("/short", ExecutionError, "10 bytes early"),
        ("/nonsense", ExecutionError, "cannot be fetched"),
    ],
)
def test_what_cannot_be_fetched(
    server: str, path: str, kind: type[PnpOvssError], cause: str
) -> None:
    with pytest.raises(kind) as caught:
        fetch(server + path)
    assert cause in caught.value.cause
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_size_is_limited_whatever_the_server_says(server: str) -> None:
    with pytest.raises(InputError, match=r"larger than 0.5 MB"):
        fetch(server + "/endless", most_bytes=500_000)
    with pytest.raises(InputError, match=r"larger than"):
        fetch(server + "/image", most_bytes=len(encoded()) - 1)
    assert fetch(server + "/image", most_bytes=len(encoded())) == encoded()


def fetching() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "pnp-ovss-fetch"]


@pytest.mark.parametrize("path", ["/drip", "/drip-head", None])
def test_time_is_limited_and_no_thread_stays(server: str, path: str | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/" if path is None else server + path
        started = time.monotonic()
        with pytest.raises(ExecutionError, match=r"not there after 0.2 s"):
            fetch(url, seconds=0.2)
        assert time.monotonic() - started < 5
        for thread in fetching():
            thread.join(5)
        assert not fetching()


def test_a_host_that_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ExecutionError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///a",
        "http://[::1/a",
        "http://a:99999/",
        "http://a:b/",
        "http://a b/",
        "http://a/b c",
        "http://a/\r\nX: y",
        "http://a/\0",
        "http://bücher.example/",
        "http://example.invalid./",
        "http://host.invalid/a.png",
        "http://me:secret@127.0.0.1/",
        "http://me:secret@127.0.0.1:bad /",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "data:text/plain,hello",
        "a.png",
        "",
    ],
)
def test_urls_that_name_nothing(url: str) -> None:
    with pytest.raises(InputError) as caught:
        fetch(url, seconds=20)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


@given(st.text(max_size=20), st.sampled_from(["", "ftp://", "http://[", "http://a:"]))
def test_any_text_is_refused_in_words(text: str, start: str) -> None:
    call: Callable[[], bytes] = lambda: fetch(f"{start}\n{text}")  # noqa: E731
    with pytest.raises(InputError):
        call()
