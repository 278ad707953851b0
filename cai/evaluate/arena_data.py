"""Pairwise verdicts of an arena, one game a line: who met whom on which prompt, and who won.

    {"prompt_id", "a", "b", "winner": "a" | "b" | "tie", "len_a", "len_b", "source"}

`p_a`, the probability that a's answer is better, may stand in the place of `winner`.

Anything wrong is refused by file and line. Start from `read_games`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cai.dataset.importers.records import Record, Skipped, iter_records
from cai.errors import DataError
from cai.registry import choices
from cai.stats.ratings import Comparison
from cai.yamlguard import describe

Player = Annotated[str, Field(min_length=1, max_length=200)]
Length = Annotated[int, Field(ge=0)]

_RESULTS = {"a": 1.0, "b": 0.0, "tie": 0.5}


class Game(BaseModel):
    """One comparison of two policies' answers to one prompt, by a judge or a person."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt_id: str | int
    a: Player
    b: Player
    winner: Literal["a", "b", "tie"] | None = None
    p_a: float | None = Field(default=None, ge=0, le=1)
    """Probability that a's answer is the better one; it counts as that share of a win."""
    len_a: Length | None = None
    len_b: Length | None = None
    """Lengths of the answers, in one unit for all games."""
    source: str = Field(default="judge", max_length=200)

    @model_validator(mode="after")
    def _check_result(self) -> Game:
        if self.a == self.b:
            raise ValueError(f"a and b are both '{self.a}'; a game has two policies")
        if self.winner is None and self.p_a is None:
            raise ValueError("no result: give 'winner' (a, b or tie) or 'p_a'")
        if self.winner is not None and self.p_a is not None and self.winner != _who(self.p_a):
            raise ValueError(f"'winner' is {self.winner} and 'p_a' is {self.p_a}: which is meant?")
        return self

    @property
    def result(self) -> float:
        """The share of the game that is a's: 1 for a win, 0.5 for a tie."""
        if self.p_a is not None:
            return self.p_a
        assert self.winner is not None, "a game has a result"
        return _RESULTS[self.winner]

    @property
    def style(self) -> float | None:
        """How much longer a's answer is: the difference over the sum, -1 to 1."""
        if self.len_a is None or self.len_b is None:
            return None
        total = self.len_a + self.len_b
        return (self.len_a - self.len_b) / total if total else 0.0

    def comparison(self, places: Mapping[str, int]) -> Comparison:
        """The game among policies by number."""
        return Comparison(places[self.a], places[self.b], self.result)

    def as_dict(self) -> dict[str, Any]:
        """The line of a file."""
        return self.model_dump(exclude_none=True)


def read_games(path: Path, *, known: Collection[str] = ()) -> list[Game]:
    """The games of a file, in its order. With `known`, only these policies may play.

    Raises DataError by line for anything wrong, and for a file without a game.
    """
    games = list(_games(path, known))
    if not games:
        raise DataError(
            f"{path}: there is no game in the file; a line is "
            '{"prompt_id": 1, "a": "base", "b": "dpo", "winner": "b"}'
        )
    return games


def _games(path: Path, known: Collection[str]) -> Iterator[Game]:
    for record in iter_records(path):
        where = f"{path}:{record.line}"
        if isinstance(record, Skipped):
            raise DataError(f"{where}: {record.detail}")
        game = _game(record, where)
        for player in (game.a, game.b):
            if known and player not in known:
                raise DataError(f"{where}: no policy '{player[:100]}' here{choices(player, known)}")
        yield game


def _game(record: Record, where: str) -> Game:
    try:
        return Game.model_validate(record.value)
    except ValidationError as exc:
        details = exc.errors(include_url=False)[0]
        name = ".".join(str(part) for part in details["loc"]) or "the game"
        raise DataError(f"{where}: {describe(details, name)}") from exc


def _who(p_a: float) -> str:
    return "a" if p_a > 0.5 else "b" if p_a < 0.5 else "tie"
