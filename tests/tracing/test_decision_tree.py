"""A tree of observations, and what it replays."""

from __future__ import annotations

import pytest

from sftprep.tracing.decision_tree import Program, Tree
from sftprep.tracing.recorder import INPUTS
from sftprep.tracing.steps import Forms, Untraceable


def test_a_template_that_is_not_its_own_replay_is_noticed() -> None:
    tree: Tree[None] = Tree(INPUTS, Forms({}))
    tree.insert({1: True}, Program((), None))
    with pytest.raises(Untraceable):
        tree.insert({2: True}, None)
    with pytest.raises(Untraceable):
        tree.insert({1: True}, None)


def test_a_tree_replays_what_was_recorded_and_nothing_else() -> None:
    tree: Tree[str] = Tree(("text", "flag"), Forms({}))
    text, flag = tree.steps.input("text"), tree.steps.input("flag")
    begins = tree.steps.step("{0}.startswith({1})", (text, tree.steps.constant("a")))
    shouted = tree.steps.step("{0}.upper()", (text,))
    kind = tree.steps.step("type({0})", (flag,))
    assert tree.replay()("abc", 1) is False  # nothing was seen yet
    tree.insert(
        {begins: True, kind: int}, Program((tree.steps.constant("<"), shouted), "loud", ((1, ()), (2, (shouted,))))
    )
    tree.insert({begins: False}, Program((), "nothing"))
    tree.insert({begins: True, kind: str}, None)
    replay = tree.replay()
    assert replay("abc", 1) == ("<ABC", "loud", ((1, 6),))
    assert replay("xyz", 1) == ("", "nothing", ())
    assert replay("abc", "1") is True  # seen, and not to be replayed
    assert replay("abc", None) is False
    assert tree.leaves == 3


def test_text_of_a_template_never_gets_into_the_source() -> None:
    tree: Tree[None] = Tree(("text",), Forms({}))
    text, hostile = tree.steps.input("text"), "'''); raise SystemExit #"
    looked = tree.steps.step("{1} in {0}", (text, tree.steps.constant(hostile)))
    tree.insert({looked: False}, Program((tree.steps.constant(hostile), text), None))
    assert tree.replay()("x") == (hostile + "x", None, ())
    assert tree.replay()(hostile) is False
