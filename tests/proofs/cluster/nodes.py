"""Three nodes of RabbitMQ that are one broker, behind HAProxy.

Must stay true: all of it is real and ends with the `with` block; a node is killed, never stopped in order; it is whole
again only when RabbitMQ itself says that no queue needs it.
"""

import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from dormouse_host.address import BrokerAddress
from dormouse_host.broker.local import free_port
from support.brokers import Balancer, PortMapper, Rabbit

NODES = 3
_WHOLE = 120.0  # seconds until a node that was started again has what it missed
_ASK = 60.0  # seconds for RabbitMQ's own tool


class Cluster:
    """A context manager. `queues`: where sessions lie, `quorum` (on every node) or `classic` (on one)."""

    def __init__(self, queues: str) -> None:
        self._queues = queues
        self._stack = ExitStack()
        self.nodes: list[Rabbit] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dormouse-cluster-")))
            self._mapper = stack.enter_context(PortMapper())
            self._ports = [free_port() for _ in range(NODES)]
            lines = ["cluster_formation.peer_discovery_backend = classic_config"]
            lines += [
                f"cluster_formation.classic_config.nodes.{at} = {Rabbit.node(port)}"
                for at, port in enumerate(self._ports, 1)
            ]
            lines += [f"mqtt.durable_queue_type = {self._queues}", "cluster_partition_handling = pause_minority"]
            for port in self._ports:
                self.nodes.append(stack.enter_context(Rabbit(port, lines, self._mapper, self._home)))
            self._front = stack.enter_context(Balancer(self._ports))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def address(self) -> BrokerAddress:
        """Where everybody connects to: HAProxy."""
        return self._front.address

    def kill(self, at: int) -> None:
        """SIGKILL for a node."""
        self.nodes[at].stop()

    def restart(self, at: int) -> None:
        """Start a node again, and wait until the others could do without each other."""
        self.nodes[at].start()
        deadline = time.monotonic() + _WHOLE
        while any(self._ask(port, "check_if_node_is_quorum_critical") for port in self._ports):
            if time.monotonic() > deadline:
                raise AssertionError(f"the cluster is not whole {_WHOLE:g} s after node {at} was started again")
            time.sleep(1)

    def running(self) -> int:
        """How many nodes the first one knows to be running."""
        told = self._tell(self._ports[0], "cluster_status")
        names = told.partition("Running Nodes")[2].partition("Versions")[0]
        return sum(Rabbit.node(port) in names for port in self._ports)

    def _tool(self, port: int, *words: str) -> subprocess.CompletedProcess[str]:
        programs = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-diagnostics"))
        environment = {**os.environ, "HOME": str(self._home), "ERL_EPMD_PORT": str(self._mapper.port)}
        argv = [str(programs[-1]), "-n", Rabbit.node(port), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_ASK, check=False)

    def _ask(self, port: int, question: str) -> bool:
        return self._tool(port, question).returncode != 0

    def _tell(self, port: int, question: str) -> str:
        done = self._tool(port, question)
        if done.returncode:
            raise AssertionError(f"{question}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
