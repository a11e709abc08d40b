"""Views of a ledger on PostgreSQL, for Grafana and whoever else reads with SQL; docs/operating.md says what they have.

Must stay true: whatever JSON a device sends, no view fails by it: text that PostgreSQL can't hold, numbers out of range
and values of another kind are NULL or left out. Their columns stay; a later step may add others at the end.
"""

_ODD = r"\\u(0000|[dD][89abAB])"  # escapes of what no text of PostgreSQL's can hold
_NUMBER = r"^-?\d{1,200}(\.\d{1,90})?([eE][+-]?\d{1,2})?$"  # fits into a double
_YEAR_9999 = 253402300799


def _when(column: str) -> str:
    return f"CASE WHEN {column} BETWEEN 0 AND {_YEAR_9999} THEN to_timestamp({column}) END"


def _object(column: str) -> str:
    plain = f"left({column}, 1) = '{{' AND {column} !~ '{_ODD}'"
    return f"CASE WHEN {plain} THEN CAST({column} AS json) ELSE CAST('{{}}' AS json) END"


def _number(json: str) -> str:
    """A JSON value's text as a number."""
    return f"CASE WHEN {json} ~ '{_NUMBER}' THEN CAST({json} AS double precision) END"


VIEWS = {
    "dormouse_readings": f"""
        SELECT {_when("t.time")} AS time, t.device, each.key AS name, {_number("CAST(each.value AS text)")} AS value,
            t.state, t.number, {_when("t.at")} AS came
        FROM telemetry t CROSS JOIN LATERAL json_each({_object("t.record")}) each
        WHERE json_typeof(each.value) = 'number'
    """,
    "dormouse_wakes": f"""
        SELECT {_when("r.at")} AS time, r.device, r.state, r.wake, r.said->>'cause' AS cause,
            {_number("r.said->>'battery'")} AS battery_volts, {_number("r.said->>'rssi'")} AS rssi_dbm,
            {_number("r.said->>'free'")} AS free_bytes, {_number("r.said->>'next'")} AS next_seconds,
            {_number("r.said->>'failures'")} AS failures, r.said->>'agent' AS agent, r.said->>'fw' AS firmware,
            r.said->'last'->>'ended' AS last_ended, {_number("r.said->'last'->>'ms'")} / 1000 AS last_awake_seconds,
            {_number("r.said->'last'->>'erases'")} AS last_erases
        FROM (SELECT device, state, wake, at, {_object("report")} AS said FROM reports) r
    """,
    "dormouse_commands": f"""
        SELECT {_when("entered")} AS entered, device, name AS id, "do" AS command, status, NOT open AS final,
            {_when("settled")} AS settled, settled - entered AS seconds, published, batch, why
        FROM commands
    """,
    "dormouse_devices": f"""
        SELECT d.id AS device, {_when("d.seen")} AS seen, {_when("d.next_due")} AS next_wake, d.wake,
            {_number("d.said->>'battery'")} AS battery_volts, {_number("d.said->>'rssi'")} AS rssi_dbm,
            d.said->>'agent' AS agent, d.said->>'fw' AS firmware, {_when("d.revoked")} AS revoked,
            (SELECT count(*) FROM commands c WHERE c.device = d.id AND c.open) AS pending,
            (SELECT coalesce(sum(s.dropped), 0) FROM telemetry_streams s WHERE s.device = d.id) AS dropped_records
        FROM (SELECT id, seen, next_due, wake, revoked, {_object("report")} AS said FROM devices) d
    """,
    "dormouse_log": f"""
        SELECT {_when("time")} AS time, device, state, wake, ms, line FROM log_lines
    """,
}
