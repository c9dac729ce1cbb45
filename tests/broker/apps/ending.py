"""Ends in the way that the environment names."""

import asyncio
import logging
import os
import threading
import time
import apps.setup  # noqa: F401
from mqttasgi.consumers import MqttConsumer


class Ending(MqttConsumer):
    async def connect(self) -> None:
        logging.getLogger("apps").warning("connected")
        if os.environ["TEST_END"] != "says goodbye":
            return
        await self.publish("state", b"online", qos=1, retain=True)
        if os.environ["TEST_END"] == "thread":
            threading.Thread(target=time.sleep, args=(3600,)).start()

    async def disconnect(self) -> None:
        logging.getLogger("apps").warning("disconnecting")
        how = os.environ["TEST_END"]
        for number in range(12):
            await self.publish("last words", str(number), qos=number % 3)
        await self.publish("state", b"offline", qos=1, retain=True)
        if how == "asks for more":
            await self.watch_clients()
            await self.subscribe("more", qos=1)
            await self.unsubscribe("more")
            logging.getLogger("apps").warning("asked for more")
        if how == "raises":
            raise LookupError("at the end")
        if how == "hangs":
            await asyncio.Event().wait()
        if how == "blocks":
            time.sleep(3600)


application = Ending.as_asgi()
