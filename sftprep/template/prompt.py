"""What a chat template prints where it asks for an answer: the generation prompt, and so the header of an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sftprep.errors import ConversationError
from sftprep.jinja.compiled import CompiledTemplate
from sftprep.template.misplaced import Misplaced
from sftprep.template.probes import QUESTION
from sftprep.template.turns import shared_length, stretches
from sftprep.workers.limits import LimitError

_MAX_PROMPTS = 1024


class GenerationPrompts:
    """The prompts of one template; asked once where they depend on few variables.

    tokens: finds the tokenizer's tokens, none of which is cut in two.
    """

    def __init__(self, compiled: CompiledTemplate, misplaced: Misplaced, tokens: re.Pattern[str]) -> None:
        self._compiled, self._misplaced, self._tokens = compiled, misplaced, tokens
        self._prompts: dict[str, str] = {}

    def after(self, variables: Mapping[str, Any], message: int) -> str:
        """What the template prints after `messages[:message]` when it asks for an answer: '' if it prints nothing."""
        epilogue = self._compiled.epilogue
        if epilogue is None:
            return self._ask_after(variables, message)
        key = repr([variables.get(name) for name in sorted(epilogue.names)])
        if key not in self._prompts:
            if len(self._prompts) >= _MAX_PROMPTS:
                self._prompts.clear()
            self._prompts[key] = self._ask_after(variables, message)
        return self._prompts[key]

    def _ask_after(self, variables: Mapping[str, Any], message: int) -> str:
        """The prompt after these messages or, where the template refuses them or asks for nothing (as some do after a tool's
        result or an answer), after a question: the header that answers have is not trained anywhere."""
        for messages in (variables["messages"][:message], [dict(said) for said in QUESTION]):
            try:
                prompt = self._ask({**variables, "messages": messages})
            except LimitError:
                raise
            except ConversationError:  # it refuses to begin so
                continue
            if prompt:
                return prompt
        return ""

    def _ask(self, variables: Mapping[str, Any]) -> str:
        """What is printed for an answer after these messages."""
        asked = self._compiled.mark({**variables, "add_generation_prompt": True})
        over = len(asked.text) if asked.over is None else asked.over
        if self._compiled.epilogue is not None:
            return asked.text[over:]
        if self._misplaced.has_strays:  # the last message may have been printed after it
            over = len(asked.text)
        elif asked.text[over:].strip():
            return asked.text[over:]
        told = self._compiled.mark(variables)  # the prompt may have been printed at the last message
        cut = min(over, shared_length(asked.text, told.text))
        inside = [start for start, stop in stretches(self._tokens, asked.text) if start < cut < stop]
        return asked.text[min([cut, *inside]) :]
