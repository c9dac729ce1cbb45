"""What every application here begins with."""

import os

IN = "bench/in"
OUT = "bench/out"
QOS = int(os.environ.get("BENCH_QOS", "0"))


def start_django(channel_layer: bool = False) -> None:
    """Configures Django; to be called before anything of Channels is imported.

    channel_layer: whether ``channel_layer`` of the consumers is an in-memory one instead of None.
    """
    if channel_layer:
        os.environ["BENCH_LAYER"] = "1"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchapp.settings")
    import django

    django.setup()
