"""RabbitMQ and NATS as Debian packages them, each on ports and with a data folder of its own; and HAProxy before them.

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


class PortMapper(processes.Started):
    """Erlang's port mapper, on a port of its own: started by Erlang itself it is a daemon that outlives everything."""

    def __init__(self) -> None:
        self.port = free_port()
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [_need("epmd", "rabbitmq-server"), "-port", str(self.port), "-address", HOST]
        self._child = processes.start(argv, output=subprocess.DEVNULL)

    def close(self) -> None:
        if self._child:
            processes.stop(self._child)
            self._child = None


class Rabbit(LocalBroker):
    """RabbitMQ with the MQTT plugin and otherwise stock. Starting takes it 10 to 20 seconds. In a cluster the nodes
    share `mapper` and `home`; `settings` are lines of its configuration.
    """

    name = "rabbitmq-server"
    _listening = "completed with"
    _start_within = 120.0

    def __init__(
        self,
        port: int = 0,
        settings: Sequence[str] = (),
        mapper: PortMapper | None = None,
        home: Path | None = None,
    ) -> None:
        super().__init__(port=port)
        self._settings = settings
        self._mapper, self._owns = mapper or PortMapper(), mapper is None
        self._home = home or self.folder

    @staticmethod
    def node(port: int) -> str:
        """What the node at this port is called in its cluster."""
        return f"dormouse{port}@localhost"

    def _argv(self, port: int) -> Sequence[str]:
        _need("rabbitmq-server", "rabbitmq-server")
        programs = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        (self.folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        ports = [f"listeners.tcp.default = {HOST}:{free_port()}", f"mqtt.listeners.tcp.default = {HOST}:{port}"]
        (self.folder / "rabbit.conf").write_text("\n".join([*ports, *self._settings]) + "\n")
        if self._owns:
            self._mapper.close()
            self._mapper.start()
        settings = {
            "HOME": self._home,
            "RABBITMQ_NODENAME": self.node(port),
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder / "log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": self.folder / "rabbit.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
            "RABBITMQ_PID_FILE": self.folder / "pid",
            "RABBITMQ_DIST_PORT": free_port(),
            "ERL_EPMD_PORT": self._mapper.port,
            "ERL_EPMD_ADDRESS": HOST,
        }
        return ["env", *(f"{key}={value}" for key, value in settings.items()), str(programs[-1])]

    def stop(self) -> None:
        if self._child:  # a shell script, and Erlang under it: of an orderly end nothing is wanted
            os.killpg(self._child.pid, signal.SIGKILL)
        super().stop()

    def close(self) -> None:
        super().close()
        if self._owns:
            self._mapper.close()


class Balancer(LocalBroker):
    """HAProxy in front of the brokers at these ports, each asked three times a second whether it is there."""

    name = "haproxy"
    _listening = "Loading success"

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__()
        self._ports = ports

    def _argv(self, port: int) -> Sequence[str]:
        check = "check inter 300ms fall 2 rise 2 on-marked-down shutdown-sessions"
        lines = ["defaults", "mode tcp", "timeout connect 2s", "timeout client 1h", "timeout server 1h"]
        lines += ["retries 2", "option redispatch", "listen mqtt", f"bind {HOST}:{port}"]
        lines += [f"server n{at} {HOST}:{to} {check}" for at, to in enumerate(self._ports)]
        (self.folder / "haproxy.cfg").write_text("\n".join(lines) + "\n")
        return [_need("haproxy", "haproxy"), "-W", "-db", "-f", str(self.folder / "haproxy.cfg")]
