"""What a command says, for people and for machines."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from small_builds import TOKENIZER, sftprep

from sftprep.watch.log import say, says_json, show_log


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=False)
    say("one \x1b[2J", "begin", {"total": 3})
    show_log(quiet=True)
    say("two")
    say("three", level=logging.WARNING)
    assert capsys.readouterr() == ("", "one \\x1b[2J\nthree\n")
    assert not says_json()


def test_objects(capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=True)
    assert says_json()
    show_log()  # leaves it so
    say("one \x1b[2J é", "begin", {"total": 3})
    logging.getLogger("sftprep.room").warning("%d of %d", 1, 2)
    out, err = capsys.readouterr()
    first, second = map(json.loads, err.splitlines())
    assert (out, err.isascii()) == ("", True)
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "info", "event": "begin", "message": "one \\x1b[2J é", "total": 3}
    assert (second["level"], second["event"], second["message"]) == ("warning", "note", "1 of 2")


class Gone(io.StringIO):
    """A standard error behind which the disk is full, or nobody reads any more."""

    def __init__(self, error: type[OSError]) -> None:
        super().__init__()
        self.error, self.asked = error, 0

    def write(self, text: str) -> int:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("error", [OSError, BrokenPipeError])
def test_who_does_not_listen_stops_nothing(
    as_json: bool, error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_log(as_json=as_json)
    monkeypatch.setattr(sys, "stderr", gone := Gone(error))
    say("anybody there?")
    assert gone.asked


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["build", "--log-json"], 2, "Missing INPUT"),
        (["build", "--log-json", "--nonsense"], 2, "--nonsense"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER, "--log-json"], 1, "'x.jsonl': no such file or folder"),
        (["work", "nowhere", "--task", "0", "--log-json"], 1, "nowhere"),
    ],
)
def test_errors_are_objects_too(arguments: list[str], code: int, what: str) -> None:
    done = sftprep(*arguments)
    (said,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, said["level"], said["event"], said["exit_code"]) == (code, "error", "error", code)
    assert what in said["message"]
