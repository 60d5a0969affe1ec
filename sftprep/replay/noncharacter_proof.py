"""Would a template take the same way if noncharacters stood in the conversation's text?

`noncharacters` renders some conversations a second time, with a noncharacter in place of each character with which a part
of a control token might begin, and perhaps after the first character of every word, and refuses those for which that
changes the rest. So a recording may be replayed for all conversations that agree with it only if none of them would be
refused: if its steps are known to be deaf to noncharacters. Steps of which that is not known here are not replayed.
"""

from __future__ import annotations

import re

from sftprep.replay.steps import Recording
from sftprep.template.noncharacters import Tracer

_CALL = re.compile(r"\{0\}\.(\w+)\(.*\)")
_JSON_OPTION = re.compile(r"(\w+)=\{(\d+)\}")
_BUILT = re.compile(r"''\.join\(.*|\[.*|\(.*|\{\{.*", re.DOTALL)  # texts end to end, lists, tuples, dictionaries
_ALWAYS = frozenset({"type({0})", "bool({0})"})
_NUMERIC = frozenset({"{0} < {1}", "{0} <= {1}", "{0} > {1}", "{0} >= {1}", "{0} == {1}", "repr({0})", "str({0})"})
_OF_CONTAINERS = frozenset({"len({0})", "len({0}) > {1}", "len({0}) >= {1}", "{0}[{1}]", "{0}[{1}:{2}:{3}]"})
_STRIP = frozenset({"strip", "lstrip", "rstrip"})
_LOOKS = frozenset({"{1} in {0}", "{0} == {1}", "startswith", "endswith"})
_FIRST_NONCHARACTER = "\ufdd0"
_CUT = frozenset({"split", "rsplit", "partition", "rpartition", "replace", "endswith"})


class Deafness:
    """Tells which of a recording's steps give the same in the second run, but for noncharacters in their text.

    In texts of a conversation, a word of the template that the tracer spares is never split, and white space and what
    stands beside it neither: noncharacters stand for other characters, and follow other characters, only.
    """

    def __init__(self, recording: Recording, tracer: Tracer) -> None:
        self._steps, self._values = recording.steps, recording.values
        self._observed = recording.observed
        self._tracer = tracer
        self._known: dict[int, bool] = {}
        self._mixed: set[int] = set()  # texts that are not a stretch of one text of the conversation

    def is_deaf(self, step: int) -> bool:
        """Whether a step gives the same in the second run."""
        todo = [step]
        while todo:
            missing = [operand for operand in self._steps.operands[todo[-1]] if operand not in self._known]
            if missing:
                todo += missing
            else:
                self._known[todo[-1]] = self._judge(todo[-1])
                todo.pop()
        return self._known[step]

    def _judge(self, step: int) -> bool:
        form, operands = self._steps.forms[step], self._steps.operands[step]
        if not all(map(self._known.__getitem__, operands)):
            return False
        if not operands or form in _ALWAYS:
            return True
        if self._mixed.intersection(operands) or _BUILT.fullmatch(form) or "to_json" in form or ".replace(" in form:
            self._mixed.add(step)
        value = self._values[operands[0]]
        if _BUILT.fullmatch(form):
            return True
        if form.startswith("to_json("):
            return self._is_plain_json(form, operands)
        if isinstance(value, str):
            return not any(map(str.isspace, self._tracer.replaced)) and self._judge_text(step, form, operands)
        if form == "{1} in {0}":
            return isinstance(value, dict) and self._is_key(operands[1])
        if form == "{0}[{1}]" and isinstance(value, dict):
            return self._is_key(operands[1])
        if form in _OF_CONTAINERS:
            return isinstance(value, (list, tuple, dict))
        return form in _NUMERIC and all(isinstance(self._values[operand], (int, float)) for operand in operands)

    def _judge_text(self, step: int, form: str, operands: tuple[int, ...]) -> bool:
        """A step whose first operand is a text."""
        call = _CALL.fullmatch(form)
        name = call.group(1) if call else form
        if any(operand not in self._steps.constants for operand in operands[1:]):
            return False
        word = self._values[operands[1]] if len(operands) > 1 else None
        mixed = operands[0] in self._mixed
        if name == "splitlines" or word is None:
            return name in _STRIP or name in ("splitlines", "split", "rsplit")
        if not isinstance(word, str):
            return False
        if name in _STRIP:
            return not word or word.isspace()
        if name in _LOOKS and self._observed.get(step) is False and max(word, default="") < _FIRST_NONCHARACTER:
            return True  # what is not found in a text is not found with noncharacters put between
        if name in ("{1} in {0}", "startswith"):
            return (len(word) < 2 and word not in self._tracer.replaced) or self._is_whole(word, mixed)
        if name == "{0} == {1}":
            return not word or self._is_whole(word, mixed)
        return name in _CUT and self._is_whole(word, mixed)

    def _is_whole(self, word: str, mixed: bool) -> bool:
        """Whether the word is found in the second run wherever it is found in the first, with nothing put after it."""
        if word.isspace():
            return True
        inside = any(character in self._tracer.replaced for character in word[1:]) or any(map(str.isspace, word))
        return word in self._tracer.spared and not inside and not mixed

    def _is_key(self, step: int) -> bool:
        """Whether the step is a key that stays as it is, or the number of an item."""
        if step not in self._steps.constants:
            return False
        key = self._values[step]
        return not isinstance(key, str) or self._tracer.keeps(key)

    def _is_plain_json(self, form: str, operands: tuple[int, ...]) -> bool:
        """Whether JSON keeps text and the order of keys as they are."""
        options = {name: self._values[operands[int(at)]] for name, at in _JSON_OPTION.findall(form)}
        return not options.get("ensure_ascii") and not options.get("sort_keys")
