"""What our engine adds to vLLM's workers: weights replaced in place, tied heads included.

Runs in vLLM's worker processes, mixed into its worker class by the engine argument
`worker_extension_cls`. Called through `collective_rpc("cai_swap_weights", …)`; see `swap.py`.
"""

from __future__ import annotations

from typing import Any

NAME = "cai.engine.worker.WorkerExtension"
"""What `worker_extension_cls` is set to; a class of an operator's own must derive from it."""


class WorkerExtension:
    """Methods beside those of vLLM's worker; their names must not meet any of its own."""

    def cai_swap_weights(self, folder: str) -> None:
        """Load the checkpoint in `folder` into the running model, of the same tensors as before.

        When that fails the model's weights are undefined, but another call can set them right.
        """
        worker: Any = self  # vLLM's worker class, once this one is mixed in
        model = worker.model_runner.get_model()
        tied = _tied_heads(model)
        try:
            worker.reload_weights(weights_path=folder)
        except BaseException:
            _end_reload(model, worker.vllm_config)
            raise
        for head, embedding in tied:
            # On CPU a head computes with a packed copy of its weight, which vLLM 0.32 makes anew
            # only where the checkpoint has a tensor of the head's name: a tied one has none.
            head.weight = embedding.weight
            head.quant_method.process_weights_after_loading(head)


def _tied_heads(model: Any) -> list[tuple[Any, Any]]:
    """Output heads whose weight is the embedding's own, each with that embedding."""
    from vllm.model_executor.layers.vocab_parallel_embedding import (
        ParallelLMHead,
        VocabParallelEmbedding,
    )

    layers = [one for one in model.modules() if isinstance(one, VocabParallelEmbedding)]
    heads = [one for one in layers if isinstance(one, ParallelLMHead)]
    return [
        (head, other)
        for head in heads
        for other in layers
        if other not in heads and other.weight is head.weight
    ]


def _end_reload(model: Any, vllm_config: Any) -> None:
    """Take vLLM's loaders out of a reload that broke off: else the next one is mixed with it."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.reload.layerwise import finalize_layerwise_reload

    with set_current_vllm_config(vllm_config):
        finalize_layerwise_reload(model, vllm_config.model_config)
