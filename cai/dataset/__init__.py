"""Prompts in, rows out: reading prompt files, the run directory, resume and status."""
