"""The lines on stdin of `dormouse board run`: one line, one action on the board.

A wrong line changes nothing and is answered by the list of lines.
"""

import os
import re
import select
import sys
from collections.abc import Callable

from dormouse_host import terminal
from dormouse_host.errors import HostError
from dormouse_host.virtual.board import Event, VirtualBoard
from dormouse_host.virtual.running import RunningBoard

HELP = """\
cut                    cut power at once
on                     turn power on
reset                  press the reset button
wifi off | noap | on   access point off (both words) | on, with the password it had
wifi badpw | drop      refuse every password until "on" | drop the connection
wifi password TEXT     set the access point's password
cable in | out         the cable of a board with Ethernet
dns works | fails | never | lies   lies: every name is a portal's
battery VOLTS
pin PIN 0 | 1 | free   drive a pin from outside, or release it
adc PIN VOLTS | free   put a voltage at an ADC pin
dht PIN C PERCENT [DHT11]   connect a DHT22 or DHT11; dht PIN free
i2c ADDRESS REGISTER HEX    set registers of an I2C device; i2c ADDRESS free
speed TIMES            set the factor by which sleep passes faster"""
_SENSORS = ("adc", "dht", "i2c")
_PERIOD = 0.1  # seconds between two queries of the events
_LONGEST = 4096  # bytes of a line


def obey(board: RunningBoard, line: str) -> str | None:
    """Carry out a line. Returns the answer, if any."""
    match line.split():
        case []:
            return None
        case ["cut"]:
            board.power_cut()
        case ["on"]:
            board.power_on()
        case ["reset"]:
            board.press_reset()
        case ["wifi", ("off" | "noap" | "on") as word]:
            board.wifi.present = word == "on"
            if word == "on":
                board.wifi.refuses = False
        case ["wifi", "badpw"]:
            board.wifi.refuses = True
        case ["wifi", "drop"]:
            board.wifi.drop()
        case ["wifi", "password", text]:
            board.wifi.password = text
        case ["cable", ("in" | "out") as word]:
            board.wifi.cable = word == "in"
        case ["dns", ("works" | "fails" | "never" | "lies") as word]:
            board.wifi.dns = word
        case ["battery", volts] if _is_number(volts):
            board.battery = float(volts)
        case ["pin", pin, ("0" | "1" | "free") as level]:
            board.set_pin(int(pin) if pin.isascii() and pin.isdigit() else pin, None if level == "free" else int(level))
        case [word, *rest] if word in _SENSORS:
            return None if isinstance(board, VirtualBoard) and _connect(board, word, rest) else HELP
        case ["speed", times] if _is_number(times) and 1 <= float(times) <= 1000:
            board.speed = float(times)
        case _:
            return HELP
    return None


def wrong(board: RunningBoard, line: str) -> str:
    """What is wrong with a line that `obey` has answered."""
    word = line.split()[0]
    forms = [re.split("   +", form)[0] for form in HELP.splitlines() if form.split()[0] == word]
    if not forms:
        return "no such line; `help` on stdin lists them"
    if word in _SENSORS and not isinstance(board, VirtualBoard):
        return "an emulated board has no sensors: leave out --firmware"
    return f"expected {'; or '.join(forms)}"


def _connect(board: VirtualBoard, word: str, rest: list[str]) -> bool:
    """Change a sensor. False for a line that is none."""
    try:
        match word, rest:
            case "adc", [pin, volts]:
                board.adc(int(pin), None if volts == "free" else float(volts))
            case "dht", [pin, "free"]:
                board.dht(int(pin), None)
            case "dht", [pin, degrees, percent, *model]:
                board.dht(int(pin), float(degrees), float(percent), *model)
            case "i2c", [address, "free"]:
                board.i2c(int(address, 0), None)
            case "i2c", [address, register, data]:
                board.register(int(address, 0), int(register, 0), bytes.fromhex(data))
            case _:
                return False
    except (ValueError, TypeError):
        return False
    return True


def _is_number(text: str) -> bool:
    return text.isascii() and text.replace(".", "", 1).isdigit()


def serve(board: RunningBoard, tell: Callable[[Event], object], stopped: Callable[[], bool]) -> None:
    """Report every event and obey every line until `stopped`, an interrupt, or an error of the board."""
    seen = 0
    reading, rest = True, b""
    while not stopped():
        events = board.events
        for event in events[seen:]:
            tell(event)
        seen = len(events)
        if select.select([sys.stdin] if reading else [], [], [], _PERIOD)[0]:
            data = os.read(sys.stdin.fileno(), 4096)  # not readline, whose buffer select does not see
            reading = bool(data)
            *lines, rest = (rest + data).split(b"\n") if data else (rest, b"")
            for line in lines:
                try:
                    answer = obey(board, line.decode(errors="replace"))
                except HostError as error:
                    if board.failure:
                        raise
                    answer = str(error)
                for text in (answer or "").splitlines():
                    terminal.warn(text)
            rest = rest[-_LONGEST:]
        if board.failure:
            raise HostError(f"the board broke: {board.failure}")
