"""The embedded broker: `python -m dormouse_host.broker.embedded HOST PORT` serves MQTT 3.1.1 until it is ended.

With a persistent session, what is published at QoS 1 while the client is away is delivered once it is back, in order
and without RETAIN. A module of its own, because amqtt is optional and its classes are needed at the import.
"""

import asyncio
import signal
import sys

from amqtt.broker import Broker
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from dormouse_host.broker.local import EMBEDDED_LISTENS


class Everyone(BaseAuthPlugin):
    """Accepts everyone. amqtt's anonymous plugin marks the session so that nothing is queued for it."""

    async def authenticate(self, *, session: Session) -> bool | None:
        """Yes, without setting `is_anonymous`."""
        return True


class KeepingBroker(Broker):
    """amqtt, but without RETAIN on queued messages: its own code sets it, against MQTT-3.3.1-9."""

    async def _publish_session_retained_messages(self, session: Session) -> None:
        handler = self._get_handler(session)
        waiting = []
        while handler and not session.retained_messages.empty():
            kept = session.retained_messages.get_nowait()
            waiting.append(asyncio.ensure_future(handler.mqtt_publish(kept.topic, kept.data, kept.qos, retain=False)))
        if waiting:
            await asyncio.wait(waiting)


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    broker = KeepingBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
            "plugins": {f"{__spec__.name if __spec__ else __name__}.Everyone": {}},
        }
    )
    await broker.start()
    sys.stdout.write(f"{EMBEDDED_LISTENS}\n")
    sys.stdout.flush()
    await ended.wait()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
