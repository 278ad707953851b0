"""One router per noun. Handlers parse, call and return."""
