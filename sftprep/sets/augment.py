"""Conversations as MiniMind varies them, but the same in every build: a system prompt for some that have none, empty thinking
left out of some.

After `pre_processing_chat` and `post_processing_chat` in its dataset/lm_dataset.py (2026), which draw anew at each access.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sftprep.records.conversation import Conversation
from sftprep.sets.draws import draw

EMPTY_THINK = "<think>\n\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is varied, by the options of a build. Draws depend on the seed and on what a conversation says."""

    seed: int = 0
    system_prompts: Sequence[str] = ()
    system_prompt_ratio: float = 0.0  # of the conversations without system prompt and tools
    drop_empty_think: float = 0.0  # of the conversations

    def __bool__(self) -> bool:
        return bool(self.system_prompts or self.drop_empty_think)

    def of(self, conversation: Conversation) -> Conversation:
        """What is trained of a conversation."""
        drops = draw(self.seed, "drop empty think", conversation) < self.drop_empty_think
        if self.system_prompts and self._gets_system_prompt(conversation):
            chosen = draw(self.seed, "which system prompt", conversation)
            conversation = _with_system(conversation, self.system_prompts[int(chosen * len(self.system_prompts))])
        return replace(conversation, left_out=EMPTY_THINK) if drops else conversation

    def _gets_system_prompt(self, conversation: Conversation) -> bool:
        if conversation.tools or conversation.messages[0]["role"] in ("system", "developer"):
            return False
        return draw(self.seed, "add system prompt", conversation) < self.system_prompt_ratio


def _with_system(conversation: Conversation, prompt: str) -> Conversation:
    weights, roles = conversation.weights, conversation.plain_roles
    return replace(
        conversation,
        messages=[{"role": "system", "content": prompt}, *conversation.messages],
        weights=weights and (None, *weights),
        plain_roles=roles and ("system", *roles),
    )
