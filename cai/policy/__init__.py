"""Policies: folders with a manifest, checked and put into a running engine. See `manifest.py`."""
