"""`--train-on`, parsed once: whose messages are trained."""

from __future__ import annotations

from dataclasses import dataclass

from sftprep.errors import ConfigError
from sftprep.records.messages import ROLES


@dataclass(frozen=True, slots=True)
class TrainOn:
    """The roles whose messages are trained; last: of the assistant's, only the last of a conversation."""

    roles: frozenset[str]
    last: bool = False

    @classmethod
    def parse(cls, text: str) -> TrainOn:
        """`assistant`, `last`, `all`, or a comma list of roles. Raises ConfigError for anything else."""
        text = text.strip()
        if text == "last":
            return cls(frozenset({"assistant"}), last=True)
        roles = frozenset(ROLES) if text == "all" else frozenset(role.strip() for role in text.split(","))
        if not roles <= set(ROLES):
            raise ConfigError(f"--train-on {text}: expected assistant, last, all, or roles of {', '.join(ROLES)}")
        return cls(roles)


ASSISTANT = TrainOn(frozenset({"assistant"}))
