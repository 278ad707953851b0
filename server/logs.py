"""Logging of the process: one line per event, keys redacted, texts of exceptions left out.

Start from `set_up`, which `cai serve` calls once.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import TracebackType

_SECRETS = re.compile(
    r"(?i:\bbearer\s+)\S+|\bcai-[A-Za-z0-9_-]{16,}|\bsk-[A-Za-z0-9_-]{16,}|\bhf_[A-Za-z0-9]{16,}"
)
_REDACTED = "[redacted]"
_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class RedactingFilter(logging.Filter):
    """Puts `[redacted]` for what looks like a key, in any record of any logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True; the record's message is replaced where needed."""
        message = record.getMessage()
        cleaned = _SECRETS.sub(_REDACTED, message)
        if cleaned != message:
            record.msg, record.args = cleaned, None
        return True


class PlainFormatter(logging.Formatter):
    """Tells an exception's type and place, not its text: that may quote a user."""

    def formatException(self, ei: _ExcInfo) -> str:
        """Frames and type."""
        kind, _, trace = ei
        frames = "".join(traceback.format_tb(trace))
        return f"{frames}{kind.__name__ if kind is not None else 'no exception'}"


def set_up(level: int = logging.INFO) -> None:
    """Log to stderr from the root on; replaces handlers that were there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RedactingFilter())
    handler.setFormatter(PlainFormatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("uvicorn", "uvicorn.error", "httpx2", "httpcore2", "asyncio"):
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
