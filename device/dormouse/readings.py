"""Taking the readings: each by itself, and each of its values by itself.

Must stay true: whatever a reading raises or returns costs that reading or that value alone, and the log names it; the
values of one sample that are too many for one record go into several.
"""

from dormouse import app, codec, protocol
from dormouse.log import raised
from dormouse.state import due


def sample(context, log, pieces, now, before):
    """Take the readings that are due at `now`, the last sample having been at `before`, in seconds of the device's own
    count. Returns the records, each JSON as bytes. `pieces` is a pieces.Pieces.
    """
    taken = {}  # key -> the reading that it is from
    records = []
    for name in sorted(app.readings):
        function, every = app.readings[name]
        try:
            if not due(every, now, before):
                continue
            why = pieces.skipped("reading " + name)
            if why:
                log("error", kind="telemetry", stage=name, why=why)
                continue
            values = function(context)
            if values is None:
                continue
            if not isinstance(values, dict):
                raise TypeError("it returned no dict but %s" % type(values).__name__)
            for key in values:
                data = codec.encode_within({key: values[key]})
                if key in taken:
                    why = "%s has returned it already" % taken[key]
                elif data is None:
                    why = "no JSON of at most %d bytes" % protocol.VALUE_LIMIT
                else:
                    taken[key] = name
                    if records and len(records[-1]) + len(data) <= protocol.VALUE_LIMIT:
                        records[-1] = records[-1][:-1] + b"," + data[1:]
                    else:
                        records.append(data)
                    continue
                log("error", kind="telemetry", stage="%s.%s" % (name, key), why=why)
        except BaseException as e:
            log("error", kind="telemetry", stage=name, why=raised(e))
    pieces.end()
    return records
