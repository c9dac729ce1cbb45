"""Django Channels consumers inside the Mosquitto broker.

Applications use two modules: `mqttasgi.consumers` and `mqttasgi.testing`. Both import anywhere; the rest of
the package is what the broker's plugin runs.
"""

__version__ = "0.1.0"
