"""`cai data export` and `cai data card`: a run for others' tools, and what is to be known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from cai.cli.generate_config import assign, settings_error
from cai.cli.output import print_json, print_text, say
from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.dataset.card import card_files, write_card
from cai.dataset.export import (
    FORMATS,
    BatchOptions,
    ExportOptions,
    ExportReport,
    export_batch,
    export_rows,
    read_answers,
    read_rows,
)
from cai.dataset.facts import survey
from cai.dataset.prompts import iter_prompts
from cai.dataset.records import DONE, MANIFEST, REJECTED, ROWS
from cai.dataset.resume import read_manifest
from cai.errors import CaiError, ConfigError, ConflictError
from cai.files import read_jsonl
from cai.settings import load_settings

Options = TypeVar("Options", bound=BaseModel)

BATCH = "openai-batch"


def export(
    run: Annotated[Path, typer.Argument(help=f"A run, or its {ROWS}; prompts for {BATCH}.")],
    format: Annotated[str, typer.Option(help=f"One of {', '.join((*FORMATS, BATCH))}.")],
    out: Annotated[
        Path, typer.Option(help="A file (.jsonl, .jsonl.gz, .parquet, .json), else a folder.")
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the export, key=value.")
    ] = None,
    constitution: Annotated[
        str | None, typer.Option("-c", "--constitution", help="The one that the run was made by.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help=f"Prompts of {BATCH}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a run's pairs in the format of another tool; a folder gets a card and two splits."""
    if format == BATCH:
        options = _options(BatchOptions, set_)
        prompts = iter_prompts(_prompts_of(run), limit=limit)
        report = export_batch(prompts, out, model=options.model, sampling=options.sampling())
    elif limit is not None:
        raise ConfigError(f"--limit is for {BATCH} alone; an export holds all rows", param="limit")
    else:
        report = _export_run(run, format, out, _options(ExportOptions, set_), constitution)
    if as_json:
        print_json({"out": str(out), "format": format, **report.as_dict()})
    else:
        print_text("\n".join(_lines(report, out, format)))


def card(
    run: Annotated[Path, typer.Argument(help="A run directory with pairs.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the card; the run's own.")] = None,
    constitution: Annotated[
        str | None, typer.Option("-c", "--constitution", help="The one that the run was made by.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading; the run's name.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence, as the hub names it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the dataset card of a run, README.md, and the picture of its margins beside it."""
    manifest = read_manifest(run)
    found = _constitution(run, manifest, constitution)
    path = write_card(run, out=out, constitution=found, title=title, license=license)
    if as_json:
        print_json({"run": str(run), "card": str(path), "constitution": found and found.ref})
        return
    print_text(str(path))
    print_text(f"next: cai data export {run} --format trl --out {run}.trl.jsonl")


def _export_run(
    run: Path, format: str, out: Path, options: ExportOptions, ref: str | None
) -> ExportReport:
    manifest = read_manifest(run) if (run / MANIFEST).exists() else {}
    found = _constitution(run, manifest, ref)
    if manifest and not (run / DONE).exists():
        say(f"{run}: the run is not done; what it has so far is exported")
    if format == "trl-sft" and run.is_dir() and not (run / ROWS).exists():
        return export_rows(read_answers(run), format, out, options=options, name=run.name)

    def describe(files: Mapping[str, str], _report: ExportReport) -> dict[str, str]:
        rejected = read_jsonl(run / REJECTED) if run.is_dir() else ()
        return card_files(
            survey(read_rows(run)),
            title=out.name,
            files=files,
            manifest=manifest,
            rejected=Counter((row["stage"], row["reason"]) for row in rejected),
            constitution=found,
        )

    return export_rows(
        read_rows(run),
        format,
        out,
        options=options,
        constitution=found,
        card=describe,
        name=out.stem,
    )


def _constitution(run: Path, manifest: Mapping[str, Any], ref: str | None) -> Constitution | None:
    """The one that is named, or else the run's own where it is at hand, unchanged."""
    made_by = manifest.get("constitution", {})
    if ref is None and not made_by:
        return None
    store = ConstitutionStore(load_settings().constitutions)
    try:
        found = store.get(ref or made_by["ref"])
    except CaiError:
        if ref is not None:
            raise
        say(f"{made_by['ref']} is not at hand, so its text is left out; name it with -c")
        return None
    if not made_by or found.digest == made_by["digest"]:
        return found
    if ref is None:
        say(f"{made_by['ref']} was changed since, so its text is left out")
        return None
    raise ConflictError(
        f"{run}: made by {made_by['ref']} of digest {made_by['digest']}, and {found.ref} has "
        f"{found.digest}; give the one it was made by",
        param="constitution",
    )


def _prompts_of(run: Path) -> Path:
    """A prompt file as it is; of a run, the one that it was made from."""
    if not run.is_dir():
        return run
    manifest = read_manifest(run)
    if "prompts" not in manifest:
        raise ConfigError(f"{run}: made of no prompts; name a prompt file", param="run")
    return Path(manifest["prompts"]["path"])


def _options(model: type[Options], sets: list[str] | None) -> Options:
    values: dict[str, Any] = {}
    for assignment in sets or ():
        assign(values, assignment)
    try:
        return model.model_validate(values)
    except ValidationError as exc:
        raise settings_error(exc, model) from None


def _lines(report: ExportReport, out: Path, format: str) -> list[str]:
    splits = [f"{number:,} {split}" for split, number in report.splits.items() if split != "all"]
    total = f"{report.splits.total():,} records" + (f" ({', '.join(splits)})" if splits else "")
    lines = [f"{out}: {total}"]
    if report.left_out:
        told = ", ".join(f"{why} {number:,}" for why, number in sorted(report.left_out.items()))
        lines.append(f"{report.left_out.total():,} left out: {told}")
    if how := _how_to_read(out, format):
        lines.append(f'next: python -c "from datasets import load_dataset; print({how})"')
    return lines


def _how_to_read(out: Path, format: str) -> str | None:
    if format in (BATCH, "annotated-pairs"):
        return None
    if out.is_dir():
        return f"load_dataset('{out}')"
    kind = "parquet" if out.suffix == ".parquet" else "json"
    return f"load_dataset('{kind}', data_files='{out}')"
