"""A Django app to look at what the broker's process does; docs/dashboard.md says how to add it."""
