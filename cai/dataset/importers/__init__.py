"""Preference data from elsewhere: one importer for every format, exact about what it left out."""

from cai.dataset.importers.batch import BatchAnswer, join_batch
from cai.dataset.importers.reading import Imported, ImportReport, detect_format, import_rows
from cai.dataset.importers.records import Skipped

__all__ = [
    "BatchAnswer",
    "ImportReport",
    "Imported",
    "Skipped",
    "detect_format",
    "import_rows",
    "join_batch",
]
