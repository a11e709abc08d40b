"""The demo's app: one command, which says what it was told.

Must stay true: it runs on MicroPython as it stands here, because the demo copies this very file to the device's folder.
"""

from dormouse import command


@command("say", text=str)
def say(wake, text):
    """Log the text: that is how the demo knows that a message arrived."""
    wake.log("say", text=text)
