"""What of a pipeline has no plain equivalent: said in the file where it matters, and told to whoever ejects it."""

from __future__ import annotations

from aiflow_sdk.eject.layout import comment
from aiflow_sdk.errors import AiflowError, DefinitionError, ProblemsError, Where


class Notes:
    """Warnings and errors, collected while a pipeline is written down."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._problems: list[AiflowError] = []

    def add(self, warning: str) -> list[str]:
        """Remember a warning and return it as the lines of a comment."""
        if warning not in self.warnings:
            self.warnings.append(warning)
        return comment(f"NOTE: {warning}.")

    def refuse(self, message: str, where: Where, hint: str) -> None:
        """Remember that something cannot be written as plain code."""
        self._problems.append(DefinitionError("cannot-eject", message, where=where, hint=hint))

    def check(self) -> None:
        """Raise what was refused: the one error, or all as ``ProblemsError``."""
        if len(self._problems) == 1:
            raise self._problems[0]
        if self._problems:
            raise ProblemsError(self._problems)
