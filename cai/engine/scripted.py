"""An engine that answers from a script: for tests, for trying things out, for measuring overhead.

Its tokens are words with the space before them, so counts, limits, stops and streams behave as
a real engine's do. Start from `ScriptedEngine.answering(fn)` or `ScriptedEngine.from_file(path)`.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cai.errors import ContextLengthError, InputError, UnsupportedError
from cai.files import digest_json
from cai.types import (
    ChatPrompt,
    Chunk,
    Completion,
    EngineIdentity,
    FinishReason,
    Generation,
    LabelScores,
    Prompt,
    Sampling,
    TextPrompt,
    TokenLogprob,
    Usage,
)

Answer = Callable[[Prompt, Sampling], str]
Scores = Callable[[Prompt, Sequence[str]], Mapping[str, float]]

_WORD = re.compile(r"\s*\S+|\s+")


class ScriptedEngine:
    """Answers with `answer(prompt, sampling)` and scores with `scores(prompt, labels)`.

    `delay_s` is slept before every call and between streamed words. Both callables may raise:
    the error reaches the caller as a real engine's would.
    """

    def __init__(
        self,
        answer: Answer,
        scores: Scores | None = None,
        *,
        delay_s: float = 0.0,
        max_context: int | None = None,
        model: str = "scripted",
        digest: str | None = None,
    ) -> None:
        self._answer = answer
        self._scores = scores
        self._delay_s = delay_s
        self._max_context = max_context
        self._model = model
        self._digest = digest
        self.num_calls = 0
        self.num_aborted = 0

    @classmethod
    def answering(cls, answer: Callable[[str], str] | str, **options: Any) -> ScriptedEngine:
        """Answer from the last message's text alone, or always with one text."""
        if isinstance(answer, str):
            return cls(lambda _prompt, _sampling: answer, **options)
        return cls(lambda prompt, _sampling: answer(last_text(prompt)), **options)

    @classmethod
    def from_file(cls, path: Path) -> ScriptedEngine:
        """Rules from YAML: the first whose `match` (a regular expression) is found answers.

        ```yaml
        rules:
          - match: No change needed   # searched in the last message; without it, always
            answer: No change needed.
            scores: {A: -0.1, B: -2.3}
        delay_s: 0.0
        ```
        """
        from cai.engine.scripted_file import read_script

        script = read_script(path)
        return cls(
            script.answer,
            script.scores,
            delay_s=script.delay_s,
            max_context=script.max_context,
            model=f"scripted:{path.name}",
            digest=digest_json(script.model_dump(mode="json")),
        )

    def identity(self) -> EngineIdentity:
        return EngineIdentity(
            engine="scripted",
            version="1",
            device="none",
            model=self._model,
            digest=self._digest,
            max_context=self._max_context,
            keeps_prefix=True,
        )

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Generation:
        completions = []
        num_prompt = await self._begin(prompt)
        for _ in range(sampling.n):
            completions.append(_complete(self._answer(prompt, sampling), sampling))
        usage = Usage(num_prompt, sum(len(c.token_ids) for c in completions))
        honoured = None if sampling.seed is None else True
        return Generation(tuple(completions), usage, self._model, honoured)

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        num_prompt = await self._begin(prompt)
        num_words = 0
        honoured = None if sampling.seed is None else True
        try:
            for index in range(sampling.n):
                completion = _complete(self._answer(prompt, sampling), sampling)
                words = split_words(completion.text) or [""]
                num_words += len(completion.token_ids)
                is_last = index == sampling.n - 1
                for position, word in enumerate(words):
                    await asyncio.sleep(self._delay_s)
                    done = position == len(words) - 1
                    yield Chunk(
                        index,
                        word,
                        finish_reason=completion.finish_reason if done else None,
                        logprobs=_logprobs([word], sampling) if word else None,
                        usage=Usage(num_prompt, num_words) if done and is_last else None,
                        policy=self._model,
                        seed_honoured=honoured if done and is_last else None,
                    )
        except (asyncio.CancelledError, GeneratorExit):
            self.num_aborted += 1
            raise

    async def score(self, prompt: Prompt, labels: Sequence[str]) -> LabelScores:
        if not labels:
            raise InputError("there are no labels to score", param="labels")
        num_prompt = await self._begin(prompt)
        if self._scores is None:
            raise UnsupportedError("this scripted engine has no scores; give it some")
        found = self._scores(prompt, labels)
        missing = [label for label in labels if label not in found]
        if missing:
            raise UnsupportedError(f"the script has no score for the labels {missing}")
        logprobs = {label: found[label] for label in labels}
        mass = math.fsum(math.exp(value) for value in logprobs.values())
        return LabelScores(logprobs, mass, Usage(num_prompt, 1), self._model)

    async def prompt_logprobs(self, prompt: Prompt, *, top: int = 0) -> tuple[TokenLogprob, ...]:
        await self._begin(prompt)
        return tuple(_token(word, top) for word in split_words(last_text(prompt))[1:])

    async def count_tokens(self, prompt: Prompt) -> int:
        return count_words(prompt)

    async def check(self) -> None:
        return None

    async def aclose(self) -> None:
        return None

    async def _begin(self, prompt: Prompt) -> int:
        self.num_calls += 1
        num_words = count_words(prompt)
        if self._max_context is not None and num_words >= self._max_context:
            raise ContextLengthError(
                f"the prompt has {num_words} tokens and the context holds {self._max_context}; "
                "shorten the conversation",
                param="messages",
            )
        try:
            await asyncio.sleep(self._delay_s)
        except asyncio.CancelledError:
            self.num_aborted += 1
            raise
        return num_words


def last_text(prompt: Prompt) -> str:
    """The text a script looks at: the last message, or the whole plain prompt."""
    if isinstance(prompt, ChatPrompt):
        return prompt.messages[-1].content
    if isinstance(prompt, TextPrompt):
        return prompt.text
    raise UnsupportedError("a scripted engine has no tokenizer: give it messages or text")


def count_words(prompt: Prompt) -> int:
    """Tokens of a prompt, counted as this engine counts them."""
    if isinstance(prompt, ChatPrompt):
        return sum([num_words(message.content) for message in prompt.messages])
    return num_words(last_text(prompt))


@lru_cache(maxsize=1024)  # a conversation grows by a turn, and every turn is counted each time
def num_words(text: str) -> int:
    r"""How many words `split_words` finds, without cutting them out.

    >>> num_words(" two words\n"), num_words(" "), num_words("")
    (2, 1, 0)
    """
    return len(text.split()) or int(text != "")


def split_words(text: str) -> list[str]:
    r"""This engine's tokens: words with the white space before them; joined, they are the text.

    >>> split_words(" two words\n")
    [' two', ' words\n']
    """
    words = _WORD.findall(text)
    if len(words) > 1 and words[-1].isspace():
        words[-2:] = [words[-2] + words[-1]]
    return words


def _complete(text: str, sampling: Sampling) -> Completion:
    cut = min((at for stop in sampling.stop if (at := text.find(stop)) >= 0), default=len(text))
    said, limit = text[:cut], sampling.max_tokens
    num_said = num_words(said)
    if sampling.logprobs is None and (limit is None or num_said <= limit):
        return Completion(said, "stop", tuple(range(num_said)))
    words = split_words(said)[:limit]
    reason: FinishReason = "stop" if len(words) == num_said else "length"
    return Completion("".join(words), reason, tuple(range(len(words))), _logprobs(words, sampling))


def _logprobs(words: Sequence[str], sampling: Sampling) -> tuple[TokenLogprob, ...] | None:
    top = sampling.logprobs
    return None if top is None else tuple(_token(word, top) for word in words)


def _token(word: str, top: int) -> TokenLogprob:
    return TokenLogprob(id=0, text=word, logprob=0.0, top=((0, word, 0.0),)[:top])
