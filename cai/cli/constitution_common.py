"""What the commands of `cai constitution` share: the store and the judge that settings name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cai.cli.output import print_text, say
from cai.cli.stoppable import run_stoppable
from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.engine.base import Engine
from cai.engine.open import open_engine, parse_engine_argument
from cai.files import replace_text
from cai.settings import load_settings

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ExitZero = Annotated[
    bool, typer.Option("--exit-zero", help="Exit 0 whatever is found; bad input still is 2.")
]

EngineAddress = Annotated[
    str | None, typer.Option("--engine", help="Engine that judges: sandbox, vllm:…, http://…#model")
]
EngineArgs = Annotated[
    list[str] | None, typer.Option("--engine-arg", help="An argument of the engine, name=value.")
]


def open_store() -> ConstitutionStore:
    """The store that the settings name."""
    return ConstitutionStore(load_settings().constitutions)


def as_dict(constitution: Constitution) -> dict[str, Any]:
    """The JSON form: reference and digest, then the content with what is set."""
    content = constitution.model_dump(mode="json", exclude_none=True)
    return {"ref": constitution.ref, "digest": constitution.digest, **content}


def short(digest: str | None) -> str:
    """Enough of a digest for the eye."""
    return (digest or "").removeprefix("sha256:")[:12]


def put_out(text: str, out: Path | None) -> None:
    """Write the answer to a file and say so, or print it."""
    if out is None:
        print_text(text.removesuffix("\n"))
        return
    replace_text(out, text)
    say(f"wrote {out}")


def with_engine(
    address: str | None, args: Sequence[str] | None, work: Callable[[Engine], Awaitable[T]]
) -> T:
    """The result of `work` with the judge that the flag or the settings name."""
    settings = load_settings({"judge": address})
    options = dict(parse_engine_argument(text) for text in args or ())

    async def run() -> T:
        engine = await open_engine(settings.judge or settings.engine, options=options)
        try:
            return await work(engine)
        finally:
            await engine.aclose()

    return run_stoppable(run())
