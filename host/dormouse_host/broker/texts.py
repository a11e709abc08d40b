"""What `dormouse broker init` writes for mosquitto: its configuration, and who may do what.

Must stay true: nobody without a credential, nothing in clear; a device reads and writes its own topics and no other's.
"""

CONFIGURATION = """\
# mosquitto for Dormouse, made by `dormouse broker init`. mosquitto -c {folder}/mosquitto.conf
per_listener_settings false
pid_file {broker}/mosquitto.pid
{user}
# Who comes in: nobody without a credential; rights by user name in the file `acl`.
allow_anonymous false
password_file {broker}/passwd
acl_file {broker}/acl

# Sleepers' sessions and what waits for them outlive a kill, but for the last tenth of a second: saved at every change.
# That writes the whole database each time, 3 ms at 1000 waiting messages: where many thousand wait, take
# `autosave_on_changes false`, which loses the last two seconds. The relay notices either and sends again.
persistence true
persistence_location {broker}/data/
autosave_on_changes true
autosave_interval 1

# A sleeper is never owed more than some 300 messages by the relay; this bounds what waits for the relay itself.
# Above it mosquitto drops what it has acknowledged.
max_queued_messages {queue}
max_packet_size {message}

# Without it, Nagle's algorithm costs a wake about one round trip more.
set_tcp_nodelay true
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S

# Devices and relays with user and password.
listener {port}
certfile {broker}/broker.crt
keyfile {broker}/broker.key
tls_version tlsv1.2
use_username_as_clientid true

# Devices with a certificate (`dormouse provision --cert`): its name is the user's name.
listener {cert_port}
cafile {folder}/ca.crt
crlfile {broker}/revoked.pem
certfile {broker}/broker.crt
keyfile {broker}/broker.key
tls_version tlsv1.2
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""

RIGHTS = """\
# A device: its own topics, by its user name, and nothing else.
pattern read {root}/%u/down/#
pattern write {root}/%u/down/fence
pattern write {root}/%u/up/#
"""

RELAY_RIGHTS = """\
topic read {root}/+/up/#
topic write {root}/+/down/cmd
topic write {root}/+/up/wake
"""  # the last to clear a removed device's report
