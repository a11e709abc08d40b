"""RabbitMQ and NATS as Debian packages them, each on ports and with a data folder of its own.

Must stay true: nothing of the system's own service is read or written; broker, Erlang's port mapper and data are gone
with the `with` block; what is missing fails the test, because `make test` installs it.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from dormouse_host import processes
from dormouse_host.broker.local import HOST, LocalBroker, free_port

_SBIN = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def _need(program: str, package: str) -> str:
    found = shutil.which(program, path=_SBIN)
    return found or pytest.fail(f"{program} is not installed: apt-get install {package}", pytrace=False)


class Nats(LocalBroker):
    """nats-server with JetStream, which its MQTT needs, and otherwise stock."""

    name = "nats-server"
    _listening = "Server is ready"

    def _argv(self, port: int) -> Sequence[str]:
        conf = self.folder / "nats.conf"
        conf.write_text(
            f"server_name: test\nlisten: {HOST}:{free_port()}\n"
            f"jetstream {{ store_dir: {self.folder}/data }}\nmqtt {{ listen: {HOST}:{port} }}\n"
        )
        return [_need("nats-server", "nats-server"), "-c", str(conf)]


class Rabbit(LocalBroker):
    """RabbitMQ with the MQTT plugin and otherwise stock. Starting takes it 10 to 20 seconds."""

    name = "rabbitmq-server"
    _listening = "completed with"
    _start_within = 120.0

    def __init__(self) -> None:
        super().__init__()
        self._mapper: subprocess.Popen[bytes] | None = None

    def _argv(self, port: int) -> Sequence[str]:
        _need("rabbitmq-server", "rabbitmq-server")
        programs = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        (self.folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        (self.folder / "rabbit.conf").write_text(
            f"listeners.tcp.default = {HOST}:{free_port()}\nmqtt.listeners.tcp.default = {HOST}:{port}\n"
        )
        mapper = free_port()
        settings = {
            "HOME": self.folder,
            "RABBITMQ_NODENAME": f"dormouse{port}@localhost",
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder / "log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbit.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
            "RABBITMQ_PID_FILE": self.folder / "pid",
            "RABBITMQ_DIST_PORT": free_port(),
            "ERL_EPMD_PORT": mapper,
            "ERL_EPMD_ADDRESS": HOST,
        }
        # else Erlang starts its port mapper itself, as a daemon that outlives everything
        self._stop_mapper()
        with self.folder.joinpath("epmd.log").open("wb") as log:
            argv = [_need("epmd", "rabbitmq-server"), "-port", str(mapper), "-address", HOST]
            self._mapper = processes.start(argv, output=log)
        return ["env", *(f"{key}={value}" for key, value in settings.items()), str(programs[-1])]

    def _stop_mapper(self) -> None:
        if self._mapper:
            processes.stop(self._mapper)
            self._mapper = None

    def stop(self) -> None:
        if self._child:  # a shell script, and Erlang under it: of an orderly end nothing is wanted
            os.killpg(self._child.pid, signal.SIGKILL)
        super().stop()
        self._stop_mapper()
