"""Constitutional AI: draft, critique, revise, compare, train, verify, serve.

Importing this package defines names only; heavy libraries load behind their own doors.
Start from `cai.pipeline` for the whole story, or from the `cai` command.
"""

__version__ = "0.1.0"
