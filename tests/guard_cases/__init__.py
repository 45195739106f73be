"""Functions with a label: must they stay in this process (`keep`), or may they move to another (`move`)?

Each stands for a way in which programs do, or do not, write what they share; its sentence says which. A case
that is `made` is a factory, called when the case is tried, which returns the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Function = Callable[..., Any]
NUMBERS = range(40)


class Case:
    """One labelled function and the items it is mapped over."""

    def __init__(self, label: str, story: str, function: Function, items: Iterable[Any], made: bool) -> None:
        self.label = label
        self.story = story
        self.name = function.__name__
        self.items = items
        self.function = function
        self._made = made

    def warmed_up(self) -> tuple[Function, Any]:
        """The function after three items have run here, and the next item: as a map finds it under auto."""
        function: Function = self.function() if self._made else self.function
        items = list(self.items)
        for item in items[:3]:
            function(item)
        return function, items[3]


CASES: list[Case] = []


def _label(label: str, story: str, items: Iterable[Any], made: bool) -> Callable[[Any], Any]:
    def enter(function: Any) -> Any:
        CASES.append(Case(label, story, function, items, made))
        return function

    return enter


def keep(story: str, items: Iterable[Any] = NUMBERS, made: bool = False) -> Callable[[Any], Any]:
    """In another process this function would lose something."""
    return _label("keep", story, items, made)


def move(story: str, items: Iterable[Any] = NUMBERS, made: bool = False) -> Callable[[Any], Any]:
    """In another process this function does the same."""
    return _label("move", story, items, made)
