"""The app of `dormouse demo --board`: a quick command, one that takes a second, and one that never ends.

It runs on MicroPython: the demo flashes this file.
"""

from dormouse import command


@command("say", text=str)
def say(wake, text):
    """Log the text: that is how the demo knows that a message arrived."""
    wake.log("say", text=text)
    return {"said": text}


@command("work", limit=5, n=int)
def work(wake, n):
    """A second of work."""
    wake.log("say", text="work " + str(n))
    wake.hold(1)


@command("hang", limit=1)
def hang(wake):
    """Never returns, and never waits: only the watchdog ends it."""
    wake.log("say", text="hang")
    while True:
        pass
