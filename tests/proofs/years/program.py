"""The program on every board: commands whose effects the world counts, and a reading that counts itself.

Its manners are the board's `mood`, or its release's: it may hang or raise, at import, in `safe_state`, in the reading
or in a handler.
"""

from types import ModuleType
from typing import Any

from proofs.years.board import Board

KINDS = ("do", "again", "fail", "slow", "long", "hang", "quits")
REPEATABLE = ("again",)


def load(board: Board) -> ModuleType:
    """What importing `app` gives."""
    app = board.universe.modules["dormouse.app"]
    world = board.watch
    manner: str = world.begins(board)

    def mood() -> str:
        return manner or str(world.mood(board))

    if mood() == "import raises":
        raise ValueError("at import")
    if mood() == "import hangs":
        board.hang()

    def effect(k: int, kind: str) -> None:
        world.begun(board, k)
        board.operation("effect", 1)
        world.effect(board, k, kind)
        board.operation("effect", 1)

    def do(wake: Any, k: int, pad: str) -> dict[str, int]:
        effect(k, "do")
        if mood() == "handler hangs":
            board.hang()
        return {"k": k}

    def again(wake: Any, k: int, pad: str) -> dict[str, int]:
        effect(k, "again")
        if mood() == "handler hangs":
            board.hang()
        return {"k": k}

    def fail(wake: Any, k: int, pad: str) -> None:
        effect(k, "fail")
        raise ValueError(k)

    def slow(wake: Any, k: int, pad: str) -> dict[str, int]:
        wake.hold(2)
        effect(k, "slow")
        wake.hold(1)
        return {"k": k}

    def long(wake: Any, k: int, pad: str) -> None:
        effect(k, "long")
        wake.hold(7)

    def hang(wake: Any, k: int, pad: str) -> None:
        effect(k, "hang")
        board.hang()

    def quits(wake: Any, k: int, pad: str) -> None:
        effect(k, "quits")
        raise SystemExit

    for function in (do, again, fail, slow, long, hang, quits):
        name = function.__name__
        app.command(name, repeatable=name in REPEATABLE, k=int, pad=(str, ""))(function)

    def count(wake: Any) -> dict[str, int]:
        if mood() == "reading raises":
            raise OSError(5)
        if mood() == "reading hangs":
            board.hang()
        return {"n": world.sampled(board)}

    app.telemetry()(count)
    module = ModuleType("app")
    if mood() == "safe_state hangs":
        module.safe_state = board.hang  # type: ignore[attr-defined]
    return module
