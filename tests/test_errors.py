"""Errors are one family, and whatever a library raises becomes one of it."""

from __future__ import annotations

import pickle

import pytest

from sftprep import errors
from sftprep.errors import ConfigError, SftprepError, TokenizerError, first_line, typed_errors

FAMILY = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SftprepError)]


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_comes_through_a_pipe_as_it_is(kind: type[SftprepError]) -> None:
    again = pickle.loads(pickle.dumps(kind("chat.jsonl:17: wrong")))
    assert (type(again), str(again)) == (kind, "chat.jsonl:17: wrong")
    assert again.exit_code == (2 if kind is ConfigError else 1)


class Panic(BaseException):
    """As Rust's panics come to Python."""


@pytest.mark.parametrize("raised", [ValueError("secret\nmore"), Panic("secret"), RecursionError("secret")])
def test_what_a_library_raises_is_typed_and_quoted_only_where_asked(raised: BaseException) -> None:
    for in_its_words, said in ((False, ""), (True, ": secret")):
        with pytest.raises(TokenizerError) as caught, typed_errors("it fails", in_its_words=in_its_words):
            raise raised
        assert str(caught.value) == f"it fails: {type(raised).__name__}{said}"
        assert caught.value.__cause__ is raised


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_stops_the_program_stops_it(stop: type[BaseException]) -> None:
    with pytest.raises(stop), typed_errors("it fails"):
        raise stop


def test_the_first_line_is_short() -> None:
    assert first_line(ValueError("\n  one \ntwo")) == "one "
    assert first_line(ValueError("x" * 1000)) == "x" * 300
    assert first_line(ValueError()) == ""
