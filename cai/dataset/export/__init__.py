"""Datasets for others' tools: rows of ours in the formats that trainers and hubs read."""

from cai.dataset.export.batch import export_batch
from cai.dataset.export.exporting import (
    FORMATS,
    export_rows,
    read_answers,
    read_rows,
    split_of,
)
from cai.dataset.export.options import BatchOptions, ExportOptions, ExportReport

__all__ = [
    "FORMATS",
    "BatchOptions",
    "ExportOptions",
    "ExportReport",
    "export_batch",
    "export_rows",
    "read_answers",
    "read_rows",
    "split_of",
]
