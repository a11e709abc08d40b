"""Probes of a broker's queue for a sleeping device: session, order, fence, windows and depth.

Each probe is one experiment with a throw-away device. What the device receives decides, never what the broker
acknowledged.
"""

import math
from collections.abc import Iterator
from contextlib import suppress

from dormouse import protocol
from dormouse_host.broker_check.findings import Case, Row, numbered
from dormouse_host.broker_check.probe import Client, NoAnswer, fresh
from dormouse_host.terminal import span

_HELD = 60
_NEVER = 0xFFFFFFFF  # MQTT 5, section 3.2.2.3.2
_QUIET = 1.0  # seconds without a message after which no more are expected


def versions(case: Case) -> Iterator[Row]:
    """MQTT 3.1.1, which devices speak, and 5, which the relay prefers; session expiry as the broker tells it."""
    with case.client(mqtt5=False) as client:
        client.connect().close()
    try:
        with case.client(mqtt5=True, clean=False) as client:
            client.connect()
            said = client.heard.properties
            expiry = getattr(said, "SessionExpiryInterval", None)
            client.close()
    except NoAnswer as error:
        means = "the relay speaks 3.1.1; no expiry at the broker: an overdue command costs the device its reading"
        yield Row("mqtt5", "MQTT 5", f"no ({error})", "note", means)
        yield _expiry(case, None)
        return
    case.mqtt5 = True
    yield Row("mqtt5", "MQTT 5", "yes", "ok")
    yield _expiry(case, math.inf if expiry in (None, _NEVER) else float(expiry))


def _expiry(case: Case, said: float | None) -> Row:
    """After how long a sleeper is forgotten: by the broker's own configuration, or as it `said` it in MQTT 5."""
    what = "how long it keeps a session"
    setting = "mosquitto: persistent_client_expiration; EMQX: session_expiry_interval; RabbitMQ: mqtt.subscription_ttl"
    known = said if case.forgets is None else case.forgets
    if known is None:
        means = "it is not said in MQTT 3.1.1; --asleep 2h finds out whether it keeps one for so long"
        return Row("session-expiry", what, "not known", "note", means, setting)
    where = "it says" if case.forgets is None else "by its configuration"
    if known == math.inf:
        means = "to clients of MQTT 5; devices speak 3.1.1: --asleep 2h tries one" if case.forgets is None else ""
        return Row("session-expiry", what, f"for ever, {where}", "ok", means)
    means = f"a device that sleeps longer than {span(known)} finds its session gone; the relay sends everything again"
    return Row("session-expiry", what, f"{known:.0f} s, {where}", "warning", means, setting)


def queue(case: Case) -> Iterator[Row]:
    """One wake after sleeping through as many commands as may wait."""
    rows = list(_one_wake(case, case.some))
    if case.some > _HELD and any(row.key == "session" and row.grade == "broken" for row in rows):
        fewer = list(_one_wake(case, _HELD))
        if not any(row.grade == "broken" for row in fewer):
            yield Row(
                "queue-limit",
                "how many commands may wait for a device",
                f"of {case.some} some are lost, of {_HELD} none",
                "warning",
                "they are lost and sent again; where a long queue ends the session, for ever",
                f"for the relay: waiting = {_HELD}",
                {"waiting": _HELD},
            )
            rows = fewer
    yield from rows


def _one_wake(case: Case, count: int) -> Iterator[Row]:
    device = case.device().sleep()
    wanted = numbered(count)
    with case.client() as client:
        client.connect().publish(device.topic(protocol.CMD), wanted)
        client.close()
    nonce = fresh().encode()
    with device.client() as client:
        try:
            device.wake(client, nonce, more=26)
            flight = Row("one-flight", "CONNECT and 29 packets in one flight", "accepted", "ok")
        except NoAnswer as error:
            flight = Row(
                "one-flight",
                "CONNECT and 29 packets in one flight",
                str(error),
                "broken",
                "no wake gets through: every device fails to connect",
                "another broker, or a newer version",
            )
        yield flight
        if flight.grade != "ok":
            return
        before = device.drained(client, nonce)
        client.settle(lambda: len(device.commands(client)) >= count, case.slow * _QUIET)
        client.rest(case.slow * 0.2)
        yield from _judge_queue(client, device.commands(client), wanted)
        yield from _judge_fence(case, client, device.commands(client), before, wanted)
        client.close()


def _judge_queue(client: Client, came: list[bytes], wanted: list[bytes]) -> Iterator[Row]:
    kept = len(set(came) & set(wanted))
    fine = client.heard.present and kept == len(wanted)
    seen = f"session_present={int(client.heard.present)}, {kept} of {len(wanted)} arrived"
    yield Row(
        "session",
        "session kept while asleep",
        seen,
        "ok" if fine else "broken",
        "" if fine else "commands sent to a sleeper are lost; the relay sends them again at the wakes after",
        "" if fine else "mosquitto: no clean session, max_queued_messages; RabbitMQ: mqtt.durable_queue_type",
    )
    first = list(dict.fromkeys(came))
    ordered = first == [payload for payload in wanted if payload in set(first)]
    if kept:
        yield Row(
            "order",
            "order",
            "kept" if ordered else "not kept",
            "ok" if ordered else "broken",
            "" if ordered else "commands run in another order than they were sent in",
            "" if ordered else "another broker",
        )
        twice = len(came) - len(first)
        if twice:
            yield Row(
                "twice", "delivered twice in one wake", f"{twice} of {kept}", "note", "the device's windows drop them"
            )
        flagged = any(m.retain for m in client.came if m.payload in set(wanted))
        if flagged:
            yield Row(
                "flag",
                "queued messages marked RETAIN",
                "yes",
                "warning",
                "commands without an id are refused",
                "another broker",
            )


def _judge_fence(
    case: Case, client: Client, came: list[bytes], before: list[bytes] | None, wanted: list[bytes]
) -> Iterator[Row]:
    if case.overtakes:  # said already, with the setting
        return
    if before is None:
        yield Row(
            "fence",
            "fence comes back behind the queue",
            "never came back",
            "warning",
            "each wake waits for a second fence and then for silence: longer awake",
            "let a device write and read its own down/fence",
        )
        return
    missing = len(set(came) & set(wanted)) - len(set(before) & set(wanted))
    yield Row(
        "fence",
        "fence comes back behind the queue",
        "yes" if not missing else f"{missing} came after it",
        "ok" if not missing else "broken",
        "" if not missing else "a device goes to sleep while commands wait: they come a wake later",
        "" if not missing else "another broker",
    )


def window(case: Case) -> Iterator[Row]:
    """What comes before the first PUBACK, and what of it comes again after a cut."""
    device, quiet = case.device().sleep(), case.slow * _QUIET
    wanted = numbered(_HELD)
    with case.client() as client:
        client.connect().publish(device.topic(protocol.CMD), wanted)
        client.close()
    with device.client(hold=True) as client:
        client.connect().ask(device.all_down)  # amqtt answers it only when it gets PUBACKs
        client.settle(lambda: False, quiet)
        held = len(device.commands(client))
        client.cut()
    all_of_them = held >= _HELD
    yield Row(
        "window",
        "sent before any PUBACK",
        f"all {_HELD}" if all_of_them else str(held),
        "note",
        "" if all_of_them else "a longer queue costs a round trip for each so many",
        "" if all_of_them else "mosquitto: max_inflight_messages; RabbitMQ: mqtt.prefetch; NATS: max_ack_pending",
    )
    nonce = fresh().encode()
    before: list[bytes] | None = None
    came: set[bytes] = set()
    with device.client() as client, suppress(NoAnswer):
        device.wake(client, nonce)
        before = device.drained(client, nonce, 5.0)
        client.settle(lambda: len(set(device.commands(client))) >= _HELD, quiet)
        if case.overtakes:  # the fence proves nothing there
            before = device.commands(client)
        came = set(device.commands(client)) & set(wanted)
        client.close()
    if before is None:
        seen, means = "the connection after it got nothing", "after a power cut a device is deaf until its next wake"
    elif len(set(before) & set(wanted)) == _HELD:
        yield Row(
            "cut",
            "power cut before PUBACK",
            f"all {_HELD} came again{'' if case.overtakes else ', before the fence'}",
            "ok",
        )
        return
    else:
        missing = _HELD - len(set(before) & set(wanted))
        seen = f"{missing} of {_HELD} missing when the fence came, {_HELD - len(came)} {quiet:g} s later"
        means = "the wake after a power cut ends too early; what is missing comes at a later one, or is sent again"
    yield Row("cut", "power cut before PUBACK", seen, "warning", means, "NATS: ack_wait (30 s); else another broker")


def depth(case: Case) -> Iterator[Row]:
    """How many messages queue for a sleeping device, and does the sender learn what was dropped?"""
    device = case.device().sleep()
    wanted = numbered(case.depth)
    with case.client() as client:
        reasons = client.connect().publish(device.topic(protocol.CMD), wanted)
        client.close()
    with device.client() as client:
        client.connect().subscribe(device.all_down)
        came = _all_that_comes(client, case)
        client.close()
    yield _depth_row(
        "depth-down",
        "queue for a sleeping device",
        wanted,
        came,
        reasons,
        "commands above it are lost and sent again; fine while few wait (the relay lets 300 wait)",
    )


def depth_up(case: Case) -> Iterator[Row]:
    """How many messages queue for a relay that is away?"""
    device, name = case.device(), fresh()
    topic = device.topic("up/#")
    if case.devices:  # where credentials are real, so may be the session under this one
        with case.client(clean=True, client_id=name) as client:
            client.connect().close()
    with case.client(clean=False, client_id=name) as client:
        client.connect().subscribe(topic)
        client.close()
    wanted = numbered(case.depth)
    with device.client(clean=True) as sender:
        reasons = sender.connect().publish(device.topic(protocol.TELEMETRY), wanted)
        sender.close()
    with case.client(clean=False, client_id=name) as client:
        client.connect().subscribe(topic)
        came = _all_that_comes(client, case)
        client.close()
    yield _depth_row(
        "depth-up",
        "queue for a relay that is away",
        wanted,
        came,
        reasons,
        "results and telemetry above it are lost, and requested again",
    )


def _all_that_comes(client: Client, case: Case) -> list[bytes]:
    """Receive until all that was sent has come, or nothing came for a second."""
    seen, most, quiet = -1, case.depth, case.slow * _QUIET
    while seen < len(client.came) < most:
        seen = len(client.came)
        client.settle(lambda seen=seen: len(client.came) >= most or len(client.came) >= seen + 100, quiet)  # type: ignore[misc]
    return [m.payload for m in client.came]


def _depth_row(key: str, what: str, wanted: list[bytes], came: list[bytes], reasons: list[int], means: str) -> Row:
    kept = [payload for payload in wanted if payload in set(came)]
    count = len(wanted)
    if len(kept) == count:
        return Row(key, what, f"all of {count}; more were not tried", "ok")
    told = sum(reason >= 0x80 for reason in reasons)
    which = "the first" if kept == wanted[: len(kept)] else "the last" if kept == wanted[-len(kept) :] else "some"
    seen = f"{which} {len(kept)} of {count}; {told or 'no'} PUBACKs said so"
    setting = "mosquitto: max_queued_messages; RabbitMQ: policy max-length; NATS: mqtt max_ack_pending, stream limits"
    return Row(key, what, seen, "warning" if kept else "broken", means, setting)
