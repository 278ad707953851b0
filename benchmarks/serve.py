"""Throughput of `POST /v1/chat/completions` without `cai` against vLLM's own OpenAI server.

The same 32 clients, prompts and token counts for both, over keep-alive connections.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.models import make_model, quiet_environment
from benchmarks.sides import Side, alternate, sides


def main(*, rounds: int = 5) -> None:
    quiet_environment()
    with tempfile.TemporaryDirectory() as folder:
        model = str(make_model(Path(folder) / "model"))
        with sides(
            Side("benchmarks.server_side", "cai", model),
            Side("benchmarks.server_side", "vllm", model),
        ) as (ours, theirs):
            ratio = alternate(ours, theirs, key="tokens_per_s", rounds=rounds, run=True)
    print(ratio.line("chat completions, 32 clients / vLLM's server", "tokens/s", target=0.95))


if __name__ == "__main__":
    main()
