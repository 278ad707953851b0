"""`POST /v1/preferences`: several answers into one order, with every pair's label and log-probs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cai.critique.loop import check_conversation
from cai.errors import InputError, JudgeError
from cai.feedback.judge import Judge
from cai.feedback.ranking import Ranking, rank
from cai.files import digest_json
from cai.types import Usage
from server.context import request_info
from server.deps import count, services
from server.routes.table import router, takes
from server.schemas.common import to_conversation
from server.schemas.preferences import PreferenceRequest
from server.schemas.replies import (
    constitution_headers,
    json_response,
    policy_headers,
    usage_json,
)
from server.work import perform, read

preferences = router("preferences")

# Reasons that lie in the answers themselves and not in the judge.
_NOT_JUDGEABLE = {"empty", "degenerate", "identical", "over-long", "talks-to-judge"}


@preferences.post("/v1/preferences", openapi_extra=takes(PreferenceRequest))
async def rank_responses(request: Request) -> Response:
    """Rank 2 to 9 answers; each pair is asked in both orders."""
    body = await read(request, PreferenceRequest)
    constitution = await services(request).constitution(body.constitution)
    conversation = to_conversation(body.messages)
    check_conversation(conversation)

    async def work() -> Response:
        judge = Judge(services(request).judge())
        try:
            ranking = await rank(
                judge,
                conversation,
                body.responses,
                constitution,
                row=digest_json([message.as_dict() for message in conversation]),
                seed=body.seed or 0,
                principles=body.principles,
            )
        except JudgeError as exc:
            if exc.reason in _NOT_JUDGEABLE:
                raise InputError(f"{exc} ({exc.reason})", param="responses") from exc
            raise
        usage = sum((label.usage for label in ranking.labels.values()), Usage())
        count(request, usage)
        policy = _judged_by(ranking, judge)
        reply = {
            "id": f"pref-{request_info(request).id}",
            "object": "preferences",
            "constitution": constitution.ref,
            "digest": constitution.digest,
            "judge": {"policy": policy, "digest": judge.engine.identity().digest},
            **ranking.as_dict(),
            "usage": usage_json(usage),
        }
        headers = constitution_headers(constitution.ref, constitution.digest)
        return json_response(reply, {**policy_headers(policy), **headers})

    return await perform(request, work)


def _judged_by(ranking: Ranking, judge: Judge) -> str:
    for label in ranking.labels.values():
        return label.policy
    return judge.engine.identity().model
