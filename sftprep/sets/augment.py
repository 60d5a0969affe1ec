"""Conversations as MiniMind varies them, but the same in every build: a system prompt for some that have none, empty thinking
left out of some.

After `pre_processing_chat` and `post_processing_chat` in its dataset/lm_dataset.py (2026), which draw anew at each access.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from sftprep.records.conversation import Conversation
from sftprep.sets.contents import content_key
from sftprep.sets.draws import draw_by_key

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
        draws = partial(draw_by_key, self.seed, key=content_key(conversation))
        drops = draws("drop empty think") < self.drop_empty_think
        if (
            self.system_prompts
            and _lacks_system(conversation)
            and draws("add system prompt") < self.system_prompt_ratio
        ):
            chosen = int(draws("which system prompt") * len(self.system_prompts))
            conversation = _with_system(conversation, self.system_prompts[chosen])
        return replace(conversation, left_out=EMPTY_THINK) if drops else conversation


def _lacks_system(conversation: Conversation) -> bool:
    return not conversation.tools and conversation.messages[0]["role"] not in ("system", "developer")


def _with_system(conversation: Conversation, prompt: str) -> Conversation:
    weights, roles = conversation.weights, conversation.plain_roles
    return replace(
        conversation,
        messages=[{"role": "system", "content": prompt}, *conversation.messages],
        weights=weights and (None, *weights),
        plain_roles=roles and ("system", *roles),
    )
