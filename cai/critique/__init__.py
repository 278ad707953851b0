"""Draft, critique, revise. Start from `loop.revise`."""
