"""Brokers that people use, by name: the settings with which a device works there, or why it cannot.

Each fact has its source in docs/brokers.md, and a test compares the names. `dormouse broker check` decides what is true
of a broker at hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A broker by name. `settings`: keys of the profile with which devices and relay work there; `refused`: why no
    device does.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""


_PRESETS = {
    "mosquitto": Preset("Eclipse Mosquitto"),
    "rabbitmq": Preset("RabbitMQ"),
    "nats": Preset("NATS"),
    "emqx": Preset("EMQX"),
    "hivemq-cloud": Preset("HiveMQ Cloud"),
    "aws-iot-core": Preset("AWS IoT Core", {"drain": "quiet", "quiet": 1000}),
    "azure-event-grid": Preset("Azure Event Grid", {"retain": False, "drain": "quiet", "quiet": 1000, "waiting": 60}),
    "azure-iot-hub": Preset(
        "Azure IoT Hub",
        refused="it takes only its own topics, and a device may not send itself the fence: use Azure Event Grid",
    ),
}
PRESETS: Mapping[str, Preset] = MappingProxyType(_PRESETS)
