"""Tries a model's chat template in a process of its own, with limits, before it is trusted.

A template is code: nineteen characters can build a string of 200 MB, and two nested loops never
end. Jinja's sandbox keeps it from the machine's files, not from its time and memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cai.errors import ConfigError

_TIMEOUT_S = 20
_CHILD = """
import json, resource, sys
from transformers.utils.chat_template_utils import render_jinja_template
template, conversations = json.load(sys.stdin)
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(sum(resource.getrusage(0)[:2])) + 3,) * 2)
for conversation in conversations:
    try:
        rendered, _ = render_jinja_template(
            conversations=[conversation], chat_template=template, add_generation_prompt=True
        )
    except MemoryError:
        raise
    except Exception:
        continue  # it refuses such a conversation, which is its right
    if len(rendered[0]) > 100_000:
        sys.exit(3)
"""
_CONVERSATIONS = [
    [{"role": "user", "content": "x"}],
    [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "x"},
    ],
]


def check_template(folder: Path) -> None:
    """Refuse a folder whose chat template needs unreasonable time, memory or length."""
    source = read_template(folder)
    if source is None:
        return
    template, origin = source
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps([template, _CONVERSATIONS]),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        failed = done.returncode != 0
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        raise ConfigError(
            f"{origin}: the chat template takes too much time or memory on a four-message "
            "conversation; give the model a plain template"
        )


def read_template(folder: Path) -> tuple[str, Path] | None:
    """The chat template's text and the file it stands in; None when the model has none."""
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8"), plain
    config = folder / "tokenizer_config.json"
    if config.is_file():
        template = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
        if isinstance(template, str):
            return template, config
    return None
