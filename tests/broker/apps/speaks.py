"""Logs at every level."""

import logging
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Speaks(MqttConsumer):
    async def connect(self) -> None:
        logger = logging.getLogger("apps")
        logger.debug("D")
        logger.info("I")
        logger.warning("W")
        logger.error("ü" * 2000)
        logger.error("last")


application = Speaks.as_asgi()
