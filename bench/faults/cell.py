"""One cell of the table: what a contender did under one fault."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What happened, in few words, and whether that is right."""

    is_right: bool
    happened: str

    def __str__(self) -> str:
        return f"{'right' if self.is_right else '**wrong**'}: {self.happened}"
