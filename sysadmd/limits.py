"""Every limit that sysadmd ships, with its default and its reason.

`Limits` is one frozen object, made from the `[limits]` table of the configuration and handed down by the composition
root. Sizes are bytes, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force. A test goes one beyond each of them."""

    handshake_timeout: float = 10.0
    """TCP accept to a finished TLS and WebSocket handshake: a scanner may not hold a socket for longer."""
    auth_timeout: float = 30.0
    """First authentication after the handshake; the originals' grace (spec sysadm §1.4)."""
    frame_unauthenticated: int = 8 * KIB
    """One frame before authentication: log-in messages are small, strangers get no memory."""
    frame_authenticated: int = 1 * MIB
    """One frame after authentication."""
    frame_bridge: int = 64 * MIB
    """One frame on a bridge link: original peers send listings of several MiB (spec sysadm §1.3)."""
    json_depth: int = 32
    """Nesting of a message: far above any real call, far below any parser's stack."""
    calls_in_flight: int = 20
    """Calls that run at once on one connection."""
    calls_queued: int = 64
    """Calls that wait behind them; one more is answered 429."""
    call_deadline: float = 300.0
    """A call without its own `timeout`."""
    login_failures: int = 5
    """Failed log-ins as one account from one address prefix before a lock-out of the two together."""
    login_failures_prefix: int = 50
    """Failed log-ins of one address prefix, whatever the names, before it is locked out: many people behind one address
    mistype now and then, but nobody may try a common password on every account."""
    login_window: float = 600.0
    """Failures are forgotten when none was added for as long as this."""
    login_block: float = 3600.0
    """Length of a lock-out."""
    login_table: int = 16_384
    """Counts of failed log-ins that are kept, by account and prefix and by prefix: a few MiB. It takes hundreds of
    prefixes that are locked out themselves to push one out."""
    queue_bytes: int = 4 * MIB
    """Bytes queued for one subscription before its overflow policy acts."""
    queue_events: int = 1024
    """Events queued for one subscription before its overflow policy acts."""
    subscriptions: int = 64
    """Subscriptions on one connection."""
    ring_events: int = 10_000
    """Records kept in memory for `since`."""
    ring_bytes: int = 16 * MIB
    """Bytes of those records."""
    ping_interval: float = 20.0
    """WebSocket keepalive; shorter than what NAT tables forget (30 s for the worst)."""
    ping_timeout: float = 20.0
    """A peer that does not answer a ping for this long is gone."""
    idle_timeout: float = 1800.0
    """A connection without a subscription, a call or a message."""
    token_idle: float = 900.0
    """Sliding life of a token that is not in use: the 15 minutes of the protocol."""
    token_absolute: float = 43_200.0
    """A token's and its connections' life, however busy."""
    tokens_per_account: int = 1024
    """Live tokens of one account; a log-in beyond it ends the one that was idle for longest."""
    api_tokens_per_account: int = 64
    """API tokens of one account: one for each program, not one for each run of it."""
    keys_per_account: int = 64
    """Registered public keys of one account: each of them is tried for a log-in that does not say which it is."""
    challenge_life: float = 30.0
    """What a key has for signing its challenge; the originals' time (spec sysadm §3.5)."""
    password_bytes: int = 1 * KIB
    """A password in UTF-8: longer than any passphrase, short enough that hashing it costs nothing extra."""
    password_checks_queued: int = 128
    """Log-ins that wait for the one password lane (about 130 ms each, and as long a rest), in all and of one address
    prefix; one more is answered 429. The last one waits for half a minute: every client that comes back after a restart
    gets an answer."""
    write_buffer: int = 64 * KIB
    """Bytes handed to a socket before a reader counts as slow; the rest waits in the bounded queue."""
    bridge_sessions: int = 1024
    """Sessions of peers that come through one bridge."""
    bridge_output: int = 8 * MIB
    """Bytes that wait for one peer behind a bridge, which does not read or whose bridge does not, before its session
    ends. One answer that is larger passes."""
    process_log: int = 1 * MIB
    """Head and tail of a process's output kept in memory and put into events; all of it is in a file."""
    output_cap: int = 16 * GIB
    """Output of one attempt; above it the attempt ends with the outcome `output_limit`."""
    disk_ceiling: float = 0.95
    """Part of the output file system in use at which running attempts end with `output_limit`."""
    running_update: float = 1.0
    """Seconds between two running updates of a process."""
    lane_parallel: int = 64
    """Attempts that run at once in the parallel lane."""
    queued_jobs: int = 1_000_000
    """Jobs in the queue, waiting, running and stopped, before new ones are refused: some GiB of the database."""
    kill_grace: float = 5.0
    """From TERM to KILL: what a process that is stopped has to end by itself."""
    task_recycle: int = 1000
    """Attempts that one child process of a worker runs before another takes its place: what tasks leak is bounded."""
    task_idle: float = 60.0
    """A child process without a task for this long is ended: an idle worker has none."""
    task_stopped: float = 30.0
    """A task whose process is stopped (SIGSTOP) for this long is ended as lost; nobody may be there to continue it."""
    task_result: int = 1 * MIB
    """JSON of what a task returns; more is not kept, and the output says so."""
    transfer_log: int = 1 * MIB
    """Bytes of one attempt's output in an answer to a client of file jobs; the middle of a longer one is left out."""
    transfer_logs: int = 16 * MIB
    """Bytes of all the outputs in one such answer; beyond it an attempt has one line, which says how much it wrote."""
    drain: float = 10.0
    """What a graceful stop waits for calls and sockets."""
    connections: int = 4096
    """Open connections of one listener."""
    pending_connections: int = 256
    """Connections that are not logged in. From half of it on new ones are dropped at random, all of them at the bound:
    logging in takes a second, so a fleet that comes back after a restart needs less."""
    pending_connections_prefix: int = 64
    """The same for one address prefix: a quarter, so that one that holds all of its own changes nothing for others."""
    tls_buffer: int = 16 * KIB
    """Receive buffer of a TLS connection: one TLS record (asyncio's default is 256 KiB for each connection)."""
    bridge_connections: int = 256
    """Connections of one key at a bridge: a fleet may share one, a runaway program may not take all places."""
    bridge_logins: int = 3
    """Log-ins that fail on one connection to a bridge before it is closed: one for a mistake, one for a retry."""
    bridge_messages: int = 100_000
    """Frames a second that a bridge reads from one peer: above what any program needs, a tenth of what a bridge can do.
    Whoever sends more is read more slowly; nothing is dropped."""
    bridge_bytes: int = 256 * MIB
    """Bytes a second that a bridge reads from one peer: two gigabit links. Whoever sends more is read more slowly."""
    bridge_checksums: int = 4096
    """Checksums in one peer's list of keys: far more than a machine has users."""
    bridge_queue: int = 4 * MIB
    """Bytes that wait at a bridge for one peer before those who send to it are not read: a long listing of an original
    server. Sealed sessions have a window of their own and never wait so much."""
    bridge_patience: float = 2.0
    """A peer above `bridge_queue` whose socket takes nothing for this long is cut: others wait for it."""
    transfer_threads: int = 16
    """Threads that read and write the files of transfer jobs: more do not make a disk faster."""
    listing_entries: int = 99_000
    """Files and directories of one listing: each may become a step of a job, which has at most 100,000."""
    listing_depth: int = 100
    """Levels of directories in one listing: each holds a descriptor while it is read."""
    ssh_connect: float = 20.0
    """Connecting to the SSH server of a site, log-in included."""
    ssh_silence: float = 120.0
    """One request to such a server, which moves at most 1 MiB: no line that is still of use is as slow."""
