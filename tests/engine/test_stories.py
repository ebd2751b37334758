"""docs/matching.md keeps its promises: its examples are played, its tables are the program's."""

from pathlib import Path

import pytest

from protocol import reasons as r
from protocol.market_states import ACTIONS, ROWS
from tests.story import Story, stories

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "matching.md"
STORIES = stories(PAGE)


@pytest.mark.parametrize("number", range(len(STORIES)), ids=lambda n: f"{n} {STORIES[n][0]}")
def test_each_example_ends_as_the_page_says(number: int) -> None:
    _, lines = STORIES[number]
    story = Story()
    for line in lines:
        command, told = (part.strip() for part in line.split("->"))
        assert told == story.play(command), command


def test_the_page_has_examples_of_every_chapter_of_orders() -> None:
    assert {"Priority", "States of a market"} <= {heading for heading, _ in STORIES}


def test_table_of_states_is_the_one_that_risk_obeys() -> None:
    table = PAGE.read_text().split("| state | ", 1)[1].split("\n\n", 1)[0].splitlines()
    assert [*ACTIONS, "refused with", "may become |"] == table[0].split(" | ")
    for row, line in zip(ROWS, table[2:], strict=True):
        allowed = ["yes" if action in row.allows else "" for action in ACTIONS]
        why = f"`{r.NAME[row.reason]}`" if row.reason else ""
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        assert [row.name, *allowed, why, ", ".join(row.next)] == cells
