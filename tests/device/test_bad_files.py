"""What config.json and secrets.json may get wrong: one line that names file, line and key, on both interpreters.

Must stay true: exit code 2 (fix it), within the budget, and no secret in it.
"""

import json
import subprocess

import pytest

from support.device_folder import Device, failed


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "id"),
        ("{", "config.json, line 1: not JSON: cut off"),
        ("[]", "config.json: not a JSON object"),
        ('{"id":"d","broker":"mqtt://h","colour":1}', "unknown key colour"),
        ('{"id":"d","broker":"mqtt://h","budget":"20"}', "budget is a number from 1 to 600"),
        ('{"id":"d","broker":"mqtt://h","budget":0}', "budget is a number from 1 to 600"),
        ('{"id":"d","broker":"mqtt://h:port"}', "broker is mqtt://host[:port]"),
        ('{"id":"d","broker":"mqtt://user:secret@h"}', "broker is mqtt://host[:port]"),
        ('{"id":"d","broker":"mqtt://secret@h"}', "broker is mqtt://host[:port]"),
    ],
)
def test_configuration_that_is_wrong_names_the_key_and_ends_with_code_2(interpreter, tmp_path, text, words):
    """Fix it: trying again changes nothing. The device sleeps all the same. (All the rules: device/test_config.py.)"""
    device = Device(tmp_path / "device", interpreter, "mqtt://127.0.0.1:9")
    config = tmp_path / "device" / "config.json"
    config.unlink()
    if text is not None:
        config.write_bytes(text.encode("latin-1"))
    error = failed(device.wake(), 2)
    assert error["kind"] == "ConfigError"
    assert words in error["why"]
    assert "secret" not in error["why"]


def test_secrets_that_are_no_json_are_named_and_not_told(interpreter, tmp_path):
    """The file's name is enough to find the fault."""
    device = Device(tmp_path / "device", interpreter, "mqtt://127.0.0.1:9")
    (tmp_path / "device" / "secrets.json").write_text('{"password": "hunter2"')
    ran = device.wake()
    assert failed(ran, 2)["why"] == "secrets.json, line 1: not JSON: cut off"
    assert "hunter2" not in ran.output


def test_files_of_another_encoding_have_one_verdict_on_both_interpreters(interpreter, tmp_path):
    """CPython reads UTF-16 and a byte order mark, MicroPython commas too many."""
    device = Device(tmp_path / "device", interpreter, "mqtt://127.0.0.1:9")
    text = json.dumps(device.config, indent=1)
    config = tmp_path / "device" / "config.json"
    for data, words in (
        (b"\xef\xbb\xbf" + text.encode(), "config.json, line 1: not JSON: expected UTF-8 without a byte order mark"),
        (text.encode("utf-16"), "config.json, line 1: not JSON: expected UTF-8 without a byte order mark"),
        (text.replace("\n}", ",\n}").encode(), 'config.json, line 4: not JSON: expected a key in ", not }'),
        (
            text.replace('"id"', '"led": "a", "led": "b",\n"id"').encode(),
            "config.json, line 2: the key led stands twice in its object",
        ),
    ):
        config.write_bytes(data)
        assert failed(device.wake(), 2)["why"] == words
    config.write_bytes(text.replace("\n", "\r\n").encode())
    assert device.wake().code == 1  # nobody listens
    device.secrets(user="a", password=12345678)  # type: ignore[arg-type]
    assert failed(device.wake(), 2)["why"] == 'secrets.json: password is text in "'


def test_a_folder_that_is_missing_is_one_line(interpreter, tmp_path):
    """And a usage error."""
    argv, environment = interpreter.command(tmp_path / "nowhere")
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"dormouse: {tmp_path}/nowhere: no such folder: expected the one with config.json and app.py\n"
    )
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("interpreter", ["cpython"], indirect=True)  # MicroPython's unix port has no umask
def test_the_copy_of_secrets_json_is_its_users_alone(interpreter, tmp_path, mosquitto):
    device = Device(tmp_path / "device", interpreter, f"mqtt://127.0.0.1:{mosquitto.address.port}")
    device.secrets(command_key="00" * 32)
    assert device.wake().code == 0
    copy = tmp_path / "device" / "state" / "good"
    assert b"00" * 32 in copy.read_bytes()
    assert not copy.stat().st_mode & 0o077
