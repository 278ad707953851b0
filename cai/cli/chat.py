"""`cai chat`: one prompt, answered, criticised and revised before your eyes, with what changed."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from rich.text import Text

from cai.cli.output import clean, print_json
from cai.cli.stoppable import run_stoppable
from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.critique.loop import check_conversation, revise
from cai.critique.records import Step, Transcript
from cai.engine.open import open_engine, parse_engine_argument
from cai.errors import ConfigError
from cai.evaluate.diff import word_diff
from cai.settings import load_settings
from cai.types import Conversation, Message, Sampling
from cai.yamlguard import describe

_MARKS = {"gone": ("[-", "-]"), "new": ("{+", "+}"), "same": ("", "")}
_STYLES = {"gone": "red strike", "new": "green", "same": ""}


class ChatConfig(BaseModel):
    """What `cai chat` may be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revisions: int = Field(1, ge=0, le=16, description="Critique-revision steps, 0 to 16.")
    max_tokens: int = Field(512, ge=1, le=1_000_000, description="Most tokens of one answer.")
    temperature: float = Field(1.0, ge=0, le=2, description="Sampling temperature, 0 to 2.")
    seed: int = Field(0, ge=0, lt=2**63, description="Decides the draws of principles.")


def command(
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    constitution: Annotated[
        str, typer.Option("-c", "--constitution", help="name@2, name@draft or name.")
    ] = "harmless",
    revisions: Annotated[int, typer.Option(help="Critique-revision steps.")] = 1,
    engine: Annotated[str | None, typer.Option(help="Engine address.")] = None,
    engine_arg: Annotated[
        list[str] | None, typer.Option(help="An argument of the engine, name=value; repeatable.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of one answer.")] = 512,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Decides the draws of principles.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask one thing; see the draft, its critique, and the revision with what changed."""
    config = _config(revisions=revisions, max_tokens=max_tokens, temperature=temperature, seed=seed)
    conversation = (Message("user", prompt),)
    check_conversation(conversation)
    settings = load_settings({"engine": engine})
    found = ConstitutionStore(settings.constitutions).get(constitution)
    options = dict(parse_engine_argument(text) for text in engine_arg or ())
    shown = None if as_json else _Shown()
    transcript = run_stoppable(_chat(settings.engine, options, conversation, found, config, shown))
    if as_json:
        print_json(_as_dict(transcript))


def _config(**flags: Any) -> ChatConfig:
    try:
        return ChatConfig.model_validate(flags)
    except ValidationError as exc:
        details = exc.errors(include_url=False)[0]
        name = str(details["loc"][0])
        raise ConfigError(describe(details, f"--{name.replace('_', '-')}"), param=name) from None


async def _chat(
    address: str,
    options: dict[str, Any],
    conversation: Conversation,
    constitution: Constitution,
    config: ChatConfig,
    shown: _Shown | None,
) -> Transcript:
    async with AsyncExitStack() as stack:
        engine = await open_engine(address, options=options)
        stack.push_async_callback(engine.aclose)
        return await revise(
            engine,
            conversation,
            constitution,
            revisions=config.revisions,
            row="chat",
            seed=config.seed,
            sampling=Sampling(max_tokens=config.max_tokens, temperature=config.temperature),
            on_progress=shown,
        )


class _Shown:
    """Prints a transcript as it grows: in colour on a terminal, else with wdiff's marks."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._answer = ""

    def __call__(self, transcript: Transcript) -> None:
        if not transcript.steps:
            self._print("draft", Text(clean(transcript.draft)))
        else:
            self._step(transcript.steps[-1])
        self._answer = transcript.answer

    def _step(self, step: Step) -> None:
        self._print(f"critique under {step.principle}", Text(clean(step.critique)))
        if step.status == "revised":
            self._print("revision", self._change(step.revision or ""))
        elif step.status == "no_change":
            self._print("revision", Text("none: the critique found nothing to change"))
        else:
            why = (step.problem or "unusable").replace("_", " ")
            self._print("revision", Text(f"not usable ({why}); the answer before it remains"))

    def _change(self, revision: str) -> Text:
        in_colour = self._console.color_system is not None
        text = Text()
        for kind, piece in word_diff(self._answer, revision):
            before, after = ("", "") if in_colour else _MARKS[kind]
            text.append(f"{before}{clean(piece)}{after}", style=_STYLES[kind])
        return text

    def _print(self, heading: str, text: Text) -> None:
        self._console.print(Text(heading, style="bold"))
        self._console.print(text)
        self._console.print()


def _as_dict(transcript: Transcript) -> dict[str, Any]:
    return {
        "prompt": [message.as_dict() for message in transcript.prompt],
        "draft": transcript.draft,
        "steps": [step.as_dict() for step in transcript.steps],
        "answer": transcript.answer,
        "constitution": {
            "ref": transcript.constitution,
            "digest": transcript.constitution_digest,
        },
        "policy": transcript.policy,
        "usage": {
            "prompt_tokens": transcript.usage.prompt_tokens,
            "completion_tokens": transcript.usage.completion_tokens,
        },
    }
