"""`POST /v1/feedback`: what people say of answers, kept for the next round of training."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cai.critique.loop import check_conversation
from cai.errors import InputError, NotFoundError
from server.context import request_info
from server.deps import Services, services
from server.routes.table import router, takes
from server.schemas.common import to_conversation
from server.schemas.policies import FeedbackCreate
from server.schemas.replies import json_response
from server.stores import Stores
from server.work import perform, read

feedback = router("feedback")


@feedback.post("/v1/feedback", openapi_extra=takes(FeedbackCreate))
async def give_feedback(request: Request) -> Response:
    """Thumbs, a rating from 1 to 5, a better answer: for one answer to one conversation."""
    body = await read(request, FeedbackCreate)
    conversation = to_conversation(body.messages)
    check_conversation(conversation)
    info = request_info(request)
    info.tag_user(body.user)
    service = services(request)

    def keep(stores: Stores) -> dict[str, object]:
        store = stores.feedback
        from cai.policy.feedback import Feedback, user_digest  # needs what the database needs

        if body.policy is not None and body.policy not in _unregistered(service):
            _check_known(stores, body.policy)
        given = Feedback(
            messages=[message.as_dict() for message in conversation],
            policy_id=body.policy,
            user_digest=user_digest(body.user),
            actor=info.key_name,
            **body.model_dump(include={"response", "thumbs", "rating", "better", "arm"}),
        )
        stored = store.add(given)
        told = stored.model_dump(include={"id", "thumbs", "rating", "arm"})
        return {"object": "feedback", **told, "policy": body.policy, "created_at": stored.at}

    async def work() -> Response:
        return json_response(await service.stores.run(keep))

    return await perform(request, work, in_queue=False)


def _unregistered(service: Services) -> set[str]:
    """Models that answer here, or did when the server started, without being in the registry."""
    started_with = service.settings.engine.removeprefix("vllm:")
    engine = service.opened_engine
    return {started_with} if engine is None else {started_with, engine.identity().model}


def _check_known(stores: Stores, policy: str) -> None:
    try:
        known_as = stores.policies.get(policy).id
    except NotFoundError as exc:
        raise NotFoundError(exc.message, param="policy") from None
    if known_as != policy:
        raise InputError(f"policy: name it by its id, as in '{known_as}'", param="policy")
