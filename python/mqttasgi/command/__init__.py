"""The command `mqttasgi`: what runs outside the broker, before it and beside it."""
