"""The runtime's bridge to a broker elsewhere: the same consumers, in ordinary processes.

`mqttasgi --connect URL` starts them. Needs the package extra `cluster` (paho-mqtt), and neither Mosquitto nor
the plugin.
"""
