"""Fields that other servers know and this one refuses by name, each with the way out.

Most are refused because they would hand the request's author a part of the engine: templates,
grammars, token masks, tensors. Start from `advice`.
"""

from __future__ import annotations

_TEXT_ONLY = "this server takes and gives text only; leave it out"
_NO_TOOLS = "there is no tool calling; leave it out and describe the tools in the system message"
_NO_GRAMMAR = "free text is the only form of an answer; leave it out and ask for the form in words"
_FIXED_TEMPLATE = "the model's own chat template is used as it is; leave it out"
_FIXED_TOKENS = "tokens are not masked or biased by request; leave it out"
_ENGINE = "it belongs to the engine's operator (cai serve --engine-arg); leave it out"
_ALWAYS_TEXT = "text is encoded as content and decoded without special tokens; leave it out"
_CONTEXT = "a prompt is never cut; shorten it"
_NO_STORE = "answers are not stored; leave it out and keep them yourself"
_TOKEN_CALL = "use POST /internal/generate, which takes and gives token ids"

_ADVICE = {
    # OpenAI's API
    "audio": _TEXT_ONLY,
    "function_call": _NO_TOOLS,
    "functions": _NO_TOOLS,
    "input_audio": _TEXT_ONLY,
    "json_schema": _NO_GRAMMAR,
    "image_url": _TEXT_ONLY,
    "logit_bias": _FIXED_TOKENS,
    "metadata": _NO_STORE,
    "moderation": "answers are not moderated; use cai.constitution to have them critiqued",
    "name": "participants have no names in the prompt; write the name into the content",
    "parallel_tool_calls": _NO_TOOLS,
    "prediction": "answers are not predicted; leave it out",
    "prompt_cache_key": "the prefix cache goes by content; leave it out",
    "prompt_cache_options": "the prefix cache goes by content; leave it out",
    "prompt_cache_retention": "the prefix cache goes by content; leave it out",
    "reasoning_effort": "there is no such control; leave it out",
    "refusal": "a message is its content; put the text there",
    "suffix": "text is only continued, not filled in; leave it out",
    "tool_call_id": _NO_TOOLS,
    "tool_calls": _NO_TOOLS,
    "tool_choice": _NO_TOOLS,
    "tools": _NO_TOOLS,
    "verbosity": "there is no such control; leave it out",
    "web_search_options": "there is no web search; leave it out",
    # vLLM's additions
    "add_generation_prompt": _FIXED_TEMPLATE,
    "add_special_tokens": _ALWAYS_TEXT,
    "allowed_token_ids": _FIXED_TOKENS,
    "bad_words": _FIXED_TOKENS,
    "cache_salt": _ENGINE,
    "chat_template": _FIXED_TEMPLATE,
    "chat_template_kwargs": _FIXED_TEMPLATE,
    "continue_final_message": _FIXED_TEMPLATE,
    "documents": "write the documents into a message",
    "ec_transfer_params": _ENGINE,
    "guided_choice": _NO_GRAMMAR,
    "guided_grammar": _NO_GRAMMAR,
    "guided_json": _NO_GRAMMAR,
    "guided_regex": _NO_GRAMMAR,
    "ignore_eos": "an answer ends where the model ends it; leave it out",
    "image_embeds": _TEXT_ONLY,
    "include_reasoning": "reasoning is shown as the model writes it; leave it out",
    "include_stop_str_in_output": "a stop text is never part of the answer; leave it out",
    "kv_transfer_params": _ENGINE,
    "length_penalty": "there is no beam search; leave it out",
    "logits_processors": _FIXED_TOKENS,
    "logprob_token_ids": "use POST /internal/score, which scores labels",
    "media_io_kwargs": _TEXT_ONLY,
    "min_tokens": "an answer ends where the model ends it; leave it out",
    "mm_payload": _TEXT_ONLY,
    "mm_processor_kwargs": _TEXT_ONLY,
    "priority": "requests are served in order of arrival; leave it out",
    "prompt_embeds": "prompts are text or token ids; send one of these",
    "prompt_logprobs": "use POST /v1/completions with echo and logprobs",
    "prompt_token_ids": _TOKEN_CALL,
    "repetition_detection": _ENGINE,
    "request_id": "send the header x-request-id",
    "return_prompt_text": _TOKEN_CALL,
    "return_token_ids": _TOKEN_CALL,
    "return_tokens_as_token_ids": _TOKEN_CALL,
    "session_id": "send the header x-request-id",
    "skip_special_tokens": _ALWAYS_TEXT,
    "spaces_between_special_tokens": _ALWAYS_TEXT,
    "stop_token_ids": "use stop, with texts",
    "stream_interval": _ENGINE,
    "structured_outputs": _NO_GRAMMAR,
    "thinking_token_budget": "there is no such control; leave it out",
    "truncate_prompt_tokens": _CONTEXT,
    "truncation_side": _CONTEXT,
    "use_beam_search": "there is no beam search; leave it out",
    "vllm_xargs": _ENGINE,
    "video_url": _TEXT_ONLY,
    "watermarking": _ENGINE,
}


def advice(name: str) -> str | None:
    """What to do instead of sending the field `name`, or None when nobody knows it."""
    return _ADVICE.get(name)
