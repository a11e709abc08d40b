"""The agent's folder on flash: the Storage part of the porting contract, for littlefs and for POSIX.

Must stay true: what these functions promise about power cuts rests on the file system below, so that any other
than littlefs 2 and POSIX is refused at the start. FAT has no atomic rename (a cut inside one leaves both names or
none); mpremote's mounted folder promises nothing.

littlefs: a file's content changes at one instant, when it is flushed or closed, and a small file lies inline in
its directory's log: written again in place, it costs one program and no erase. So `replace` writes small files in
place, and everything else beside the file (`name~`) and renames. Leftovers `name~` go when the folder is opened.
POSIX: always beside the file; fsync, rename, fsync of the folder. MicroPython's flush() is fsync there, but it
cannot sync a folder: after a crash of the whole machine a rename may be undone (the old content, whole).
"""

import os
import sys

from ..errors import ConfigError, StorageError

_MICRO = sys.implementation.name == "micropython"


def absolute(folder):
    """The path of `folder` from the root, which holds also where the program changes the current folder."""
    return folder if folder[:1] == "/" else os.getcwd().rstrip("/") + "/" + folder


def file_system(folder):
    """The class name of the file system that `folder` lies on ("VfsLfs2", "VfsFat", …); on CPython "posix"."""
    if not _MICRO:
        return "posix"
    import vfs

    folder = absolute(folder)
    best = name = ""
    for fs, at in vfs.mount():
        if (folder + "/").startswith(at.rstrip("/") + "/") and len(at) > len(best):
            best, name = at, type(fs).__name__
    return name


def _call(function, *args):
    try:
        return function(*args)
    except OSError as e:
        raise StorageError("%s: %s" % (args[0], e))


if not _MICRO:

    def _sync(folder):
        f = os.open(folder, os.O_RDONLY)
        try:
            _call(os.fsync, f)
        finally:
            os.close(f)


class Storage:
    """Files in `folder`, which is made if its parent exists. `inline`: see the contract in ports/__init__.py.

    ConfigError when the file system cannot keep the promises.
    """

    def __init__(self, folder, inline=128):
        kind = file_system(folder)
        if kind not in ("VfsLfs2", "VfsPosix", "posix"):
            raise ConfigError("%s is on %s: no atomic rename; format it as littlefs 2" % (folder, kind or "nothing"))
        self.inline = inline
        self.erases = 0  # flash blocks that writes have cost since the start, as littlefs works: an estimate
        self._place = kind == "VfsLfs2"
        self._dir = absolute(folder).rstrip("/") + "/"
        try:
            os.mkdir(folder)
        except OSError:
            pass  # it is there, or names() says what is wrong
        for name in self.names():
            if name[-1] == "~":
                try:
                    self.remove(name)
                except StorageError:
                    pass  # worn flash: it does no harm, and the device must come up

    def read(self, name):
        return b"".join(self.chunks(name)) if self._stat(name) else None

    def chunks(self, name, most=256):
        try:  # in this frame: it is the deepest of the agent
            f = open(self._dir + name, "rb")  # noqa: SIM115
            try:
                while True:
                    piece = f.read(most)
                    if not piece:
                        return
                    yield piece
            finally:
                f.close()
        except OSError as e:
            if e.errno != 2:  # ENOENT
                raise StorageError("%s: %s" % (name, e))

    def size(self, name):
        st = self._stat(name)
        return st[6] if st else 0

    def _stat(self, name):
        try:
            return os.stat(self._dir + name)
        except OSError as e:
            if e.errno == 2:  # ENOENT
                return None
            raise StorageError("%s: %s" % (name, e))

    def replace(self, name, data, mode="wb"):
        """The file holds all of `data` (bytes, or an iterator of pieces), or what it held before; `mode` for append."""
        rest = ()
        aside = name
        if not isinstance(data, (bytes, bytearray)):
            data, rest = b"", data
        if mode == "wb" and (rest != () or not self._place or len(data) > self.inline):
            self.erases += 1 + len(data) // 4096
            aside += "~"
        try:
            # In this frame: what is written may be read from flash meanwhile, the deepest of the agent. No jump
            # between open and write: only at jumps does MicroPython look for Ctrl-C, and a file opened with "wb" and
            # closed without its data is an empty file.
            f = open(self._dir + aside, mode)  # noqa: SIM115
            try:
                f.write(data)
                for piece in rest:
                    f.write(piece)
                f.flush()
                if not _MICRO:
                    os.fsync(f.fileno())
            finally:
                f.close()
            if aside != name:
                os.rename(self._dir + aside, self._dir + name)
                aside = name
        except OSError as e:
            raise StorageError("%s: %s" % (aside, e))
        finally:
            if aside != name:
                try:
                    os.remove(self._dir + aside)
                except OSError:
                    pass  # it was never made, or goes when the folder is opened
        if not _MICRO:
            _sync(self._dir)

    def append(self, name, pieces):
        self.erases += 1  # more only where a journal's group is longer than a block, which is rare
        self.replace(name, pieces, "ab")

    def remove(self, name):
        if self._stat(name):
            try:  # in this frame, for the same reason
                os.remove(self._dir + name)
            except OSError as e:
                raise StorageError("%s: %s" % (name, e))
            if not _MICRO:
                _sync(self._dir)

    def names(self):
        return _call(os.listdir, self._dir)

    def free(self):
        """Bytes that the file system has left."""
        st = _call(os.statvfs, self._dir)
        return st[1] * st[4] if 0 < st[4] <= st[2] else 0  # littlefs counts a block twice, at times
