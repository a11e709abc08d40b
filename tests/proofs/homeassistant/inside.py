"""The real Home Assistant with its MQTT integration, run by a Python of its own: a JSON line in, a JSON line out.

`{"ask": true}` gives its states and devices, `{"call": "switch.turn_on", "data": {…}}` calls a service. It ends with
its standard input.

python inside.py HOST PORT
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType

from homeassistant import bootstrap, config_entries, loader
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry
from homeassistant.setup import async_setup_component

PLAIN = (str, int, float, bool, type(None))


async def start(folder: str, host: str, port: int) -> HomeAssistant:
    """Home Assistant with nothing but MQTT."""
    Path(folder, "configuration.yaml").touch()
    hass = HomeAssistant(folder)
    hass.config.skip_pip = True
    loader.async_setup(hass)
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    await async_setup_component(hass, "homeassistant", {})
    hass.config.components |= {"http", "file_upload"}  # what MQTT's dialogs need, and nobody opens one here
    entry = config_entries.ConfigEntry(
        version=1,
        minor_version=2,
        domain="mqtt",
        title="mqtt",
        data={"broker": host, "port": port},
        options={},
        source="user",
        unique_id=None,
        discovery_keys=MappingProxyType({}),
        subentries_data=None,
    )
    await hass.config_entries.async_add(entry)
    await hass.async_start()
    await hass.async_block_till_done(wait_background_tasks=False)
    return hass


def told(hass: HomeAssistant) -> dict:
    """Every state with its attributes, and every device."""
    states = {}
    for state in hass.states.async_all():
        attributes = {key: value for key, value in state.attributes.items() if isinstance(value, PLAIN)}
        states[state.entity_id] = {"state": state.state, **attributes}
    devices = [
        {"name": device.name, "manufacturer": device.manufacturer, "sw_version": device.sw_version}
        for device in device_registry.async_get(hass).devices.values()
    ]
    return {"states": states, "devices": devices}


async def main(host: str, port: int) -> None:
    """Serve standard input."""
    with tempfile.TemporaryDirectory(prefix="dormouse-home-") as folder:
        hass = await start(folder, host, port)
        print(json.dumps({"version": __version__}), flush=True)
        while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            asked = json.loads(line)
            if "call" in asked:
                domain, service = asked["call"].split(".")
                await hass.services.async_call(domain, service, asked["data"], blocking=True)
                print("{}", flush=True)
            else:
                print(json.dumps(told(hass)), flush=True)
        await hass.async_stop(force=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
