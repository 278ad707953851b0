"""`cai eval bench`: tasks of the evaluation harness, asked of a policy on a running server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from cai.cli.constitution_common import Json
from cai.cli.output import print_json, print_table, say
from cai.cli.server_client import KEY_VARIABLE, ServerClient
from cai.cli.stoppable import stopping_on_sigterm
from cai.errors import CaiError, ConfigError, DataError, NotFoundError
from cai.evaluate import bench
from cai.evaluate.lm_eval import Asked, find_program, run
from cai.evaluate.results import (
    EvalResult,
    PolicyRef,
    check_id,
    load,
    new_id,
    now,
    save,
    save_lines,
)
from cai.policy.address import folder_of
from cai.registry import choices
from cai.settings import load_settings


def command(
    tasks: Annotated[list[str], typer.Argument(help="Tasks of lm_eval, as hellaswag or mmlu.")],
    policy: Annotated[str, typer.Option(help="A policy that the server serves, or live.")] = "live",
    url: Annotated[str | None, typer.Option(help="The running server; else CAI_URL's.")] = None,
    include_path: Annotated[
        Path | None, typer.Option(help="Folder of your own tasks, in lm_eval's format.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many items a task.")] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(min=0, help="Examples before each item; left out, the task's own.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of the tokenizer; left out, the policy's own folder."),
    ] = None,
    lm_eval: Annotated[
        str | None,
        typer.Option(help="The program lm_eval of another environment; else CAI_LM_EVAL's."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1024, help="Requests at work at once.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of lm_eval's draws.")] = 1234,
    compare: Annotated[
        str | None,
        typer.Option(help="A policy, or a result's id, measured before: what training cost."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Id of the result; left out, one with the time in it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a policy on benchmarks through EleutherAI's lm-evaluation-harness, run as it is.

    The harness asks the server's /v1/completions. Its results are kept with the policy's reference;
    --compare sets those of another policy on the same tasks beside them. Where a task's data cannot
    be downloaded, --include-path takes a copy of the task with local files.
    """
    settings = load_settings({"url": url, "lm_eval": lm_eval})
    id = check_id(settings.home, out) if out is not None else new_id("bench")
    if settings.url is None:
        raise ConfigError("name the running server with --url, or CAI_URL", param="url")
    if include_path is not None and not include_path.is_dir():
        raise ConfigError(f"--include-path: no folder at {include_path}", param="include_path")
    program = find_program(settings.lm_eval)
    with ServerClient(settings.url) as server:
        models = server.get("/v1/models")
        served = _served(models, policy)
        address = server.url
    asked = Asked(
        tasks=tuple(tasks),
        url=address,
        model=_own_name(models, served),
        tokenizer=tokenizer or _tokenizer(policy, served),
        max_length=served.get("max_model_len") or Asked._field_defaults["max_length"],
        limit=limit,
        num_fewshot=num_fewshot,
        include_path=include_path,
        concurrency=concurrency,
        seed=seed,
    )
    result = _result(id, policy, served, asked)
    base = None if compare is None else bench.find_base(settings.home, compare, result)
    with stopping_on_sigterm():
        raw = run(program, asked, api_key=os.environ.get(KEY_VARIABLE))
    result = _kept(settings.home, result, raw, base)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _print(result)
        say(f"kept; see it with: cai eval show {result.id}")
    bench.check_figures(result.figures)
    if base is not None and "compared" not in result.figures:
        raise DataError(
            f"'{base.id}' has another version of a task than was measured now, so nothing is "
            f"compared; measure {base.policies[0].ref} anew",
            param="compare",
        )


def _kept(
    home: Path, result: EvalResult, raw: dict[str, Any], base: EvalResult | None
) -> EvalResult:
    """The record with its figures, and the harness's own results beside it."""
    figures = bench.figures(raw)
    files = {"harness.jsonl": [bench.finite(raw)]}
    if not figures["tasks"]:
        folder, _ = save_lines(home, result.id, files)
        say(f"the harness's own results are kept in {folder}")
        bench.check_figures(figures)
    settings = {**result.settings, "versions": raw.get("versions", {})}
    result = result.model_copy(update={"figures": figures, "settings": settings})
    if base is not None and bench.is_same_measure(base, result):
        more = {"compared": bench.compared(result, base)}
        result = result.model_copy(update={"figures": {**figures, **more}})
    return load(save(home, result, files), home)


def _served(models: Any, policy: str) -> dict[str, Any]:
    """The server's entry of the policy, by the name it goes by or that of what is live."""
    entries: list[dict[str, Any]] = models["data"]
    for one in entries:
        if policy in (one["id"], one.get("cai", {}).get("policy")):
            return one
    known = [one["id"] for one in entries]
    raise NotFoundError(
        f"the server serves no policy '{policy[:100]}'{choices(policy, known)}", param="policy"
    )


def _own_name(models: Any, served: dict[str, Any]) -> str:
    """What the harness asks for: the policy itself, since `live` may be shared out by a split."""
    policy = served.get("cai", {}).get("policy")
    return str(policy if policy in [one["id"] for one in models["data"]] else served["id"])


def _tokenizer(policy: str, served: dict[str, Any]) -> str:
    """The policy's folder on this machine."""
    for ref in (served.get("cai", {}).get("policy"), policy):
        try:
            return str(folder_of(ref).absolute())
        except CaiError:
            continue
    raise ConfigError(
        f"no folder of '{policy[:100]}' is here to take its tokenizer from; name one with "
        "--tokenizer",
        param="tokenizer",
    )


def _result(id: str, policy: str, served: dict[str, Any], asked: Asked) -> EvalResult:
    """The record, as yet without figures."""
    about = served.get("cai", {})
    return EvalResult(
        id=id,
        kind="bench",
        created_at=now(),
        policies=(
            PolicyRef(ref=policy, digest=about.get("digest"), model=about.get("policy", policy)),
        ),
        seed=asked.seed,
        settings={
            "tasks": list(asked.tasks),
            "limit": asked.limit,
            "num_fewshot": asked.num_fewshot,
            "seed": asked.seed,
            "max_length": asked.max_length,
            "include_path": asked.include_path and str(asked.include_path.resolve()),
        },
    )


def _print(result: EvalResult) -> None:
    against = result.figures.get("compared")
    columns = ["task", "metric", "value", "95 %", "n"]
    if against is not None:
        columns += [f"less {against['policy']}", "95 %"]
    rows = []
    for task, metrics in result.figures["tasks"].items():
        for name, figure in metrics.items():
            row = [task, name, *_cells(figure)]
            if against is not None:
                row += _change(against["tasks"].get(task, {}).get(name, {}))
            rows.append(row)
    print_table(columns, rows)


def _cells(figure: dict[str, Any]) -> list[object]:
    value = figure["rate"] if "rate" in figure else figure["value"]
    ends = figure.get("ci")
    return [f"{value:.4f}", ends and f"{ends[0]:.4f} to {ends[1]:.4f}", figure.get("n")]


def _change(change: dict[str, Any]) -> list[object]:
    if not change:
        return [None, None]
    ends = change.get("ci")
    return [f"{change['difference']:+.4f}", ends and f"{ends[0]:+.4f} to {ends[1]:+.4f}"]
