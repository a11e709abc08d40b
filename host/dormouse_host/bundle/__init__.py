"""The agent bundled into a few files instead of thirty modules, with each name and each constant kept once.

Loaded from a board's file system, every module brings a dictionary, its imports and its own copy of each name that it
uses. Merged and with its own names shortened, the same code is a quarter smaller on flash and on the heap. Modules that
are imported only inside functions stay files of their own, so that a wake that only samples loads no network. A source
that cannot be carried over for certain is refused.

    sources.py    the modules, without what MicroPython never sees
    scopes.py     what a name in a module means
    texts.py      long texts into a file of their own
    constants.py  names of numbers and texts
    merge.py      modules into files
    prune.py      removal of unused names
    places.py     where names occur, and of which kind they are
    spoken.py     names that others see or use
    shorten.py    all other names, shortened
    order.py      a file's most frequent names first
    true_names.py their true names, for error texts
"""
