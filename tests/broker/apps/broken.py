"""Raises when it is imported."""

raise ZeroDivisionError("an import that fails")
