"""Every error a user can cause, as one family: the command line prints its message and exits with its code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class SftprepError(Exception):
    """Base of all errors that sftprep raises on purpose. `str(error)` says where, what, and what would be right."""

    exit_code = 1


class ConfigError(SftprepError):
    """The options do not fit together, or name something that does not exist."""

    exit_code = 2


class InputError(SftprepError):
    """An input file is missing, unreadable, or not of a known kind."""


class ConversationError(SftprepError):
    """One record is at fault: it goes to rejects.jsonl, or stops the job with `file:line`. Never holds message text."""


class RefusedError(ConversationError):
    """The chat template refuses a conversation as it is given; another form of it may do."""


class TemplateError(SftprepError):
    """The chat template is missing, does not compile, or its turns cannot be told apart."""


class TokenizerError(SftprepError):
    """The tokenizer cannot be loaded, or two ways of using it disagree."""


class StorageError(SftprepError):
    """Reading or writing failed: a full disk, a missing permission, a broken device. Names the path."""


class DatasetError(SftprepError):
    """A dataset on disk is incomplete, damaged, or not what its manifest says. Names the file."""


class BusyError(SftprepError):
    """Another process is at work in the output folder."""


class WorkerError(SftprepError):
    """A worker process died, twice at the same split, or failed in a way that is sftprep's own fault."""


@contextmanager
def typed_errors(what: str, *, in_its_words: bool = False) -> Iterator[None]:
    """Whatever a library raises, a Rust panic included, as a TokenizerError.

    in_its_words: with what it says first; only where that cannot quote text of a conversation.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        said = f": {first_line(error)}" if in_its_words else ""
        raise TokenizerError(f"{what}: {type(error).__name__}{said}") from error


def first_line(error: BaseException) -> str:
    """What an exception says, if that is short; else the start of it."""
    return str(error).strip().partition("\n")[0][:300]
