"""Trains the bundled model from scratch: `python -m cai.sandbox.build`, or `build` from here.

The one place of the sandbox that loads torch and transformers' models. Writes weights, tokenizer,
template and `manifest.json`, with the rates measured on both splits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from cai.constitution.schema import Constitution
from cai.constitution.store import ConstitutionStore
from cai.critique.prompts import CRITIQUE, REVISION
from cai.feedback.prompts import COMPARE_HEAD, COMPARE_TAIL
from cai.files import replace_json
from cai.sandbox import manifest
from cai.sandbox.build.reader import Reader
from cai.sandbox.build.training import Recipe, polish, train
from cai.sandbox.dialogues import LESSON, all_texts
from cai.sandbox.dimensions import DIMENSIONS
from cai.sandbox.measure import measure
from cai.sandbox.principles import Texts, every_text, texts_of
from cai.sandbox.tokenizer import BOS, END, PAD, Encoder, save_tokenizer, train_tokenizer
from cai.sandbox.topics import SPLITS

__all__ = ["Reader", "Recipe", "build", "measure_model", "refine", "train"]


def build(
    out: Path | None = None,
    *,
    seed: int | None = None,
    num_steps: int | None = None,
    constitutions: Path = Path("constitutions"),
) -> dict[str, Any]:
    """Train, export, measure; returns the manifest that it wrote beside the weights."""
    recipe = Recipe()
    recipe = replace(recipe, seed=recipe.seed if seed is None else seed)
    if num_steps is not None:
        polish = min(recipe.polish_steps, num_steps)
        recipe = replace(recipe, num_steps=num_steps, polish_steps=polish)
    folder = out or manifest.MODEL_DIR
    learned = _releases(constitutions)
    texts = texts_of(learned)
    started = time.monotonic()
    encoder = Encoder(train_tokenizer(_corpus(learned)))
    model = train(recipe, encoder, texts)
    seconds = time.monotonic() - started
    return _finish(model, encoder, folder, recipe, learned, seconds=seconds)


def refine(
    source: Path,
    out: Path,
    *,
    seed: int | None = None,
    polish_steps: int | None = None,
    learning_rate: float | None = None,
    constitutions: Path = Path("constitutions"),
) -> dict[str, Any]:
    """Polish a built model further, where a small change of the world does not ask for a new one.

    The manifest says what it came from. Raises DataError when `source` is not as it was built.
    """
    manifest.verify(source)
    before = manifest.read_manifest(source)
    recipe = Recipe()
    recipe = replace(
        recipe,
        seed=recipe.seed if seed is None else seed,
        polish_steps=polish_steps or recipe.polish_steps,
        polish_learning_rate=learning_rate or recipe.polish_learning_rate,
    )
    learned = _releases(constitutions)
    started = time.monotonic()
    reader = Reader(source)
    with torch.no_grad():
        reader.model.lm_head.weight.mul_(recipe.sharpness / before["recipe"].get("sharpness", 1.0))
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    model = polish(reader.model.train(), recipe, reader.encoder, texts_of(learned))
    seconds = time.monotonic() - started
    told = ("recipe", "world", "trained_s", "refined_from")
    origin = {name: before[name] for name in told if name in before}
    origin["weights"] = before["files"]["model.safetensors"]
    return _finish(model, reader.encoder, out, recipe, learned, seconds=seconds, origin=origin)


def _finish(
    model: Any,
    encoder: Encoder,
    folder: Path,
    recipe: Recipe,
    learned: Sequence[Constitution],
    *,
    seconds: float,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Export, measure, and write the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    _export(model, encoder, folder)
    measured = measure_model(folder, texts_of(learned))
    written = {
        "format": 1,
        "name": "cai-sandbox",
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in model.parameters()),
        "files": manifest.digests_of(folder),
        "world": manifest.world_digest(),
        "prompts": manifest.prompt_digests(),
        "constitutions": manifest.digests_of_constitutions(learned),
        "trained_s": round(seconds),
        **({"refined_from": origin} if origin else {}),
        "measured": measured,
    }
    replace_json(folder / manifest.MANIFEST, written)
    return written


def measure_model(folder: Path, texts: Texts, *, n: int = 400, pairs: int = 2000) -> dict[str, Any]:
    """The rates of an exported model on both splits; see `cai.sandbox.measure`."""
    torch.manual_seed(0)
    reader = Reader(folder)
    return {
        split: measure(split, reader.sample, reader.p_first, texts, n=n, pairs=pairs)
        for split in SPLITS
    }


def _releases(root: Path) -> list[Constitution]:
    """Every release in the folder; their digests go into the manifest, so no lock is needed."""
    store = ConstitutionStore(root)
    return [
        store.load(name, version)
        for name in store.names()
        for version in store.versions(name)
        if version != "draft"
    ]


def _corpus(constitutions: Sequence[Constitution]) -> list[str]:
    """What the tokenizer learns its words from."""
    texts = all_texts(random.Random(0), 3000) + every_text()
    asked = [CRITIQUE, REVISION, COMPARE_HEAD, COMPARE_TAIL, LESSON, " ".join(["", *DIMENSIONS])]
    for principle in (p for one in constitutions for p in one.principles):
        asked += [text for text in (principle.critique, principle.revision) if text]
        asked += [principle.compare] if principle.compare else []
    return texts + asked * 3


def _export(model: Any, encoder: Encoder, folder: Path) -> None:
    save_tokenizer(encoder.tokenizer, folder)
    model.generation_config = GenerationConfig(
        bos_token_id=encoder.ids[BOS],
        eos_token_id=encoder.ids[END],
        pad_token_id=encoder.ids[PAD],
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
