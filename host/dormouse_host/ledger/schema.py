"""The tables of a ledger, as SQLAlchemy Core sees them; a test compares them with what the migration makes.

Times are Unix seconds. JSON is text, exactly as it was sent or came. `seq` counts within one device and orders what
happened to it. Of a table whose rows are followed (following.py) `key` rises, and the row with the highest one is never
deleted: SQLite would give that key again.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

HEAD = "0007"  # the newest step of migrations/versions
VERSION_TABLE = "dormouse_schema"
metadata = MetaData()
KEY = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts by itself in SQLite

ledger_names = Table(
    "ledger_names",  # the ledger's own, for each device another
    metadata,
    Column("device", Text, primary_key=True),  # one that was removed keeps it: its numbers go on if it comes back
    Column("name", Text, nullable=False),
    Column("since", Double, nullable=False),
    Column("why", Text, nullable=False),
)
devices = Table(
    "devices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("added", Double, nullable=False),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("due", Boolean, nullable=False, server_default=text("false")),  # the relay has something to look at
    Column("state", Text),
    Column("wake", BigInteger, nullable=False, server_default="0"),  # the highest that was heard in this state
    Column("payload_limit", Integer),
    Column("catalogue", Text),
    Column("catalogue_hash", Text),  # of `catalogue`; the report's may be newer
    Column("report", Text),
    Column("seen", Double),
    Column("next_due", Double),
    Column("relay", Text),  # who has it on lease, and until when
    Column("relay_until", Double, nullable=False, server_default="0"),
    Column("revoked", Double),  # when its credential was revoked, where `dormouse revoke` had this ledger at hand
    Column("updating", Boolean, nullable=False, server_default=text("false")),  # is an update of it open?
    Column("log_error", Text),  # the error for which its log was last asked for
    Column("log_asked", Double),
    Index(
        "devices_due",
        "id",
        sqlite_where=text("due = 1 AND state IS NOT NULL"),
        postgresql_where=text("due AND state IS NOT NULL"),
    ),
)
states_left = Table(
    "states_left",  # no report brings a device back to one of these; the newest rows.STATES of each device
    metadata,
    Column("device", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("at", Double, nullable=False),
)
keys = Table(
    "keys",
    metadata,
    Column("device", Text, primary_key=True),
    Column("key", Text, nullable=False),  # 64 hex digits: whoever reads the ledger may command the device
    Column("proven", Boolean, nullable=False, server_default=text("false")),  # the device has signed with it
)
removed = Table(
    "removed",
    metadata,
    Column("device", Text, primary_key=True),  # only `devices add` brings it back
    Column("at", Double, nullable=False),
)
strangers = Table(
    "strangers",
    metadata,
    Column("device", Text, primary_key=True),  # an id that is not registered; "" for all that there is no row for
    Column("messages", BigInteger, nullable=False),
    Column("since", Double, nullable=False),
    Column("last", Double, nullable=False),
)
groups = Table(
    "groups",
    metadata,
    Column("name", Text, primary_key=True),
    Column("device", Text, primary_key=True),
)
numbers = Table(
    "numbers",
    metadata,
    Column("device", Text, primary_key=True),
    Column("ledger", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),  # the last one given
)
commands = Table(
    "commands",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("device", Text, nullable=False),
    Column("ledger", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("state", Text),  # filled in when it is first published
    Column("do", Text, nullable=False),
    Column("args", Text),
    Column("expires", BigInteger),
    Column("after", Text),
    Column("entered", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("open", Boolean, nullable=False),  # no final status yet
    Column("provisional", Boolean, nullable=False, server_default=text("false")),  # final, but a late answer wins
    Column("never_published", Boolean, nullable=False, server_default=text("false")),
    Column("claimed", BigInteger, nullable=False, server_default="0"),  # seq of the last "publishing"
    Column("relay", Text),
    Column("session", Text),  # the relay's connection that published it last
    Column("puback", BigInteger, nullable=False, server_default="0"),  # seq of its PUBACK
    Column("wake", BigInteger, nullable=False, server_default="-1"),  # the wake for which it was published again
    Column("republish", Boolean, nullable=False, server_default=text("false")),  # is to be published (again)
    Column("void", Text),  # cancelled or expired: what its tombstone says
    Column("published", Integer, nullable=False, server_default="0"),  # how often
    Column("value", Text),
    Column("why", Text),
    Column("settled", Double),
    Column("batch", Text),  # of those that were sent together
    UniqueConstraint("device", "ledger", "number", name="commands_id"),
    Index("commands_open", "device", "key", sqlite_where=text("open = 1"), postgresql_where=text("open")),
    Index("commands_expiry", "expires", sqlite_where=text("open = 1"), postgresql_where=text("open")),
    Index("commands_after", "after", sqlite_where=text("open = 1"), postgresql_where=text("open")),
    Index("commands_device", "device", "key"),
    Index(
        "commands_batch",
        "batch",
        sqlite_where=text("batch IS NOT NULL"),
        postgresql_where=text("batch IS NOT NULL"),
    ),
)
command_events = Table(
    "command_events",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("command", BigInteger, nullable=False, index=True),  # commands.key
    Column("at", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("why", Text),
)
results = Table(
    "results",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("device", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("id", Text),  # as on the wire; none for a command that was sent without
    Column("command", Text),  # its name, where it is one of this ledger
    Column("do", Text),
    Column("status", Text, nullable=False),
    Column("value", Text),
    Column("why", Text),
    Column("digest", Text, nullable=False),
    UniqueConstraint("device", "digest", name="results_once"),
    Index("results_at", "at"),
)
telemetry = Table(
    "telemetry",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("device", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("time", Double, nullable=False),
    Column("at", Double, nullable=False),  # when it came
    Column("record", Text, nullable=False),
    UniqueConstraint("device", "state", "number", name="telemetry_once"),
    Index("telemetry_at", "at"),
)
telemetry_streams = Table(
    "telemetry_streams",
    metadata,
    Column("device", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("whole", BigInteger, nullable=False),  # up to here each record is stored, or counted as dropped
    Column("dropped", BigInteger, nullable=False, server_default="0"),
)
telemetry_gone = Table(
    "telemetry_gone",  # what the device said is gone, until `whole` has passed it
    metadata,
    Column("device", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, primary_key=True),
)
reports = Table(
    "reports",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("device", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("wake", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("report", Text, nullable=False),
    UniqueConstraint("device", "state", "wake", name="reports_once"),
    Index("reports_at", "at"),
    Index("reports_device", "device", "at", "wake"),
)
log_lines = Table(
    "log_lines",  # what a device keeps of its log
    metadata,
    Column("key", KEY, primary_key=True),
    Column("device", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("wake", BigInteger, nullable=False),
    Column("ms", BigInteger, nullable=False),  # since its boot
    Column("time", Double, nullable=False),  # of that wake's report, or of the next that came
    Column("at", Double, nullable=False),  # when it came
    Column("line", Text, nullable=False),  # `<event> <fields as JSON>`
    Column("digest", Text, nullable=False),
    UniqueConstraint("device", "digest", name="log_lines_once"),
    Index("log_lines_at", "at"),
    Index("log_lines_device", "device", "time"),
)
ends = Table(
    "ends",
    metadata,
    Column("device", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("wake", BigInteger, primary_key=True),
    Column("at", Double, nullable=False),
    Column("repeated", Boolean, nullable=False),  # by the next report, at QoS 1
    Column("record", Text, nullable=False),
    Index("ends_at", "at"),
)
cursors = Table(
    "cursors",  # how far somebody has followed the ledger, under a name of their own
    metadata,
    Column("name", Text, primary_key=True),
    Column("cursor", Text, nullable=False),
    Column("at", Double, nullable=False),
)
relays = Table(
    "relays",
    metadata,
    Column("name", Text, primary_key=True),
    Column("instance", Text, nullable=False),  # of its process
    Column("until", Double, nullable=False),  # it counts as alive
)
moved = Table(
    "moved",  # one row once this ledger was written out to be used elsewhere: it takes no command and no relay
    metadata,
    Column("at", Double, primary_key=True),
    Column("target", Text, nullable=False),
)
releases = Table(
    "releases",
    metadata,
    Column("id", Text, primary_key=True),
    Column("manifest", Text, nullable=False),
    Column("terms", Text, nullable=False),  # what a device must agree to before the first byte, as JSON
    Column("at", Double, nullable=False),
)
release_files = Table(
    "release_files",
    metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 in hex
    Column("data", LargeBinary, nullable=False),
)
updates = Table(
    "updates",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("device", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("entered", Double, nullable=False),
    Column("expires", BigInteger),
    Column("min_battery", Double),  # volts below which nothing is sent
    Column("status", Text, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("due", Boolean, nullable=False),  # the relay has something to look at
    Column("begin", Text, nullable=False),  # the command's name; the same for `commit`
    Column("commit", Text),
    Column("wanted", Text),  # numbers of the files that are sent, as JSON
    Column("told", Text),  # what the device's last end record said of it, as JSON
    Column("told_seq", BigInteger, nullable=False, server_default="0"),  # seq of the report of that wake
    Column("present", Boolean, nullable=False, server_default=text("true")),  # had the broker kept its session?
    Column("sent_file", Integer, nullable=False, server_default="0"),  # up to where chunks were published
    Column("sent_at", Integer, nullable=False, server_default="0"),
    Column("sent_seq", BigInteger, nullable=False, server_default="0"),  # seq of the first of those on their way
    Column("sent_count", Integer, nullable=False, server_default="0"),  # how many are
    Column("why", Text),
    Column("settled", Double),
    Index("updates_open", "device", sqlite_where=text("open = 1"), postgresql_where=text("open")),
)
update_events = Table(
    "update_events",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("update", BigInteger, nullable=False, index=True),  # updates.key
    Column("at", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("why", Text),
)
rollouts = Table(
    "rollouts",
    metadata,
    Column("key", KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("what", Text, nullable=False),  # the command, as JSON: do, args; {} for an update
    Column("waves", Text, nullable=False),  # how many devices have begun once each wave has, as JSON
    Column("wave", Integer, nullable=False),  # the one that runs, from 0
    Column("abort_after", Integer, nullable=False),  # failures that stop it
    Column("forgiven", Integer, nullable=False, server_default="0"),  # failures before the last `resume`
    Column("missing", Double, nullable=False),  # part of a wave that may be overdue
    Column("approve", Boolean, nullable=False),  # does each wave but the first wait for somebody?
    Column("expires", BigInteger),
    Column("min_battery", Double),
    Column("entered", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("why", Text),
    Index(
        "rollouts_running", "key", sqlite_where=text("status = 'running'"), postgresql_where=text("status = 'running'")
    ),
)
rollout_devices = Table(
    "rollout_devices",
    metadata,
    Column("rollout", BigInteger, primary_key=True),  # rollouts.key
    Column("device", Text, primary_key=True),
    Column("at", Integer, nullable=False),  # its place in the order
    Column("release", Text),
    Column("item", Text),  # the name of its update or command, once it has begun
    Column(
        "withdrawn", Boolean, nullable=False, server_default=text("false")
    ),  # by the rollout, that is not by a person
)
