"""HTTP and MQTT without any framework, with a lifespan; what that does is in the environment."""

import os
from typing import Any

state = {"begun": False}


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "mqtt":
        await mqtt(receive, send)
    elif scope["type"] == "http":
        text = b"begun" if state["begun"] else b"not begun"
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", b"%d" % len(text))],
            }
        )
        await send({"type": "http.response.body", "body": text})
    else:
        raise ValueError(scope["type"])


async def lifespan(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    if os.environ.get("TEST_LIFESPAN") == "fails":
        await send({"type": "lifespan.startup.failed", "message": "there is no oven"})
        return
    if os.environ.get("TEST_LIFESPAN") == "is unknown":
        raise ValueError("no such protocol")
    state["begun"] = True
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print("the lifespan has ended", flush=True)
    await send({"type": "lifespan.shutdown.complete"})


async def mqtt(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "mqtt.connect"
    while (await receive())["type"] != "mqtt.disconnect":
        pass
