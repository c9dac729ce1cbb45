"""mqttasgi's helpers are not here: see the sentence."""

raise ImportError(
    "There is no mqttasgi.utils here. In place of get_application(path), import the application by its "
    "module, or use django.utils.module_loading.import_string; see docs/migrating.md"
)
