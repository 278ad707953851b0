"""Loads the models that are trained: checked folders, safetensors, no code, adapters where asked.

Weights that are trained are in float32 whatever is computed in, so that small steps are not lost
in rounding; frozen ones are in the precision that is computed in. Start from `prepare`, then
`load_policy` or `load_reward_model`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from cai.errors import ConfigError, PolicyError
from cai.files import digest_bytes
from cai.settings import load_settings
from cai.train.config import CommonConfig, LoraConfig
from cai.train.encode import Encoder
from cai.train.facts import ModelFacts, locate
from cai.train.memory import check_memory

ConfigT = TypeVar("ConfigT", bound=CommonConfig)


@dataclass(frozen=True, slots=True)
class Prepared(Generic[ConfigT]):
    """What is to be trained and how, known before a byte of weights is read.

    `config` is resolved, with every choice made for this model: use it from here on.
    """

    facts: ModelFacts
    config: ConfigT


@dataclass(frozen=True, slots=True)
class LoadedPolicy(Generic[ConfigT]):
    """A model with its tokenizer, and the resolved config. `dtype` is what the result is stored in.

    `kind` is the class of transformers that loads it again.
    """

    kind: Any
    model: Any
    tokenizer: Any
    encoder: Encoder
    facts: ModelFacts
    config: ConfigT
    dtype: torch.dtype

    @property
    def folder(self) -> Path:
        """Where the weights came from."""
        return self.facts.folder

    @property
    def digest(self) -> str:
        """Identity of the weights, tokenizer and template."""
        return self.facts.digest

    @property
    def template_digest(self) -> str | None:
        """Digest of the chat template."""
        return self.encoder.renderer.template_digest

    @property
    def num_trained(self) -> int:
        """Parameters that learn."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def prepare(ref: str, config: ConfigT, *, home: Path | None = None) -> Prepared[ConfigT]:
    """Find and check the model, resolve the config for it, and see that memory can suffice.

    Raises ConfigError for a folder with code or memory that cannot suffice, NotFoundError for an
    unknown name, PolicyError for a policy that is not what was sealed.
    """
    quiet()
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    folder = locate(ref, load_settings().home if home is None else home)
    facts = ModelFacts.of(folder, ref)
    try:
        resolved = config.resolved(
            facts.num_parameters,
            context=facts.context,
            world_size=world_size(),
            has_bf16=has_bf16(),
        )
    except ValueError as exc:
        raise ConfigError(str(exc)) from None
    if resolved.precision == "bf16" and torch.cuda.is_available() and not has_bf16():
        raise ConfigError("this GPU does not compute in bf16; set precision to fp32")
    check_memory(facts, resolved)
    return Prepared(facts, resolved)


def load_policy(
    ref: str,
    config: ConfigT,
    *,
    device: Any = None,
    home: Path | None = None,
    prepared: Prepared[ConfigT] | None = None,
) -> LoadedPolicy[ConfigT]:
    """The causal model that `ref` names, ready to be trained.

    `prepared` is the answer of `prepare`, where it was called before. Raises what `prepare`
    raises, and ConfigError for a chat template that will not do.
    """
    facts, resolved = _unpack(prepared or prepare(ref, config, home=home))
    if facts.manifest is not None and facts.manifest.kind == "reward":
        raise ConfigError(f"{ref}: a reward model answers nothing; name a policy")
    tokenizer = load_tokenizer(facts.folder)
    encoder = Encoder(tokenizer, end_ids=_end_ids(facts.folder, tokenizer))
    model = _for_training(AutoModelForCausalLM, facts.folder, resolved)
    return _loaded(AutoModelForCausalLM, model, encoder, facts, resolved, device)


def load_reward_model(
    ref: str,
    config: ConfigT,
    *,
    device: Any = None,
    home: Path | None = None,
    prepared: Prepared[ConfigT] | None = None,
) -> LoadedPolicy[ConfigT]:
    """A classifier with one output on the body of `ref`; a reward model's own head is kept.

    A new head is drawn from `config.seed`.
    """
    facts, resolved = _unpack(prepared or prepare(ref, config, home=home))
    tokenizer = load_tokenizer(facts.folder)
    encoder = Encoder(tokenizer, end_ids=_end_ids(facts.folder, tokenizer))
    kind = AutoModelForSequenceClassification
    torch.manual_seed(resolved.seed)
    more = {"num_labels": 1, "pad_token_id": encoder.pad_id}
    model = _for_training(kind, facts.folder, resolved, **more)
    return _loaded(kind, model, encoder, facts, resolved, device)


def load_saved(policy: LoadedPolicy[Any], folder: Path) -> Any:
    """The model of a checkpoint that `policy` was trained to, in float32, adapters merged.

    With `lora.merge` false the adapters stay apart. Config and end tokens are those of the model
    that training began from: trainers write their own into a checkpoint. A classifier has no
    generation config, so its config names the end tokens.
    """
    lora = policy.config.lora
    more: dict[str, Any] = {}
    if policy.kind is AutoModelForSequenceClassification:
        more = {"num_labels": 1, "pad_token_id": policy.encoder.pad_id}
    if lora is None:
        config = transformers.AutoConfig.from_pretrained(
            policy.folder, local_files_only=True, trust_remote_code=False, **more
        )
        model = _load(policy.kind, folder, dtype=torch.float32, config=config)
    else:
        import peft

        model = _load(policy.kind, policy.folder, dtype=torch.float32, **more)
        model = peft.PeftModel.from_pretrained(model, str(folder))
        model = model.merge_and_unload() if lora.merge else model
    if model.can_generate():
        model.generation_config = _generation_config(policy.folder, policy.encoder.end_ids)
    else:
        end_ids = sorted(policy.encoder.end_ids)
        model.config.eos_token_id = end_ids[0] if len(end_ids) == 1 else end_ids
    return model.eval()


def load_frozen(
    kind: Any, folder: Path, *, dtype: torch.dtype = torch.float32, device: Any = None, **more: Any
) -> Any:
    """A model of class `kind` for evaluation alone: a reference, a reward model, a judge."""
    model = _load(kind, folder, dtype=dtype, **more).eval().requires_grad_(False)
    return model if device is None else model.to(device)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checked model folder, from its files alone."""
    quiet()
    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_fast=True
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{folder}: no usable tokenizer: {_one_line(exc)}") from exc


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of what decides the ids of a text: the vocabulary, its merges and its rules."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest_bytes(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    description = json.loads(backend.to_str())
    description |= {"truncation": None, "padding": None}
    return digest_bytes(json.dumps(description, sort_keys=True).encode())


def check_same_tokenizer(first: Any, second: Any, *, what: str) -> None:
    """Raise ConfigError when two models read other ids; `what` names the second one."""
    if tokenizer_digest(first) != tokenizer_digest(second):
        raise ConfigError(
            f"{what} has another tokenizer than the policy, so it would read other words; train it "
            "from the same base"
        )


def with_lora(model: Any, lora: LoraConfig, task: str, seed: int) -> Any:
    """The model with its weights frozen and adapters that learn, drawn from `seed`.

    `task` is CAUSAL_LM or SEQ_CLS, whose head learns as a whole.
    """
    import peft

    torch.manual_seed(seed)
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    settings = peft.LoraConfig(
        task_type=task,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
    )
    try:
        return peft.get_peft_model(model, settings)
    except ValueError as exc:
        raise ConfigError(f"lora.targets: {_one_line(exc)}", param="lora.targets") from exc


def quiet() -> None:
    """Silence what the libraries say on stderr: progress is told by our own callbacks."""
    import datasets

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def has_bf16() -> bool:
    """Whether there is an accelerator that computes in bf16."""
    return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())


def world_size() -> int:
    """Processes of this run, as `accelerate launch` and `torchrun` say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Return when every process of the run has come here."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def _unpack(prepared: Prepared[ConfigT]) -> tuple[ModelFacts, ConfigT]:
    return prepared.facts, prepared.config


def _for_training(kind: Any, folder: Path, config: CommonConfig, **more: Any) -> Any:
    is_low = config.lora is not None and config.precision == "bf16"
    if getattr(config, "packing", False) and find_spec("flash_attn") is not None:
        more["attn_implementation"] = "flash_attention_2"
    model = _load(kind, folder, dtype=torch.bfloat16 if is_low else torch.float32, **more)
    model.config.use_cache = False  # of no use in training, and at odds with checkpointing
    if config.lora is not None:
        task = "CAUSAL_LM" if kind is AutoModelForCausalLM else "SEQ_CLS"
        model = with_lora(model, config.lora, task, config.seed)
    return model.train()


def _load(kind: Any, folder: Path, *, dtype: torch.dtype, **more: Any) -> Any:
    quiet()
    try:
        return kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **more,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        raise PolicyError(f"{folder}: the weights cannot be loaded: {_one_line(exc)}") from exc


def _loaded(
    kind: Any, model: Any, encoder: Encoder, facts: ModelFacts, config: ConfigT, device: Any
) -> LoadedPolicy[ConfigT]:
    tokenizer = encoder.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(encoder.pad_id)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = encoder.pad_id
    model = model if device is None else model.to(device)
    dtype = getattr(torch, facts.dtype)
    return LoadedPolicy(kind, model, tokenizer, encoder, facts, config, dtype)


def _end_ids(folder: Path, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a generation, by the folder's own files."""
    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return frozenset(
        {*_as_ids(config.eos_token_id), *_as_ids(tokenizer.eos_token_id)}
        | set(_generation_config(folder, ()).eos_token_id or ())
    )


def _generation_config(folder: Path, end_ids: Collection[int]) -> Any:
    """The folder's own, without sampling settings that would not go together."""
    try:
        found = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:
        found = transformers.GenerationConfig()
    known = {*_as_ids(found.eos_token_id), *end_ids}
    found.eos_token_id = sorted(known) or None
    return found


def _as_ids(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300] or type(exc).__name__
