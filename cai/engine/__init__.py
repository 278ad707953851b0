"""Engines: what turns prompts into text and scores. Start from `open.open_engine`."""
