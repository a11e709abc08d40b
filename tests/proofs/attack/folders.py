"""What root does where another user may write, and what a shell does with what was written for it.

Must stay true: the other user is one of this machine's, and the shell a real one; what can be read afterwards decides.
"""

import os
import pwd
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from dormouse_host import files
from dormouse_host.broker import credentials, setup
from dormouse_host.broker.folder import BrokerFolder
from dormouse_host.errors import HostError
from proofs.attack import Outcome, attack
from proofs.attack.testbed import Testbed
from support import made_broker
from support.another_user import NAME, does, open_folder, readable

_GROUP = "on the machine"
_NAMES = ("fe80::1%$(touch PWNED)", "fe80::1%`touch PWNED`", "fe80::1%x;touch PWNED", "$(touch PWNED).example")


@attack(_GROUP, "the broker's user puts links to the CA's key where root reads its passwords and rights")
def try_links(testbed: Testbed) -> Outcome:
    if os.geteuid() != 0:
        return Outcome(False, "only root has a key that another user may not read")
    found, refused = b"", 0
    with open_folder() as folder:
        ports = {"port": made_broker.free_port(), "cert_port": made_broker.free_port()}
        made = setup.init(folder / "b", ["127.0.0.1"], user=NAME, **ports)  # type: ignore[arg-type]
        key = (made.path / "ca" / "ca.key").read_bytes().splitlines()[1]
        if does(made.passwd.unlink) or does((made.broker / "acl").unlink):
            return Outcome(True, "they can be replaced")
        for n, path in enumerate((made.passwd, made.broker / "acl")):
            before = files.read(path)
            for one in (made.broker, path):  # as it was made before the folder was root's
                os.chown(one, pwd.getpwnam(NAME).pw_uid, -1)
            path.unlink()
            path.symlink_to("../ca/ca.key")
            try:
                credentials.provision(BrokerFolder(made.path), f"d{n}", folder)
            except HostError:
                refused += 1
            found += readable(made.broker)
            with suppress(FileNotFoundError):
                path.unlink()
            files.write(path, before, files.SHARED)
    return Outcome(key in found, f"no link can be placed; {refused} that were there refused")


@attack(_GROUP, "shell words in the names and the path of a broker, sourced by sh")
def try_sourced(testbed: Testbed) -> Outcome:
    ran = 0
    for n, name in enumerate(_NAMES):
        folder = Path(tempfile.mkdtemp(dir=testbed.folder)) / f"sourced{n}$(touch${{IFS}}PWNED)"  # new in each try
        for words in ((name,), ("bücher.example",)):
            user = ("--user", "root") if os.geteuid() == 0 else ()
            testbed.line("broker", "init", str(folder), *(w for one in words for w in ("--name", one)), *user)
            for file in folder.glob("relay-*.env"):
                at = testbed.folder / "sourced.env"
                at.write_bytes(file.read_bytes())
                argv = ["sh", "-c", "set -a; . ./sourced.env"]
                subprocess.run(argv, cwd=testbed.folder, capture_output=True, check=False)
                ran += 1
    found = list(testbed.folder.glob("PWNED*"))
    for path in found:
        path.unlink()
    return Outcome(bool(found) or not ran, f"{ran} files sourced, nothing was run")
