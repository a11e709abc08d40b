"""Who sends: commands, updates and rollouts, each told to the judges as it enters the ledger or the broker."""

import contextlib
from collections.abc import Callable, Sequence

from dormouse_host.errors import HostError
from dormouse_host.ledger import entry
from dormouse_host.ledger.rollouts import Plan as Rollout
from dormouse_host.ledger.updates import Terms
from proofs.years.board import Board
from proofs.years.broker import Broker
from proofs.years.host import Host
from proofs.years.hub import Hub
from proofs.years.oracle import Oracle, Order
from proofs.years.releases import Made, built
from proofs.years.updates import Updates


class Person:
    """`note` writes a line of the world's log."""

    def __init__(
        self, hub: Hub, host: Host, broker: Broker, judges: tuple[Oracle, Updates], note: Callable[[str], object]
    ) -> None:
        self._hub, self._host, self._broker, self._note = hub, host, broker, note
        self._oracle, self._updates = judges
        self.count = 0  # of commands
        self._rolled: dict[tuple[int, str], tuple[str, Order]] = {}  # by what it tells and its device: rollout, command

    def send(self, board: Board, kind: str, expires: int | None, after: str | None, pad: int = 0) -> Order:
        """A command; `expires` in seconds from now."""
        self.count += 1
        k = self.count
        args = f'{{"k":{k}}}' if not pad else f'{{"k":{k},"pad":"{pad * "x"}"}}'
        order = entry.Order(board.name, kind, args, self._unix(expires), after)
        name = self._host.ledger.enter([order])[0]
        made = Order(k, name, board.name, kind, self._hub.now, after)
        if expires is not None:
            made.expires = self._hub.now + self._host.offset + expires
        self._oracle.ordered(made)
        self._note(f"{self._hub.now:.3f} order {k} {name} {board.name} {kind} {expires} {after}")
        self._entered(expires)
        return made

    def flood(self, board: Board, kind: str, count: int) -> None:
        """So many commands at once."""
        for _ in range(count):
            self.send(board, kind, None, None)

    def plain(self, board: Board, pad: int, *, is_bad: bool) -> None:
        """A command without an id, as mosquitto_pub sends it; `is_bad`: the program is, and it may never run."""
        self.count += 1
        payload = f'{{"do":"do","args":{{"k":{self.count},"pad":"{pad * "x"}"}}}}'
        if not is_bad and self._broker.put(f"dormouse/{board.name}/down/cmd", payload.encode()):
            self._oracle.put(Order(self.count, "", board.name, "do", self._hub.now, plain=True))

    def cancel(self, back: int) -> None:
        """The last open command but so many."""
        if len(names := list(self._oracle.open)) > back:
            with contextlib.suppress(HostError):
                self._host.ledger.cancel(names[-1 - back])
            self._host.touch()

    def update(self, board: Board, made: Made, expires: int | None) -> None:
        """An update, unless another is on trial there."""
        release = built(made)
        self._updates.ordered([board.name], release.id, made)
        with contextlib.suppress(HostError):
            self._host.ledger.enter_updates([board.name], release, Terms(self._unix(expires)))
        self._entered(expires)

    def roll_out(self, boards: Sequence[Board], made: Made, waves: Sequence[int], missing: float) -> None:
        """A rollout to all of these."""
        release, names = built(made), [board.name for board in boards]
        self._updates.ordered(names, release.id, made)
        self._updates.rolled_out(names, waves, made)
        plan = Rollout({}, names, waves, dict.fromkeys(names, release.id), missing=missing)
        self._host.ledger.start_rollout(plan, [release])
        self._host.rolls = True
        self._entered(None)

    def roll_out_command(self, boards: Sequence[Board], kind: str, waves: Sequence[int], missing: float) -> None:
        """A command to all of these, wave by wave."""
        self.count += 1
        k = self.count
        names = [board.name for board in boards]
        plan = Rollout({"do": kind, "args": f'{{"k":{k}}}'}, names, waves, {}, missing=missing)
        name = self._host.ledger.start_rollout(plan, [])
        for device in names:
            self.count += 1
            order = Order(self.count, "", device, kind, self._hub.now, tells=k)
            self._rolled[k, device] = name, order
            self._oracle.expected(order)
        self._host.rolls = True
        self._entered(None)

    def its_own(self, board: Board, k: int) -> int:
        """The number of a command on this device that tells `k`."""
        found = self._rolled.get((k, board.name))
        return found[1].k if found else k

    def look(self) -> None:
        """What rollouts have entered meanwhile."""
        for name, order in self._rolled.values():
            if order.name or order.lost:
                continue
            query = "SELECT item FROM rollout_devices JOIN rollouts ON key = rollout WHERE name = ? AND device = ?"
            found = self._host.store.ask(query, (name, order.device))
            order.lost = not found  # the ledger was restored
            if found and found[0][0] and len(found[0][0]) > 1:
                order.name = found[0][0]
                self._oracle.ordered(order)

    def disturbed(self, board: Board) -> None:
        """What may interrupt happens to a board, with what rollouts have entered for it by now."""
        self.look()
        self._oracle.disturbed(board.name)

    def wiped(self, board: Board) -> None:
        """A board's flash was wiped, with what rollouts have entered for it by now."""
        self.look()
        self._oracle.wiped(board.name)
        self._updates.wiped(board.name)

    def withdraw(self, *, rollout: bool) -> None:
        """Cancel the newest update that is under way, or abort the newest rollout, where that may be."""
        ledger = self._host.ledger
        with contextlib.suppress(HostError):
            if rollout:
                for view in ledger.rollout_views()[:1]:
                    ledger.change_rollout(view.name, "abort")
            else:
                for one in ledger.update_views()[:1]:
                    ledger.cancel_update(one.name)
        self._entered(None)

    def _unix(self, expires: int | None) -> int | None:
        return None if expires is None else int(self._host.clock()) + expires

    def _entered(self, expires: int | None) -> None:
        self._host.touch()
        if expires is not None:
            self._hub.at(self._hub.now + expires + 1, self._host.touch)
