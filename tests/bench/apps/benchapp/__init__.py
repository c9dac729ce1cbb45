"""The applications that the benchmark measures.

``echo``, ``layer``, ``many``, ``retained`` and ``wakeup`` use Channels and ``mqttasgi.consumers``, and therefore run
in the plugin and in the mqttasgi server alike; ``bare`` is plain ASGI. Each module names its callable ``application``.
What they should do comes from environment variables that begin with ``BENCH_``.
"""
