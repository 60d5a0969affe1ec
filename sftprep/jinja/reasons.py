"""What may be said of an exception that a chat template raised.

Jinja and Python put names and values into what they say, and those may be a conversation's. So nothing is shown but what
is known word by word: sayings of theirs in which only types are left open, and names that the template's source has.
What a template says itself is shown where it is one of its own strings, and up to where something was put in.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

from jinja2.exceptions import SecurityError, TemplateRuntimeError

from sftprep.jinja.sandbox import Refusal

ELLIPSIS = "..."
_SHORTEST = 4  # characters of a string of the template by which what it says is known to be its own
_OPEN = {
    "TYPE": r"[\w.]+(?: object)?",
    "NAME": r"""('.*'|".*"|-?\d+)""",
    "FUNCTION": r"[\w.<>]+(?:\(\))?",
    "WORDS": r"[\w ,()]+",  # of Python's, on numbers and kinds of arguments
    "SIGN": r"[^\w\s]+|\*\* or pow\(\)|[+*/-]=",
}
_SAYINGS = """\
NAME is undefined
'TYPE' has no attribute NAME
'TYPE' object has no attribute NAME
TYPE has no element NAME
parameter NAME was not provided
No first item, sequence was empty.
No last item, sequence was empty.
No filter named NAME.
No test named NAME.
No filter named NAME found.
No test named NAME found.
access to attribute NAME of 'TYPE' object is unsafe.
a chat template may not use chance: the same input gives the same text
a chat template may not store names that start with an underscore
macro NAME takes no keyword argument NAME
macro NAME takes not more than WORDS
macro NAME got multiple values for argument NAME
can only concatenate TYPE (not "TYPE") to TYPE
can't multiply sequence by non-int of type 'TYPE'
unsupported operand type(s) for SIGN: 'TYPE' and 'TYPE'
bad operand type for unary SIGN: 'TYPE'
bad operand type for FUNCTION: 'TYPE'
'SIGN' not supported between instances of 'TYPE' and 'TYPE'
'TYPE' object is not WORDS
'TYPE' object does not support item assignment
'TYPE' object does not support item deletion
'TYPE' object cannot be interpreted as an integer
argument of type 'TYPE' is not WORDS
object of type 'TYPE' has no len()
Object of type TYPE is not JSON serializable
TYPE indices must be integers or slices, not TYPE
TYPE indices must be integers, not 'TYPE'
unhashable type: 'TYPE'
cannot use 'TYPE' as a WORDS (unhashable type: 'TYPE')
sequence item WORDS: expected str instance, TYPE found
not all arguments converted during string formatting
not enough arguments for format string
format requires a mapping
%WORDS format: a real number is required, not TYPE
%WORDS format: an integer is required, not TYPE
'in <string>' requires string as left operand, not TYPE
a bytes-like object is required, not 'TYPE'
can only join an iterable
Can only get item pairs from a mapping.
keywords must be strings
must be WORDS, not TYPE
FUNCTION argument after ** must be a mapping, not TYPE
FUNCTION WORDS must be WORDS
FUNCTION takes WORDS
FUNCTION expected WORDS
FUNCTION missing WORDS: NAME
FUNCTION got an unexpected keyword argument NAME
FUNCTION got multiple values for argument NAME
NAME is an invalid keyword argument for FUNCTION"""


def reason_of(error: Exception, source: str, literals: Collection[str]) -> str:
    """What went wrong, in words of the template and of Jinja and Python; else the kind of the exception.

    source: the template's. literals: its strings.
    """
    said = str(error)
    if isinstance(error, Refusal):
        return _own_words(said, literals) or "raise_exception"
    if isinstance(error, (TypeError, AttributeError, SecurityError, TemplateRuntimeError)):
        for saying in _sayings():
            found = saying.fullmatch(said)
            if found:
                return _with_names(found, {*re.findall(r"\w+", source), *literals})
    return type(error).__name__


def _own_words(said: str, literals: Collection[str]) -> str:
    if said in literals:
        return said
    heads = (re.split(r"[%{]", literal, maxsplit=1)[0] for literal in literals)  # they may be formats
    known = max((head for head in heads if len(head) >= _SHORTEST and said.startswith(head)), key=len, default="")
    return known and known + ELLIPSIS


def _with_names(found: re.Match[str], known: Collection[str]) -> str:
    """The saying, without the names that are not known."""
    said, done, pieces = found.string, 0, []
    for group, name in enumerate(found.groups(), 1):
        shown = name if name.strip("'\"") in known else ELLIPSIS
        pieces += [said[done : found.start(group)], shown]
        done = found.end(group)
    return "".join([*pieces, said[done:]])


@cache
def _sayings() -> list[re.Pattern[str]]:
    """Compiled when a template first refuses something."""
    return [
        re.compile(re.sub("|".join(_OPEN), lambda kind: f"(?:{_OPEN[kind[0]]})", re.escape(saying)), re.DOTALL)
        for saying in _SAYINGS.splitlines()
    ]
