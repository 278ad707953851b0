"""The kinds of jobs: what each takes, the command that it runs, and what comes of it.

One line per kind in `KINDS`; a command is one of our own and resumes when it is run again. Start
from `parse_spec`, then `Kind.check` at submission and `Kind.command` in the worker.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from cai.errors import ConfigError
from cai.evaluate.gates import check_limits
from cai.jobs.kind_constitution import CASES, IMPACT, LINT
from cai.jobs.kind_dataset import DATASET
from cai.jobs.kind_eval import EVAL
from cai.jobs.kind_feedback import FEEDBACK
from cai.jobs.kind_gate import GATE
from cai.jobs.kind_train import TRAIN
from cai.jobs.place import Kind
from cai.jobs.spec import JobSpec, Record
from cai.registry import choices, did_you_mean
from cai.yamlguard import describe

Params = TypeVar("Params", bound=Record)

KINDS: dict[str, Kind] = {
    "dataset": DATASET,
    "train": TRAIN,
    "eval": EVAL,
    "feedback": FEEDBACK,
    "gate": GATE,
    "lint": LINT,
    "constitution-test": CASES,
    "impact": IMPACT,
}


def parse_spec(raw: Any) -> JobSpec:
    """A job's request from foreign JSON. Raises ConfigError naming the key that is wrong."""
    spec = _validated(JobSpec, raw, "")
    kind = kind_of(spec.kind)
    params = _validated(kind.params, spec.params, "params")
    if spec.wants_gate:
        _check_promotion(spec, kind, params)
    return spec.model_copy(update={"params": params.model_dump(mode="json", exclude_unset=True)})


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises ConfigError naming what there is."""
    if name not in KINDS:
        raise ConfigError(f"no kind of job '{name[:100]}'{choices(name, KINDS)}", param="kind")
    return KINDS[name]


def params_of(spec: JobSpec) -> Record:
    """The parameters of a spec that was parsed before, as its kind's record."""
    return kind_of(spec.kind).params.model_validate(spec.params)


def _check_promotion(spec: JobSpec, kind: Kind, params: Record) -> None:
    """Raise ConfigError for what could only fail once everything else is done."""
    if not kind.is_training or getattr(params, "method", None) == "reward":
        made = "a reward model, which answers nobody" if kind.is_training else "no policy"
        raise ConfigError(
            f"auto_promote is for jobs that train a policy; this {spec.kind} job makes {made}",
            param="auto_promote",
        )
    try:
        check_limits(spec.limits)
    except ConfigError as exc:
        raise ConfigError(f"auto_promote: {exc.message}", param="auto_promote") from None


def _validated(model: type[Params], raw: Any, prefix: str) -> Params:
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    # An unknown key explains a missing one, so it is told first.
    unknown = (error for error in errors if error["type"] == "extra_forbidden")
    details = next(unknown, errors[0])
    path = ".".join(str(part) for part in (prefix, *details["loc"]) if part != "")
    name = path or "the job"
    if details["type"] == "extra_forbidden":
        guess = did_you_mean(str(details["loc"][-1]), model.model_fields)
        known = guess or f"; there are: {', '.join(model.model_fields)}"
        raise ConfigError(f"unknown key '{name[:100]}'{known}", param=name[:100])
    if details["type"] == "missing":
        raise ConfigError(f"'{name}' is missing", param=name)
    if details["type"] in ("model_type", "model_attributes_type", "dict_type"):
        raise ConfigError(f"{name} must be a mapping of keys to values", param=prefix or None)
    raise ConfigError(describe(details, name), param=name[:100])
