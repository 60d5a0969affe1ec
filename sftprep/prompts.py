"""What a template prints when it asks for an answer (`ChatTemplate.prompt`), for all that take the same way through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from sftprep.chat_template import ChatTemplate
from sftprep.leaf_marks import merged
from sftprep.probes import QUESTION
from sftprep.recorder import Layout, RecordingTemplate
from sftprep.sandbox import Refusal
from sftprep.steps import Recording, Untraceable
from sftprep.traced import Traced, TracedNumber


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a conversation that is being recorded.

    variables, traced: what the template sees, and the same in stand-ins.
    """

    template: ChatTemplate
    recorder: RecordingTemplate
    recording: Recording
    variables: Mapping[str, Any]
    traced: Mapping[str, Any]

    def before(self, message: int) -> str:
        """The prompt that a message answers. What it depends on is observed. Raises Untraceable."""
        template = self.template
        if template.header is not None:
            return template.header
        if template.compiled.epilogue is None:
            return self._ask_after(message)
        for name in template.compiled.epilogue.names:
            value = self.traced.get(name)
            if isinstance(value, TracedNumber):
                value.settle()
            elif isinstance(value, Traced):
                raise Untraceable
        return template.prompt(self.variables, message)

    def _ask_after(self, message: int) -> str:
        for messages in (self.traced["messages"][:message], [dict(said) for said in QUESTION]):
            variables = {**self.traced, "messages": messages}
            try:
                asked = self._layout({**variables, "add_generation_prompt": True})
                over = len(asked.parts) if asked.over is None else asked.over
                after = asked.literal(over, len(asked.parts))
                if after.strip():
                    return after
                told = self._layout(variables)
            except (Refusal, jinja2.UndefinedError):  # it refuses to begin so, and would in every such conversation
                continue
            if after or merged(asked) != merged(told)[: len(merged(asked))]:
                raise Untraceable  # the prompt begins at the last message, perhaps
        return ""

    def _layout(self, variables: Mapping[str, Any]) -> Layout:
        return self.recorder.layout(variables, self.recording)
