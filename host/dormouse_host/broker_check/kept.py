"""Probes of what a broker keeps beside the queue: QoS 0, expiry, the retained report, and what survives a kill."""

import time
from collections.abc import Iterator

from dormouse import protocol
from dormouse_host import probes
from dormouse_host.broker_check.findings import Case, Device, Row, numbered
from dormouse_host.broker_check.probe import Client, NoAnswer

_SAVED = 3.0  # seconds before the kill, in which a broker that saves every second has saved
_EXPIRED = 2.1  # seconds after which an expiry of one has passed
_QUIET = 1.0  # seconds without a message after which no more are expected


def qos0(case: Case) -> Iterator[Row]:
    """What is sent at QoS 0 to a sleeper."""
    device = case.device().sleep()
    with case.client() as client:
        client.connect().publish(device.topic(protocol.CMD), numbered(5), 0)
        client.publish(device.topic(protocol.CMD), [b"last"])
        client.close()
    with device.client() as client:
        client.connect().subscribe(device.all_down)
        client.settle(lambda: b"last" in device.commands(client), case.slow * _QUIET)
        kept = len(device.commands(client)) - 1
        client.close()
    yield Row(
        "qos0",
        "QoS 0 to a sleeper",
        f"{kept} of 5 kept" if kept > 0 else "dropped",
        "note",
        "" if kept > 0 else "send commands at QoS 1, as `dormouse relay` does",
    )


def message_expiry(case: Case) -> Iterator[Row]:
    """A message whose expiry passes while the device sleeps."""
    what = "expiry of a message"
    if not case.mqtt5:
        yield Row("message-expiry", what, "needs MQTT 5", "note")
        return
    device = case.device().sleep()
    with case.client() as client:
        client.connect().publish(device.topic(protocol.CMD), [b"short"], expiry=1)
        client.publish(device.topic(protocol.CMD), [b"long"], expiry=3600)
        client.close()
    time.sleep(_EXPIRED)
    with device.client() as client:
        client.connect().subscribe(device.all_down)
        client.settle(lambda: b"long" in device.commands(client), case.slow * _QUIET)
        came = device.commands(client)
        client.close()
    if b"long" not in came:
        yield Row(
            "message-expiry",
            what,
            "the message with an hour left was lost",
            "broken",
            "commands with an expiry do not arrive",
            "another broker",
        )
    elif b"short" in came:
        yield Row("message-expiry", what, "delivered though overdue", "note", "the device rejects it by its own clock")
    else:
        yield Row("message-expiry", what, "overdue ones are dropped", "ok")


def retained(case: Case) -> Iterator[Row]:
    """Is the wake report retained, so that a relay that starts late knows the devices' state?"""
    device = case.device()
    try:
        with device.client(clean=True) as client:
            client.connect().publish(device.topic(protocol.WAKE), [probes.payload("report")], retain=True)
            client.close()
    except NoAnswer as error:
        yield Row(
            "retained",
            "retained report",
            f"refused ({error})",
            "warning",
            "every wake is cut at its report; without it a relay that lost its session waits for the next wake",
            "for the devices: retain = false; mosquitto: retain_available",
            {"retain": False},
        )
        return
    with case.client() as client:
        client.connect().subscribe(device.topic("up/#"))
        client.settle(lambda: bool(client.came), case.slow * _QUIET)
        kept = [m.retain for m in client.came]
        client.publish(device.topic(protocol.WAKE), [b""], retain=True)
        client.close()
    with case.client() as client:
        client.connect().subscribe(device.topic("up/#"))
        client.rest(case.slow * 0.3)
        cleared = not client.came
        client.close()
    fine = kept == [True] and cleared
    seen = "kept, and cleared when told" if fine else "kept, not cleared" if kept else "not kept"
    yield Row(
        "retained",
        "retained report",
        seen,
        "ok" if fine else "warning",
        ""
        if fine
        else "a relay that starts late knows nothing of a device until its next wake"
        if not kept
        else "`dormouse devices remove` leaves the report at the broker",
        "" if fine else "mosquitto: retain_available, rights; RabbitMQ: keeps it, but gives it to exact topics only",
    )


def restart(case: Case) -> Iterator[Row]:
    """What survives a kill of the broker."""
    what = "broker killed and started again"
    if case.restart is None:
        yield Row("restart", what, "not tried", "not tried", "use --restart COMMAND, which kills and starts it")
        return
    device: Device = case.device().sleep()
    wanted = numbered(20)
    with case.client() as client:
        client.connect().publish(device.topic(protocol.CMD), wanted)
        client.close()
    time.sleep(case.slow * _SAVED)
    case.restart()
    with device.client() as client:
        _connect_again(client)
        client.subscribe(device.all_down)
        client.settle(lambda: len(device.commands(client)) >= len(wanted), 2 * case.slow * _QUIET)
        kept, present = len(set(device.commands(client))), client.heard.present
        client.close()
    fine = present and kept == len(wanted)
    yield Row(
        "restart",
        what,
        f"session_present={int(present)}, {kept} of {len(wanted)} arrived, sent {case.slow * _SAVED:g} s before",
        "ok" if fine else "warning",
        "" if fine else "what waited is gone; the relay notices and sends it again, a wake later",
        "" if fine else "mosquitto: persistence true, autosave_on_changes true and autosave_interval 1, both",
    )


def asleep(case: Case) -> Iterator[Row]:
    """Is a sleeper still known after so long?"""
    if case.asleep is None:
        return
    device = case.device().sleep()
    with case.client() as client:
        client.connect().publish(device.topic(protocol.CMD), [b"wait"])
        client.close()
    time.sleep(case.asleep)
    with device.client() as client:
        client.connect().subscribe(device.all_down)
        client.settle(lambda: bool(device.commands(client)), case.slow * _QUIET)
        fine = client.heard.present and device.commands(client) == [b"wait"]
        client.close()
    long = f"{case.asleep:g} s"
    yield Row(
        "asleep",
        f"a sleeper after {long}",
        "its session and its command are there" if fine else "forgotten",
        "ok" if fine else "warning",
        "" if fine else f"a device that sleeps {long} finds its session gone; the relay sends everything again",
        "" if fine else "mosquitto: persistent_client_expiration; EMQX: session_expiry_interval",
    )


def _connect_again(client: Client) -> None:
    """Connect, for some seconds again and again until the broker listens."""
    deadline = time.monotonic() + 30
    while True:
        try:
            client.connect()
            return
        except NoAnswer as error:
            if error.refused or time.monotonic() > deadline:
                raise
            client.heard.ended = ""
            time.sleep(0.1)
