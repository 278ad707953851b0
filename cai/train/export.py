"""From a trained model to a clean policy folder: weights, tokenizer, template, manifest, probes.

The folder is made beside its place under another name, sealed, and renamed: it is there whole or
not at all. Nothing of the training state goes into it. Start from `export_policy`.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cai.engine.model_folder import check_model_folder
from cai.errors import ConflictError, DataError, PolicyError
from cai.files import read_json, replace_json, replace_text, sync_folder
from cai.policy.manifest import PolicyManifest, Probe, read_manifest, seal
from cai.train.encode import Encoder
from cai.train.rows import Answer
from cai.types import Conversation

MAX_PROBE_TOKENS = 64
"""Most continuation tokens of a probe."""
_FEWEST_PROBE_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A finished policy: its folder, the manifest that vouches for it, the last figures."""

    folder: Path
    manifest: PolicyManifest
    metrics: dict[str, float]


def rounded(model: Any, dtype: torch.dtype) -> Any:
    """Round the parameters in place to what `dtype` can hold; they stay in the dtype they are in.

    Adapters must be merged before. Pass a copy if training goes on.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(dtype))
    return model


def probe_set(
    model: Any,
    tokenizer: Any,
    encoder: Encoder,
    prompts: Sequence[Conversation],
    *,
    num: int = 32,
    seed: int = 7,
    answers: Sequence[Answer] | None = None,
    max_length: int | None = None,
) -> tuple[Probe, ...]:
    """`num` fixed texts with the model's log-probs of each continuation token, in float32.

    Prompts are drawn by `seed`, in turn again where there are fewer. The continuation is the
    answer that belongs to a prompt, or else what the model itself finds likeliest, by greedy
    steps. A probe is shorter than the model's context, and than `max_length` where that is given:
    an engine takes no other. The model should hold the rounded weights that are exported
    (`rounded`).
    """
    if not prompts:
        raise DataError("there are no prompts to make probes of")
    draw = random.Random(f"probes|{seed}")
    order = draw.sample(range(len(prompts)), len(prompts))
    longest = _longest_probe(model, max_length)
    was_training = model.training
    model.eval()
    try:
        probes = []
        for number in range(num):
            index = order[number % len(order)]
            prompt_ids = encoder.prompt(prompts[index])
            if answers is not None:
                ids = encoder.answer(prompts[index], answers[index])[:MAX_PROBE_TOKENS]
            else:
                num_tokens = min(MAX_PROBE_TOKENS // 2, longest - len(prompt_ids))
                ids = _greedy(model, prompt_ids, encoder.end_ids, draw, num_tokens)
            probes.append(_probe(model, *_within(longest, prompt_ids, ids)))
        return tuple(probes)
    finally:
        model.train(was_training)


def export_policy(
    model: Any,
    tokenizer: Any,
    out: Path,
    *,
    dtype: torch.dtype,
    replace: bool = False,
    metrics: dict[str, float] | None = None,
    **fields: Any,
) -> Checkpoint:
    """Write `model` in `dtype` to `out` and seal it; `fields` are those of the manifest.

    `replace` allows a policy of the same name there. Raises ConflictError for any other folder at
    `out`, DataError when it cannot be written, and then leaves nothing behind.
    """
    check_out(out, name=fields["name"], replace=replace)
    figures = {n: float(value) for n, value in (metrics or {}).items() if math.isfinite(value)}
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write(model, tokenizer, temporary, dtype)
        manifest = seal(temporary, metrics=figures, **fields)
        _put_in_place(temporary, out)
    except (OSError, SafetensorError) as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(exc, "strerror", None) or " ".join(str(exc).split())[:200]
        raise DataError(f"{out}: the policy cannot be written: {reason}") from exc
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Checkpoint(out, manifest, figures)


def check_out(out: Path, *, name: str, replace: bool) -> None:
    """Raise ConflictError where `out` holds something that a policy may not take the place of."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        found = read_manifest(out)
    except PolicyError:
        raise ConflictError(
            f"{out}: exists and is no policy; give another --out, or move it away"
        ) from None
    if not replace or found.name != name:
        raise ConflictError(
            f"{out}: holds the policy '{found.name}' of {found.created_at}; give another --out, or "
            "replace it with --fresh"
        )


def state_in(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A model's tensors on the CPU, floating ones in `dtype`; tied ones stay one tensor.

    A copy of each would be written beside the other, and an engine has no place for it.
    """
    made: dict[Any, torch.Tensor] = {}
    state = {}
    for name, tensor in tensors.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if place not in made or not tensor.numel():
            wanted = dtype if tensor.is_floating_point() else tensor.dtype
            made[place] = tensor.detach().to(device="cpu", dtype=wanted)
        state[name] = made[place]
    return state


def _write(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    state = state_in(model.state_dict(), dtype)
    had_cache, model.config.use_cache = model.config.use_cache, True
    try:
        model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    finally:
        model.config.use_cache = had_cache
    for name in ("config.json", "adapter_config.json"):
        if (folder / name).exists():
            _tidy_config(folder / name, dtype)
    tokenizer.save_pretrained(folder)
    if tokenizer.chat_template is not None and not (folder / "chat_template.jinja").exists():
        template = tokenizer.chat_template
        text = template["default"] if isinstance(template, dict) else template
        replace_text(folder / "chat_template.jinja", text)
    (folder / "training_args.bin").unlink(missing_ok=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template of a model card
    if (folder / "config.json").exists():
        check_model_folder(folder)


def _tidy_config(path: Path, dtype: torch.dtype) -> None:
    """Say the dtype that was stored, and no path of this machine."""
    config = read_json(path)
    if path.name == "config.json":
        config["dtype"] = str(dtype).removeprefix("torch.")
        config.pop("torch_dtype", None)
    config.pop("_name_or_path", None)
    if "/" in str(config.get("base_model_name_or_path", "")):
        config["base_model_name_or_path"] = Path(config["base_model_name_or_path"]).name
    replace_json(path, config)


def _put_in_place(temporary: Path, out: Path) -> None:
    """Rename, with what was there before moved aside until the new one stands."""
    aside = out.parent / f".{out.name}.{os.getpid()}.old"
    had = out.exists()
    if had:
        os.replace(out, aside)
    try:
        os.replace(temporary, out)
    except BaseException:
        if had:
            os.replace(aside, out)
        raise
    sync_folder(out.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _longest_probe(model: Any, max_length: int | None) -> int:
    """Most tokens of a probe: an engine wants room for one more behind them."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [limit - 1 for limit in (max_length, context) if limit is not None]
    return min(limits, default=sys.maxsize)


def _within(
    longest: int, prompt_ids: Sequence[int], ids: Sequence[int]
) -> tuple[Sequence[int], Sequence[int]]:
    """The two parts of a probe. Of a longer text the beginning counts, its end as continuation."""
    whole = [*prompt_ids, *ids][:longest]
    start = len(prompt_ids)
    if len(whole) == longest:
        start = min(start, longest - min(_FEWEST_PROBE_TOKENS, longest // 2))
    return whole[:start], whole[start:]


@torch.no_grad()  # type: ignore[untyped-decorator]
def _greedy(
    model: Any,
    prompt_ids: Sequence[int],
    end_ids: frozenset[int],
    draw: random.Random,
    num_tokens: int,
) -> list[int]:
    """A likely continuation: at each step one of the two best tokens, mostly the first."""
    ids = list(prompt_ids)
    cache, fed = None, ids
    for _ in range(num_tokens):
        output = model(
            input_ids=torch.tensor([fed], device=model.device),
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        best = output.logits[0, -1].float().topk(2).indices.tolist()
        token = best[draw.random() < 0.1]
        ids.append(token)
        fed = [token]
        if token in end_ids:
            break
    return ids[len(prompt_ids) :]


@torch.no_grad()  # type: ignore[untyped-decorator]
def _probe(model: Any, prompt_ids: Sequence[int], continuation_ids: Sequence[int]) -> Probe:
    ids = torch.tensor([[*prompt_ids, *continuation_ids]], device=model.device)
    with torch.autocast(ids.device.type, enabled=False):
        logits_TV = model(input_ids=ids, use_cache=False).logits[0].float()
    start = len(prompt_ids) - 1
    logprobs_TV = logits_TV[start:-1].log_softmax(-1)
    picked_T = logprobs_TV.gather(1, ids[0, len(prompt_ids) :, None])[:, 0]
    return Probe(
        prompt_ids=tuple(prompt_ids),
        continuation_ids=tuple(continuation_ids),
        logprobs=tuple(picked_T.tolist()),
    )
