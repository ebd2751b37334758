"""Words of ``meta``: what kernels keep there has a place of its own, and nobody else's value is found in it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from types import ModuleType

import pytest

import matcher.state
import risk.state
from tests.engine.test_stories import ROOT
from tests.story import Story

SHARDS = ("matcher", matcher.state, 50)
RISK = ("risk", risk.state, 40)
WORDS_BEHIND = {"VENUE_SCHEDULE": 3, "LEVELS_FREE": matcher.state.BLOCK_SIZES - 1}
"""Words that a name stands for beside its own: those that follow it."""


def words_of(package: str, state: ModuleType) -> dict[str, int]:
    """Number of each word that a file of the package takes from an array called ``meta``, by its name."""
    names = (name for path in (ROOT / package).rglob("*.py") for name in _indices(ast.parse(path.read_text())))
    return {name: getattr(state, name) for name in names if hasattr(state, name)}


def _indices(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Subscript) or not ast.unparse(node.value).endswith("meta"):
            continue
        for part in ast.walk(node.slice):
            if isinstance(part, ast.Name | ast.Attribute):
                yield ast.unparse(part).rpartition(".")[2]


@pytest.mark.parametrize(("package", "state", "least"), [SHARDS, RISK], ids=["matcher", "risk"])
def test_each_word_has_a_number_of_its_own(package: str, state: ModuleType, least: int) -> None:
    words = words_of(package, state)
    assert least < len(words), "the words are found by how kernels write them"
    named = defaultdict(list)
    for name, number in words.items():
        for word in range(number, number + 1 + WORDS_BEHIND.get(name, 0)):
            named[word].append(name)
    assert {} == {number: sorted(names) for number, names in named.items() if len(names) > 1}
    assert max(named) < state.META_WORDS


def test_fill_of_a_stop_behind_an_uncross_counts_in_the_window_of_its_time() -> None:
    lines = """
    alice sells 1 at 100 as A -> A rests 1 at 100
    bob buys 1 at 100 as B -> B takes 1 at 100 from A
    carol sells 1 at 90 stop 98 as C -> C waits
    alice protects window 16 trades 2 -> done
    alice quotes 5@95 5@105 as Q -> Qbid rests 5 at 95; Qask rests 5 at 105
    state auction -> done
    bob sells 2 at 97 as D -> D rests 2 at 97
    carol buys 2 at 98 as E -> E rests 2 at 98
    state open -> E buys 2 at 98 from D; traded 2 at 98; C set off; C takes 1 at 95 from Qbid
    clock 15 -> done
    bob sells 1 at 95 as F -> F takes 1 at 95 from Qbid; Qbid canceled 3 BY_PROTECTION; Qask canceled 5 BY_PROTECTION
    """
    story = Story()
    for line in lines.strip().splitlines():
        command, told = (part.strip() for part in line.split("->"))
        assert told == story.play(command), command
