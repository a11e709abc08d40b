"""The tables of a ledger, as SQLAlchemy Core sees them; a test compares them with what the migration makes.

Times are Unix seconds. JSON is text, exactly as it was sent or came. `seq` counts within one device and orders what
happened to it.
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

HEAD = "0005"  # the newest step of migrations/versions
VERSION_TABLE = "dormouse_schema"
metadata = MetaData()
_Key = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts by itself in SQLite

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
    Column("key", _Key, primary_key=True),
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
    Column("key", _Key, primary_key=True),
    Column("command", BigInteger, nullable=False, index=True),  # commands.key
    Column("at", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("why", Text),
)
results = Table(
    "results",
    metadata,
    Column("key", _Key, primary_key=True),
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
    Column("device", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("time", Double, nullable=False),
    Column("at", Double, nullable=False),  # when it came
    Column("record", Text, nullable=False),
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
    Column("device", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("wake", BigInteger, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("report", Text, nullable=False),
    Index("reports_at", "at"),
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
    Column("key", _Key, primary_key=True),
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
    Column("key", _Key, primary_key=True),
    Column("update", BigInteger, nullable=False, index=True),  # updates.key
    Column("at", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("why", Text),
)
rollouts = Table(
    "rollouts",
    metadata,
    Column("key", _Key, primary_key=True),
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
)
desk = Table(
    "desk",  # which relay judges alerts and speaks with Home Assistant: one at a time
    metadata,
    Column("name", Text, primary_key=True),
    Column("instance", Text, nullable=False),
    Column("until", Double, nullable=False),
)
alerts = Table(
    "alerts",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("device", Text, nullable=False),  # "*": of the fleet
    Column("kind", Text, nullable=False),
    Column("opened", Double, nullable=False),
    Column("last", Double, nullable=False),  # when its cause was seen last
    Column("lasting", Boolean, nullable=False),  # is the cause still there by the newest that is known?
    Column("text", Text, nullable=False),
    Column("closed", Double),
    Column("ending", Text),  # why it closed
    Index(
        "alerts_open",
        "kind",
        "device",
        unique=True,
        sqlite_where=text("closed IS NULL"),
        postgresql_where=text("closed IS NULL"),
    ),
    Index("alerts_device", "device", "kind", "key"),
)
alert_messages = Table(
    "alert_messages",
    metadata,
    Column("key", _Key, primary_key=True),
    Column("alert", BigInteger, nullable=False, index=True),  # alerts.key
    Column("event", Text, nullable=False),  # opened or closed
    Column("channel", Text, nullable=False),
    Column("at", Double, nullable=False),  # from when it might go
    Column("due", Double),  # the next try; NULL once it was delivered or given up
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("delivered", Double),
    Column("why", Text),  # the last try failed
    UniqueConstraint("alert", "event", "channel", name="alert_messages_once"),
    Index(
        "alert_messages_due",
        "due",
        sqlite_where=text("due IS NOT NULL"),
        postgresql_where=text("due IS NOT NULL"),
    ),
)
alert_marks = Table(
    "alert_marks",  # up to where the ledger was judged, and how many dropped records of a device are known
    metadata,
    Column("name", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("value", Double, nullable=False),
)
home_devices = Table(
    "home_devices",  # what Home Assistant was told of
    metadata,
    Column("device", Text, primary_key=True),
    Column("components", Text, nullable=False),  # name -> platform, as JSON
)
home_orders = Table(
    "home_orders",  # commands from Home Assistant: a message that comes twice is one
    metadata,
    Column("digest", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("command", Text, nullable=False),
)
