"""Measures and reports: rates with their intervals, and pages that show them."""
