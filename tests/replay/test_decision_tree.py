"""A tree of observations, and what it replays."""

from __future__ import annotations

import pytest

from sftprep.replay.decision_tree import Program, Tree
from sftprep.replay.recorder import INPUTS
from sftprep.replay.steps import Forms, Untraceable


def test_a_template_that_is_not_its_own_replay_is_noticed() -> None:
    tree: Tree[None] = Tree(INPUTS, Forms({}))
    tree.insert({1: True}, Program((), None))
    with pytest.raises(Untraceable):
        tree.insert({2: True}, None)
    with pytest.raises(Untraceable):
        tree.insert({1: True}, None)
