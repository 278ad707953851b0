"""AI feedback: which of two answers follows a principle better."""
