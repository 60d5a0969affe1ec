"""Names on the hub, by a hub of this machine: one that answers, one that never does, none at all."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from small_tokenizer import shared_tokenizer

from sftprep.errors import TokenizerError
from sftprep.tokens.resolve import resolve_tokenizer

NAME = "people/tokenizer"


@pytest.fixture(autouse=True)
def own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


class Hub(SimpleHTTPRequestHandler):
    """The files of one repository, at one commit."""

    def send_head(self) -> Any:
        if "/resolve/" not in self.path:
            return self.send_error(404)
        self.path = self.path.rpartition("/")[2]
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("X-Error-Code", "EntryNotFound")  # looked at only beside 404
        self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()}"')
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_name_is_looked_for_on_the_hub_and_found_again_without_a_network(
    hub: str, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sftprep")
    monkeypatch.setenv("HF_ENDPOINT", hub)
    resolved = resolve_tokenizer(NAME)
    assert resolved.sha256 == shared_tokenizer(folder).sha256
    assert f"{NAME} is no folder here: trying the hub" in caplog.text
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert resolve_tokenizer(NAME, time_limit=30) == resolved
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve_tokenizer(NAME) == resolved
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(TokenizerError, match=r"was not downloaded before; the hub .* does not answer: .*refused"):
        resolve_tokenizer("people/other", time_limit=30)  # Transformers alone tries for 47 seconds


def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(TokenizerError, match=rf"{NAME}: it is no folder here.*\({address}\) does not answer"):
            resolve_tokenizer(NAME, time_limit=60)
