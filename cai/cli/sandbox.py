"""`cai sandbox`: prompts with their known nature, the oracle over answers, the model built anew."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cai.cli.output import print_json, print_text
from cai.errors import ConfigError, DataError
from cai.files import replace_text
from cai.sandbox import oracle
from cai.sandbox.prompts import KINDS
from cai.sandbox.prompts import prompts as draw_prompts
from cai.stats.intervals import rate_of
from cai.types import Message

app = typer.Typer(
    no_args_is_help=True, help="The small world in which the whole loop can be measured."
)


@app.command()
def prompts(
    out: Annotated[Path, typer.Option(help="The JSONL file to write.")],
    split: Annotated[
        Literal["train", "heldout"], typer.Option(help="Topics and phrasings to draw from.")
    ] = "train",
    kind: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(KINDS)}; all if unset.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=1_000_000, help="How many.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same prompts.")] = 0,
    turns: Annotated[int | None, typer.Option(help="1, 2 or 3; mixed if unset.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write prompts of the world, each with its known nature."""
    rows = [one.as_dict() for one in draw_prompts(split, kind, n, seed, turns=turns)]
    replace_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    kinds = dict(sorted(Counter(row["kind"] for row in rows).items()))
    if as_json:
        print_json({"out": str(out), "prompts": len(rows), "kinds": kinds})
        return
    print_text(f"{len(rows)} prompts in {out}: {', '.join(f'{v} {k}' for k, v in kinds.items())}")
    print_text(f"next: cai data generate {out} --out RUN -c harmless --engine sandbox")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help='JSONL lines with "prompt" and "response".')],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say by the oracle what answers are: rates with 95 % intervals."""
    report = _report([oracle.judge(prompt, response) for prompt, response in _rows(file)], file)
    if as_json:
        print_json(report)
        return
    for name, rate in report["rates"].items():
        low, high = rate["ci"]
        line = f"{name:<13}{rate['rate']:7.1%}   n={rate['n']}   95 % [{low:.1%}, {high:.1%}]"
        print_text(line)
    if report["flaws"]:
        print_text("flaws: " + ", ".join(f"{name} {num}" for name, num in report["flaws"].items()))
    if report["unknown_prompts"]:
        print_text(f"{report['unknown_prompts']} prompts are not of this world; read with care")


@app.command()
def build(
    out: Annotated[Path | None, typer.Option(help="Folder; the bundled one if unset.")] = None,
    seed: Annotated[int | None, typer.Option(help="The recipe's if unset.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer steps, for a trial.")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--refine", help="Polish this built model instead, into --out."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.1, help="Learning rate of --refine; the recipe's if unset."),
    ] = None,
) -> None:
    """Train the bundled model anew (an hour on two cores), or polish one (a quarter)."""
    from cai.sandbox.build import build as build_model
    from cai.sandbox.build import refine

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if rate is not None and source is None:
        raise ConfigError(
            "--rate is that of --refine; give --refine, or leave it out", param="rate"
        )
    if source is None:
        built = build_model(out, seed=seed, num_steps=steps)
    elif out is None or out.resolve() == source.resolve():
        raise ConfigError("--refine writes a new model; give --out another folder", param="out")
    else:
        built = refine(source, out, seed=seed, polish_steps=steps, learning_rate=rate)
    for split, measured in built["measured"].items():
        base, judge = measured["base"], measured["judge"]
        print_text(
            f"{split}: harmful {base['harmful']['rate']:.1%}, "
            f"jailbroken {base['jailbreak']['rate']:.1%}, "
            f"over-refusal {base['benign']['rate']:.1%}, "
            f"sycophantic {base['false_claim']['rate']:.1%}, "
            f"incoherent {base['incoherent']['rate']:.1%}; "
            f"judge right {judge['accuracy']['rate']:.1%}"
        )


def _report(verdicts: list[oracle.Verdict], file: Path) -> dict[str, Any]:
    if not verdicts:
        raise DataError(f"{file}: no lines to check")
    labels = Counter(verdict.label for verdict in verdicts)
    wrapped = [v for v in verdicts if v.request and v.request.kind == "jailbreak"]
    rates = {str(label): rate_of(labels[label], len(verdicts)) for label in oracle.LABELS}
    rates["jailbroken"] = rate_of(sum(v.jailbroken for v in wrapped), len(wrapped))
    return {
        "file": str(file),
        "rates": {name: rate.as_dict() for name, rate in rates.items() if rate},
        "flaws": dict(
            Counter(flaw for verdict in verdicts for flaw in verdict.flaws).most_common()
        ),
        "unknown_prompts": sum(verdict.request is None for verdict in verdicts),
    }


def _rows(file: Path) -> Iterator[tuple[oracle.Prompt, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{file}: cannot be read: {exc}") from exc
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompt = row["prompt"] if "prompt" in row else row["messages"]
            yield _prompt(prompt), _text(row["response"])
        except (ValueError, KeyError, TypeError) as exc:
            raise DataError(
                f'{file}:{number}: write {{"prompt": text or messages, "response": text}} '
                f"({type(exc).__name__}: {exc})"
            ) from exc


def _prompt(value: Any) -> oracle.Prompt:
    if isinstance(value, str):
        return value
    return [Message(turn["role"], _text(turn["content"])) for turn in value]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {type(value).__name__}")
    return value
