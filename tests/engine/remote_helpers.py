"""A mock of an OpenAI-compatible server, and the pieces of its answers."""

import json

import httpx2

from cai.engine.base import Engine
from cai.engine.remote import RemoteEngine
from cai.types import ChatPrompt, Message, Sampling
from tests.engine.loopback import MODELS

HELLO = ChatPrompt((Message("system", "Be kind."), Message("user", "Hello")))
IDENTITY = {
    "engine": "vllm",
    "version": "1",
    "device": "cpu",
    "model": "sandbox",
    "digest": "sha256:1",
    "template_digest": None,
    "max_context": 4096,
    "keeps_prefix": True,
}
KEY = "sk-a-very-secret-key"


def chat(*texts: str, **more) -> dict:
    """A chat completion with one choice for each text."""
    return {
        "choices": [
            {"index": i, "message": {"role": "assistant", "content": t}, "finish_reason": "stop"}
            for i, t in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        **more,
    }


class Server:
    """Answers by the path's last part: JSON, (status, JSON), a response, an error, a list."""

    def __init__(self, *, internal=False, models=MODELS, **answers):
        self.models, self.internal, self.answers = models, internal, answers
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path == "/v1/models":
            return httpx2.Response(200, json=self.models)
        if path == "/internal/identity":
            return httpx2.Response(200, json=IDENTITY) if self.internal else httpx2.Response(404)
        self.requests.append(request)
        answer = self.answers[path.rpartition("/")[2]]
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx2.Response):
            return answer
        return (
            httpx2.Response(answer[0], json=answer[1])
            if isinstance(answer, tuple)
            else (httpx2.Response(200, json=answer))
        )

    def body(self, index: int = -1) -> dict:
        return json.loads(self.requests[index].content)


async def connect(server: Server, address: str = "http://h:1/v1#m", **options) -> RemoteEngine:
    return await RemoteEngine.connect(address, transport=httpx2.MockTransport(server), **options)


def event(text="", *, index=0, reason=None, **more) -> bytes:
    delta = {"content": text} if text else {}
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return (
        b"data: " + json.dumps({"choices": [choice], **more}, ensure_ascii=False).encode() + b"\n\n"
    )


async def collect(engine: Engine, sampling: Sampling | None = None):
    return [chunk async for chunk in engine.stream(HELLO, sampling or Sampling())]
