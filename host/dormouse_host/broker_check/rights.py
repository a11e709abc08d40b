"""Probes of whom a broker accepts and what it permits: TLS, anonymous clients, rights, and takeover of sessions.

What the other side receives decides: an acknowledgement of something forbidden proves nothing.
"""

import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

from dormouse import protocol
from dormouse_host import probes, trust
from dormouse_host.address import BrokerAddress, failure, tls_context
from dormouse_host.broker_check.findings import Case, Device, Row, is_denied
from dormouse_host.broker_check.probe import WITHIN, Client, NoAnswer, fresh

_SOON = 0.5  # seconds in which a permitted message arrives
_CLEAR = 1883
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"  # an anonymous client without an id
_DAY = 86400


def anonymous(case: Case) -> Iterator[Row]:
    """A client without a credential."""
    what = "without a credential"
    try:
        with Client(_nobody(case.host), fresh(), clean=True) as client:
            client.connect().close()
    except NoAnswer as error:
        yield Row("anonymous", what, f"refused ({error})", "ok")
        return
    yield Row(
        "anonymous",
        what,
        "accepted",
        "warning",
        "anyone who reaches the broker can be a device, or send commands",
        "mosquitto: allow_anonymous false; RabbitMQ: mqtt.allow_anonymous = false; NATS: authorization",
    )


def _nobody(address: BrokerAddress) -> BrokerAddress:
    """The same broker, without a credential."""
    return replace(address, user=None, password=None, cert=None, key=None)


def rights(case: Case) -> Iterator[Row]:
    """What one device may do with another's topics, and with its own commands."""
    victim, stranger = case.device(0).sleep(), case.device(1)
    whose = "another device" if len(case.devices) > 1 else "the holder of this credential"
    allowed = [name for name, may in _tries(case, victim, stranger) if may]
    if not allowed:
        yield Row("rights", f"rights of {whose}", "none beyond its own topics", "ok")
        return
    means = (
        "one credential is enough to read or forge everything"
        if whose == "another device"
        else ("rights are not by device; give --device twice, with secrets.json of two devices, to try those")
    )
    yield Row(
        "rights",
        f"rights of {whose}",
        ", ".join(allowed),
        "warning",
        means,
        "mosquitto: acl_file with pattern … %u; RabbitMQ: topic permissions; NATS: permissions by user",
    )


def _tries(case: Case, victim: Device, stranger: Device) -> Iterator[tuple[str, bool]]:
    secret = fresh().encode()
    with stranger.client(clean=True) as client:
        try:
            client.connect()
        except NoAnswer:
            return
        for topic in (victim.all_down, f"{case.root}/#", f"{case.root}/+/down/cmd"):
            is_denied(client, lambda topic=topic: client.subscribe(topic))  # type: ignore[misc]
        with case.client() as host:
            host.connect().publish(victim.topic(protocol.CMD), [secret])
            host.close()
        client.work(lambda: any(m.payload == secret for m in client.came), case.slow * _SOON)
        yield "read its commands", any(m.payload == secret for m in client.came)
    forged = probes.payload(fresh())
    for leaf, name in ((protocol.CMD, "send it commands"), (protocol.FENCE, "send it fences")):
        _publish(stranger, victim.topic(leaf), forged + leaf.encode())
        yield name, forged + leaf.encode() in _got(victim)
    with case.client() as host:
        host.connect().subscribe(victim.topic("up/#"))
        _publish(stranger, victim.topic(protocol.RESULT), forged)
        host.work(lambda: any(m.payload == forged for m in host.came), case.slow * _SOON)
        yield "answer for it", any(m.payload == forged for m in host.came)
        host.close()
    if case.devices:
        own = stranger.topic(protocol.CMD)
        with stranger.client(clean=True) as client:
            client.connect().subscribe(stranger.all_down)
            is_denied(client, lambda: client.publish(own, [forged]))
            client.work(lambda: bool(client.came), case.slow * _SOON)
            yield "send commands to itself", bool(client.came)


def _publish(who: Device, topic: str, payload: bytes) -> None:
    name = who.id if who.case.devices else fresh()
    with Client(who.address, name, clean=not who.case.devices) as client:
        is_denied(client, lambda: client.connect().publish(topic, [payload]))


def _got(device: Device) -> list[bytes]:
    with device.client() as client:
        client.connect().subscribe(device.all_down)
        client.rest(device.case.slow * _SOON)
        came = [m.payload for m in client.came]
        client.close()
    return came


def takeover(case: Case) -> Iterator[Row]:
    """Another credential with this device's client id."""
    what = "session taken over by another credential"
    other = case.devices[1] if len(case.devices) > 1 else _nobody(case.host)
    victim = case.device(0)
    if len(case.devices) < 2 and case.host.user is None and case.host.cert is None:
        yield Row(
            "takeover",
            what,
            "yes: there are no credentials",
            "warning",
            "anyone who knows a device's id can disconnect it and get its commands",
            "mosquitto: allow_anonymous false",
        )
        return
    with victim.client(clean=True) as client:
        client.connect()
        client.subscribe(victim.all_down)
        with Client(other, victim.id, clean=False) as thief:
            try:
                thief.connect()
            except NoAnswer:
                if len(case.devices) < 2:
                    yield Row("takeover", what, "not tried", "not tried", "give --device twice")
                    return
            client.rest(case.slow * _SOON)
            lost = not client.alive
            thief.cut()
        case.used.append((other, victim.id))
    if lost:
        yield Row(
            "takeover",
            what,
            "yes",
            "warning",
            "any device's credential is enough to throw another off and get its commands",
            "mosquitto: use_username_as_clientid true; RabbitMQ 4: client id from the certificate; NATS: none",
        )
    else:
        yield Row("takeover", what, "no", "ok")


def encryption(case: Case) -> Iterator[Row]:
    """TLS: the certificate and its name, the oldest version, and ways around it."""
    address = case.host
    if not address.tls:
        yield Row(
            "tls",
            "TLS",
            "none",
            "warning",
            "passwords and commands are read and forged on the way",
            "dormouse broker init, or the broker's TLS listener; then mqtts://",
        )
        return
    now = _handshake(address, tls_context(address.ca, address.cert, address.key))
    if isinstance(now, str):
        yield Row("tls", "TLS", now, "broken", "no device will connect", "a certificate of your CA for this name")
        return
    version, days = now
    yield Row(
        "tls",
        "TLS",
        f"{version}, certificate and name are right, {days:.0f} days left",
        "ok" if days > 30 else "warning",
        "" if days > 30 else "devices that know the time will refuse it then",
        "" if days > 30 else "renew it",
    )
    yield _boards(address)
    old = _handshake(address, _old(address.ca))
    yield Row(
        "tls-old",
        "TLS 1.0 and 1.1",
        "refused" if isinstance(old, str) else f"{old[0]} is accepted",
        "ok" if isinstance(old, str) else "warning",
        "" if isinstance(old, str) else "broken ciphers are accepted on request",
        "" if isinstance(old, str) else "mosquitto: tls_version tlsv1.2",
    )
    open_ports = [
        port for port in dict.fromkeys((address.port, _CLEAR)) if _answers_in_clear(address.host, port, case.slow)
    ]
    yield Row(
        "tls-clear",
        "the same broker in clear",
        f"port {open_ports[0]} answers" if open_ports else f"neither port {address.port} nor {_CLEAR}",
        "warning" if open_ports else "ok",
        "a device or a relay set to mqtt:// sends its password in clear" if open_ports else "",
        "no listener without TLS, or bound to 127.0.0.1" if open_ports else "",
    )


def _boards(address: BrokerAddress) -> Row:
    """Can MicroPython's TLS speak with it?"""
    what = "TLS of a board"
    try:
        why = trust.ask(address.host, address.port).unfit()
    except OSError as error:
        why = failure(error, address.ca)
    setting = "allow TLS 1.2; a certificate with RSA or ECDSA on P-256, signed with SHA-256" if why else ""
    return Row(
        "tls-board", what, why or "it can", "broken" if why else "ok", "no board will connect" if why else "", setting
    )


def _old(ca: str | None) -> ssl.SSLContext:
    context = tls_context(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # a deprecated version on purpose
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def _handshake(address: BrokerAddress, context: ssl.SSLContext) -> tuple[str, float] | str:
    """The version and the certificate's days, or why there was no handshake."""
    try:
        with (
            socket.create_connection((address.host, address.port), WITHIN) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secure,
        ):
            ends = str((secure.getpeercert() or {}).get("notAfter", ""))
            return secure.version() or "TLS", (ssl.cert_time_to_seconds(ends) - time.time()) / _DAY
    except OSError as error:
        return failure(error, address.ca)


def _answers_in_clear(host: str, port: int, slow: float) -> bool:
    try:
        with socket.create_connection((host, port), WITHIN) as plain:
            plain.settimeout(slow)
            plain.sendall(_CONNECT)
            return plain.recv(1) == b"\x20"
    except OSError:
        return False
