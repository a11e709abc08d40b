"""The agent as a few files instead of thirty modules: one name and one constant each, kept once.

Must stay true: a bundle does what the modules do; whatever in a source it can't carry over for certain, it refuses.

Loaded from a board's file system every module brings a dictionary, its imports and its own copy of each name that it
uses. Merged, and with its own names shortened, the same code is a quarter smaller on flash and on the heap. Modules
that are imported only inside functions stay files of their own, so that a wake that only samples loads no network.

    sources.py    the modules, without what MicroPython never sees
    scopes.py     what a name in a module means
    constants.py  names that stand for a number or a text
    merge.py      modules into files
    prune.py      what nothing asks for, left out
    places.py     where names stand, and of which kind they are
    spoken.py     names that others see or say
    shorten.py    all other names, made short
"""
