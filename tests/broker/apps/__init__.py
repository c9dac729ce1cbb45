"""Small applications, one behaviour each, that the broker tests run in the plugin."""
