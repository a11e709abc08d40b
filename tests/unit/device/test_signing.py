"""Signed commands: what is not signed with this device's key never was."""

import os
from binascii import crc32, hexlify

from desk import Desk, payload, reason, tombstone

from dormouse.errors import ConfigError
from dormouse.protocol import CMD
from dormouse.signing import SIZE, Signer

KEY = hexlify(bytes(range(32))).decode()
OTHER = hexlify(bytes(range(1, 33))).decode()


def test_signature_is_hmac_sha256():
    """The expected value is from CPython's hmac."""
    data = b'{"id":"s-l.1","do":"ping"}'
    signed = Signer(KEY, "dev").sign(CMD, data)
    assert signed == data + b"\n4fb7c9fe99096809754666459dd03d9a56c1adf087e4f43dbac6d59651ced91e"
    assert len(signed) == len(data) + SIZE
    assert Signer(KEY, "dev").check(CMD, bytearray(signed)) == data


def test_key_that_is_none_is_a_configuration_error():
    for key in ("", "00", "x" * 64, KEY[:-1], KEY + "00", 7, [KEY]):
        assert reason(ConfigError, Signer, key, "dev") == "secrets: command_key is 64 hex digits"


def test_every_changed_byte_and_every_cut_is_noticed():
    signer = Signer(KEY, "dev")
    signed = signer.sign(CMD, payload(1))
    for at in range(len(signed)):
        wrong = bytearray(signed)
        wrong[at] ^= 1
        assert signer.check(CMD, wrong) is None, at
        assert signer.check(CMD, signed[:at]) is None, at
        assert signer.check(CMD, signed[at + 1 :]) is None, at
    assert signer.check(CMD, signed + b" ") is None
    assert signer.check(CMD, b"") is None
    assert signer.check(CMD, signed) == payload(1)


def flash(made):
    """All that lies in the device's folder: size and CRC-32 of each file."""
    files = {}
    for name in os.listdir(made.place):
        crc, size = 0, 0
        with open(made.place + "/" + name, "rb") as file:
            while True:
                piece = file.read(256)
                if not piece:
                    break
                crc, size = crc32(piece, crc), size + len(piece)
        files[name] = (size, crc)
    return files


def desk():
    made = Desk()
    made.admission.signer = Signer(KEY, "dev")
    return made


def test_signed_command_is_taken_without_its_signature():
    """The CRC that answers carry is that of the JSON: its sender reckons so."""
    made = desk()
    assert made.offer(Signer(KEY, "dev").sign(CMD, payload(1))) == []
    assert (made.waiting(), made.admission.refused) == ([("l", 1)], 0)
    assert made.window().crc(1) == crc32(payload(1))
    made.reboot()
    assert made.window().crc(1) == crc32(payload(1))


def test_what_is_not_signed_is_counted_not_answered_and_costs_no_flash():
    """An answer would settle the true command of that id at its sender."""
    made = desk()
    made.inbox.commit()
    before = flash(made)
    right = Signer(KEY, "dev").sign(CMD, payload(1))
    for n, wrong in enumerate(
        (
            payload(1),
            Signer(OTHER, "dev").sign(CMD, payload(1)),
            right[:-1],
            right.replace(b"once", b"oncE"),
            payload(1) + b"\n" + b"0" * 64,
            Signer(OTHER, "dev").sign(CMD, tombstone(1)),
            b"\xff" * 200,
            b"",
        )
    ):
        assert made.offer(wrong) == [], wrong
        assert made.admission.refused == n + 1
    made.inbox.commit()
    assert made.waiting() == []
    assert flash(made) == before
    assert made.offer(right) == []
    assert made.waiting() == [("l", 1)], "and the true one still counts"


def test_replayed_command_does_not_run_again():
    made = desk()
    signed = Signer(KEY, "dev").sign(CMD, payload(1))
    made.offer(signed)
    made.inbox.finish(made.window().index, 1, "succeeded")
    answers = made.offer(signed)
    assert [answer["status"] for answer in answers] == ["succeeded"]
    assert made.waiting() == []


def test_signed_command_without_an_id_is_refused():
    """No window would stop it from being replayed."""
    made = desk()
    assert made.offer(Signer(KEY, "dev").sign(CMD, b'{"do":"once"}')) == []
    assert (made.waiting(), made.admission.refused) == ([], 1)
