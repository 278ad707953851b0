"""Constitutions: principles in YAML files, with releases that never change.

Start from `cai.constitution.store.ConstitutionStore(root).get("harmless@2")`.
"""
