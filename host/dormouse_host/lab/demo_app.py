"""The demo's app, one command that logs its argument. It runs on MicroPython too: the demo copies this file."""

from dormouse import command


@command("say", text=str)
def say(wake, text):
    """Log the text, by which the demo knows that a message arrived."""
    wake.log("say", text=text)
