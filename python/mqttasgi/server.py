"""mqttasgi's server is not here: see the sentence."""

raise ImportError(
    "There is no mqttasgi.server here: the broker runs the application itself. Where a project starts a "
    "Server, in AppConfig.ready() for example, take that out, and start the broker with `mqttasgi` "
    "(`manage.py mqttasgi`) or by the plugin's lines in mosquitto.conf; see docs/migrating.md"
)
