"""A small world in which the whole loop can be run, measured and understood anywhere.

`topics` and `phrasing` are its nouns and verbs, `prompts` asks, `answers` and `wording` reply,
`oracle` knows what is right, `build` trains the bundled model. Nothing heavy loads on import.
"""
