"""Names of attributes that are not the agent's alone, and so are kept.

Whatever name an attribute of the agent shares with an app, a port's contract, umqtt.simple, MicroPython or a board is
listed here (tests/unit/host/test_bundle.py compares).
"""

_APPS = """
    command telemetry run main Port safe_state config log hold battery time
"""

_PORTS = """
    config file start ms pause time clock pretend random cause join forget rssi battery arm feed free firmware blink
    emit reset shaking sleep storage read chunks size replace append rename remove names erases inline
    slots slot phase boots went_back root has other back set start
"""

_UMQTT = """
    sock server port ssl pid cb user pswd keepalive client_id connect disconnect ping publish subscribe wait_msg
    check_msg set_callback set_last_will socket getaddrinfo settimeout setblocking write read close
"""

_MICROPYTHON = """
    _socket accept active add append close commit context feed find flush get high index isconnected link load off
    pending poll prefix reason remove rename replace run send size sleep start stop
"""

APPS = frozenset(_APPS.split())
SPOKEN = frozenset((_APPS + _PORTS + _UMQTT + _MICROPYTHON).split())
