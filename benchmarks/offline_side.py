"""A side: vLLM's own offline `LLM.chat`, the whole set in staged calls.

Draft, critique, revision; with `judge` also both orders of the comparison, one token each, with
the log-probs of the two letters.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.models import DTYPE, quiet_environment
from benchmarks.sides import serve_commands

quiet_environment()


def main(model: str, prompts: str, max_tokens: str, batch: str, judge: str) -> None:
    from vllm import LLM, SamplingParams

    from cai.constitution.schema import draw
    from cai.constitution.store import ConstitutionStore
    from cai.critique.prompts import ask_critique, ask_revision
    from cai.feedback.prompts import LABELS, ask_comparison
    from cai.types import Message

    constitution = ConstitutionStore(Path("constitutions")).get("harmless@2")
    llm = LLM(
        model=model,
        dtype=DTYPE,
        max_num_seqs=int(batch),
        enforce_eager=True,
        enable_prefix_caching=True,
        disable_log_stats=True,
        generation_config="vllm",
    )
    params = SamplingParams(max_tokens=int(max_tokens), temperature=1.0)
    lines = Path(prompts).read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["prompt"] for line in lines]
    drawn = [draw(constitution, step="critique", seed=0, row=t, index=0) for t in texts]

    tokenizer = llm.get_tokenizer()
    label_ids = [tokenizer.encode(label, add_special_tokens=False)[0] for label in LABELS]
    one = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=label_ids)

    def chat(conversations: list[Any], how: Any = params) -> tuple[list[str], int]:
        outputs = llm.chat([[m.as_dict() for m in c] for c in conversations], how, use_tqdm=False)
        tokens = sum(len(out.outputs[0].token_ids) for out in outputs)
        return [out.outputs[0].text for out in outputs], tokens

    def handle(_command: dict[str, Any]) -> dict[str, Any]:
        llm.reset_prefix_cache()
        started = time.perf_counter()
        stage: list[Any] = [(Message("user", text),) for text in texts]
        drafts, first = chat(stage)
        stage = [
            ask_critique((*c, Message("assistant", said)), p.critique or "")
            for c, said, p in zip(stage, drafts, drawn, strict=True)
        ]
        critiques, second = chat(stage)
        stage = [
            ask_revision((*c, Message("assistant", said)), p.revision or "")
            for c, said, p in zip(stage, critiques, drawn, strict=True)
        ]
        revisions, third = chat(stage)
        if judge == "judge":
            for order in (1, -1):
                pairs = zip(texts, drafts, revisions, drawn, strict=True)
                chat(
                    [
                        ask_comparison((Message("user", t),), *(d, r)[::order], p.compare or "")
                        for t, d, r, p in pairs
                    ],
                    one,
                )
        tokens = first + second + third
        seconds = time.perf_counter() - started
        return {
            "tokens_per_s": tokens / seconds,
            "rows_per_s": len(texts) / seconds,
            "tokens": tokens,
        }

    serve_commands(handle)


if __name__ == "__main__":
    main(*sys.argv[1:])
