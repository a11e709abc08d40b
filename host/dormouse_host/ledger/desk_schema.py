"""The tables of the desk: alerts and where they go, and what Home Assistant was told. The others are in schema.py."""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, Table, Text, UniqueConstraint, text

from dormouse_host.ledger.schema import KEY, metadata

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
    Column("key", KEY, primary_key=True),
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
    Column("key", KEY, primary_key=True),
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
