"""Tries a model's chat template in a process of its own, with limits, before it is trusted.

A template is code: nineteen characters can build a string of 200 MB, and two nested loops never
end. Jinja's sandbox keeps it from the machine's files, not from its time and memory.
Start from `check_template`, or `check_template_text` for one that stands in no folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cai.engine.model_folder import read_config
from cai.errors import ConfigError

_TIMEOUT_S = 120  # a busy machine's; the child's own limit is in seconds of processor time
_REFUSED, _SYNTAX = 3, 4
_CHILD = f"""
import json, resource, sys
from jinja2.exceptions import TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template
template, conversations = json.load(sys.stdin)
marks = dict(bos_token='<s>', eos_token='</s>', pad_token='<pad>', unk_token='<unk>')
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(sum(resource.getrusage(0)[:2])) + 2,) * 2)
for conversation in conversations:
    try:
        rendered, _ = render_jinja_template(
            [conversation], chat_template=template, add_generation_prompt=True, **marks
        )
    except TemplateSyntaxError as exc:
        print(f'line {{exc.lineno}}: {{exc}}')
        sys.exit({_SYNTAX})
    except (MemoryError, RecursionError):
        sys.exit({_REFUSED})
    except Exception:
        continue  # it refuses such a conversation, which is its right
    if len(rendered[0]) > 100_000 + 4 * sum(len(m['content']) for m in conversation):
        sys.exit({_REFUSED})
"""


def check_template(folder: Path) -> None:
    """Refuse a folder whose chat template needs unreasonable time, memory or length."""
    source = read_template(folder)
    if source is not None:
        check_template_text(source[0], origin=str(source[1]))


def check_template_text(template: str, *, origin: str) -> None:
    """The same for a template's text; `origin` is named in the error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps([template, _conversations()]),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is not None and done.returncode == 0:
        return
    if done is not None and done.returncode == _SYNTAX:
        reason = " ".join(done.stdout.split())[:300]
        raise ConfigError(f"{origin}: the chat template is not valid: {reason}; correct it")
    raise ConfigError(
        f"{origin}: the chat template takes too much time or memory on a short "
        "conversation; give the model a plain template"
    )


def read_template(folder: Path) -> tuple[str, Path] | None:
    """The chat template's text and the file it stands in; None when the model has none."""
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        try:
            return plain.read_text(encoding="utf-8"), plain
        except ValueError as exc:
            raise ConfigError(f"{plain}: not UTF-8: {exc}") from exc
    config = folder / "tokenizer_config.json"
    template = read_config(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):  # named ones; `default` is used
        named = [one for one in template if isinstance(one, dict) and one.get("name") == "default"]
        template = named[0].get("template") if named else None
    return (template, config) if isinstance(template, str) else None


def _conversations() -> list[list[dict[str, str]]]:
    """A question; one with a system message and an earlier turn; a long conversation."""
    ask, answer = {"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}
    long = [{**turn, "content": "words and words " * 50} for turn in (ask, answer)]
    return [[ask], [{**ask, "role": "system"}, ask, answer, ask], [*long * 20, long[0]]]
