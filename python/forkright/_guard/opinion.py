"""What the guard thinks of a function: the findings that hold its work back, what it excused, what it could
not see.

Made by `check`, read by whoever is about to move work, and by the report. Without it nobody knows why work
stayed.
"""

from __future__ import annotations


class Finding:
    """One place where a process would lose, or double, something that the caller shares."""

    __slots__ = ("file", "kind", "line", "name", "sentence")

    def __init__(self, kind: str, sentence: str, name: str, file: str, line: int) -> None:
        self.kind = kind
        self.sentence = sentence
        self.name = name
        self.file = file
        self.line = line

    def __repr__(self) -> str:
        return f"Finding({self.kind!r}, {self.name!r}, {self.file!r}, {self.line})"


class Opinion:
    """The findings about a function, the notes worth telling, those of them that tell what was not followed, and the
    context variables that it reads.
    """

    __slots__ = ("doubts", "findings", "notes", "variables")

    def __init__(
        self,
        findings: tuple[Finding, ...],
        notes: tuple[str, ...],
        doubts: tuple[str, ...],
        variables: tuple[object, ...] = (),
    ) -> None:
        self.findings = findings
        self.notes = notes
        self.doubts = doubts
        self.variables = variables

    @property
    def conclusive(self) -> bool:
        """Whether all of it was followed."""
        return not self.doubts

    @property
    def keeps(self) -> bool:
        """Whether something was found for which the work has to stay in this process."""
        return bool(self.findings)

    def __repr__(self) -> str:
        return f"Opinion(findings={self.findings!r}, notes={self.notes!r}, doubts={self.doubts!r})"
