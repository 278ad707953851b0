"""The JSON Schema of constitution files, for editors: `python -m cai.constitution.editors`.

Written to `constitutions/schema.json`, which the first line of each shipped file points to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cai.constitution.schema import Constitution
from cai.files import replace_text

FILE_NAME = "schema.json"


def schema_text() -> str:
    """The schema as it should stand in the file."""
    schema = Constitution.model_json_schema()
    return (
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2)
        + "\n"
    )


def main(folder: str = "constitutions") -> None:
    """Write the schema into the folder of constitutions."""
    replace_text(Path(folder) / FILE_NAME, schema_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
