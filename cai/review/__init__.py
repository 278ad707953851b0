"""People look at answers, without knowing whose they are: a queue, their decisions, agreement."""
