"""Every table of sysadmd (spec job-queues §3.3), SQLAlchemy Core.

Times are Unix seconds (floats). Keys of jobs are text, 24 hexadecimal digits that sort by time. State names are those
that clients see; which of them are final is said here once, because two partial indexes depend on it.

A change here needs a migration; a test holds the two equal.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    literal_column,
)

from sysadmd.store.types import Big, Json

HEAD = "0001"
"""The newest migration; a database that says so needs no Alembic."""
VERSIONS = frozenset({HEAD})
"""Every migration that this release knows; any other version was made by a newer one."""

FINAL_STATES = ("complete", "error", "inactive", "killed")
"""Job states that nothing leaves."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _live_unique(name: str, *columns: str) -> Index:
    """Unique among jobs that are not final, so that an old job never blocks a new one of the same name.

    The condition is said for SQLite only: naming another dialect here would import it, a seventh of a start, and the
    indexes of a database are made by the migrations, which name both.
    """
    live: ColumnElement[bool] = literal_column("state").not_in(FINAL_STATES)
    return Index(name, *columns, unique=True, sqlite_where=live)


def _where(name: str, column: str, *more: str) -> Index:
    """Rows that have a value in the first column, and no others: what is finished costs nothing."""
    return Index(name, column, *more, sqlite_where=literal_column(column).is_not(None))


def _name(name: str, target: str, **options: Any) -> Column[str]:
    return Column(name, Text, ForeignKey(target, ondelete="CASCADE"), **options)


version = Table("alembic_version", MetaData(), Column("version_num", Text, primary_key=True))
"""Alembic's own table, outside of the metadata that migrations are compared with."""

# epoch, seq_reserved and other single values.
meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# Durable records, written in the transaction of the change that they tell.
event = Table(
    "event",
    metadata,
    Column("seq", Big, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("topic", Text, nullable=False),
    Column("permission", Text),
    Column("data", Text, nullable=False),  # JSON that the log encoded already
    Index("ix_event_topic_seq", "topic", "seq"),
)

role = Table(
    "role",
    metadata,
    Column("name", Text, primary_key=True),
    Column("patterns", Json, nullable=False),  # list of permission patterns
    Column("includes", Json, nullable=False, default=list),  # list of names of roles whose patterns it has too
    Column("realname", Text),  # for people
    Column("created_at", Float),  # None: it was shipped, or made by a release that did not keep this
    Column("changed_at", Float),
)

account = Table(
    "account",
    metadata,
    Column("name", Text, primary_key=True),
    Column("source", Text, nullable=False, default="local"),  # local | system: an account of the machine, by PAM
    Column("password_hash", Text),  # None: the account has no password
    Column("disabled", Boolean, nullable=False, default=False),
    Column("realname", Text),  # for people
    Column("email", Text, unique=True),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
)

account_role = Table(
    "account_role",
    metadata,
    _name("account", "account.name", primary_key=True),
    _name("role", "role.name", primary_key=True),
)

token = Table(
    "token",
    metadata,
    Column("hash", Text, primary_key=True),  # SHA-256 of the token, hexadecimal; the token itself is never stored
    Column("id", Text, nullable=False, unique=True),  # what people call it: it opens nothing
    _name("account", "account.name", nullable=False, index=True),
    Column("kind", Text, nullable=False),  # login: slides and ends soon | api: made on purpose, with a name
    Column("name", Text),  # of an API token
    Column("scopes", Json),  # patterns that it is confined to; None: all that its account has
    _name("key", "public_key.fingerprint"),  # that proved the log-in: with the key goes what it opened
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Column("expires_at", Float),  # absolute, however busy; None: never
)

# Public keys that log in (`rpc/auth_ssl`, TLS client certificates, bridges).
public_key = Table(
    "public_key",
    metadata,
    Column("fingerprint", Text, primary_key=True),  # SHA-256 of the SubjectPublicKeyInfo in DER, hexadecimal
    _name("account", "account.name", nullable=False, index=True),
    Column("pem", Text, nullable=False),  # of the SubjectPublicKeyInfo, as spec sysadm §3.5 has it
    Column("checksum", Text, nullable=False, unique=True),  # base64 of the MD5 of `pem`: what the originals call it
    Column("certificate", Text),  # PEM of the X.509 certificate that it came in, for TLS
    Column("nickname", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("registered_at", Float, nullable=False),
)

# Failed log-ins, so that a restart forgives nobody.
throttle = Table(
    "throttle",
    metadata,
    Column("account", Text, primary_key=True),  # empty: the prefix as a whole
    Column("prefix", Text, primary_key=True),  # 192.0.2.1/32, 2001:db8::/64
    Column("failures", Integer, nullable=False),
    Column("failed_at", Float, nullable=False),  # the last one
    Column("blocked_until", Float),
)

# The audit trail: rows are only ever appended, each with the hash of the one before it in its own.
audit = Table(
    "audit",
    metadata,
    Column("seq", Big, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),  # JSON
    Column("previous", Text, nullable=False),  # hash of the record before it, so that a false one names itself
    Column("hash", Text, nullable=False),  # SHA-256 over previous, seq and record, hexadecimal
)

audit_checkpoint = Table(
    "audit_checkpoint",
    metadata,
    Column("seq", Big, primary_key=True, autoincrement=False),  # of the last record that it vouches for
    Column("hash", Text, nullable=False),  # of that record
    Column("time", Float, nullable=False),
    Column("key", Text, nullable=False),  # SHA-256 of the public key that signed, hexadecimal
    Column("signature", Text, nullable=False),  # Ed25519, base64
)

lane = Table(
    "lane",
    metadata,
    Column("name", Text, primary_key=True),
    Column("max_running", Integer),  # None: bounded by the configuration only
    Column("paused_at", Float),
    Column("paused_by", Text),
)

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("seq", Big, nullable=False, unique=True),  # the number that people type
    Column("ext_id", Text),  # process_id of the dispatcher
    Column("kind", Text, nullable=False),  # command | task | transfer
    Column("name", Text, nullable=False),  # for permissions: dispatcher.<lane>
    Column("lane", Text, ForeignKey("lane.name"), nullable=False),
    Column("owner", Text, nullable=False),
    Column("args", Json, nullable=False),
    Column("event_system", Text),  # the namespace that started it, such as sysadm/pkg
    Column("extra", Json),  # its extra event fields
    Column("unique_key", Text),
    Column("priority", Integer, nullable=False, default=0),  # higher runs first
    Column("state", Text, nullable=False),
    Column("run_after", Float),
    Column("tries_max", Integer, nullable=False, default=1),
    Column("tries_used", Integer, nullable=False, default=0),
    Column("retry_delay", Float, nullable=False, default=0.0),
    Column("timeout", Float),
    Column("on_lost", Text, nullable=False, default="error"),  # retry | error
    Column("kill_requested_at", Float),
    Column("kill_requested_by", Text),
    Column("log_uid", Text, nullable=False),  # directory of its output files
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("archived_at", Float),
    Column("last_error", Json),
    Column("rev", Integer, nullable=False, default=0),  # raised by each change
    # What follows is NULL for the jobs of the dispatcher: its inserts do not name it, no partial index has its rows.
    Column("live", Integer),  # 1 while the job is in the queue: not archived
    Column("counters", Json),  # of its steps by state (jobs.counters)
    Column("ready_key", Text),  # what a claim decides by (jobs.ready), while it has a step that is due
    Column("rank", Big),  # order of claims, lower first: forced ones, then by priority
    Column("due_at", Float),  # when the next of its steps is due, while none is
    Column("force", Boolean),
    Column("defer_delay", Float),
    Column("defer_max", Float),
    Column("defer_deadline", Float),  # set by the first start; deferred beyond it, the job is inactive
    Column("wall_time", Float),  # seconds of one run until `wall_at` is set
    Column("zombie_time", Float),  # seconds without progress until `zombie_at` is set
    Column("wall_at", Float),
    Column("zombie_at", Float),
    Column("worker_selector", Text),  # the only worker that may run it
    Column("worker", Text),  # the latest one that did
    Column("max_parallel", Integer),  # jobs of this name at once on one worker
    Column("trial", Integer),  # starts, those that were deferred too
    Column("runtime", Float),  # seconds of all finished runs
    Column("heartbeat_at", Float),  # latest word of progress
    Column("progress", Float),  # 0 to 1
    Column("progress_msg", Text),
    Column("remove_requested_at", Float),
    Column("remove_requested_by", Text),
    Column("parent_id", Text),  # the job that this one restarts
    Column("child_id", Text),  # the job that restarts this one
    Index("ix_job_lane_state", "lane", "state"),
    Index("ix_job_ext_id_seq", "ext_id", "seq"),
    _where("ix_job_live", "live", "state", "seq"),
    _where("ix_job_ready", "ready_key", "rank", "seq"),
    _where("ix_job_due", "due_at"),
    _live_unique("uq_job_ext_id_live", "kind", "ext_id"),
    _live_unique("uq_job_unique_key_live", "unique_key"),
)

step = Table(
    "step",
    metadata,
    _name("job_id", "job.id", primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("stage", Integer, nullable=False),  # claimable when all steps of earlier stages are ok
    Column("type", Text, nullable=False),
    Column("spec", Json, nullable=False),  # argv, cwd, user of a command
    Column("state", Text, nullable=False),  # waiting leased running ok retry failed skipped killed
    Column("tries_max", Integer, nullable=False, default=1),
    Column("tries_used", Integer, nullable=False, default=0),
    Column("run_after", Float),
    Column("result", Json),
    # NULL for the dispatcher's steps, as in `job`.
    Column("claim", Integer),  # its stage, while it waits; NULL too for the only step of a job
    Column("starts", Integer),  # number of its latest attempt
    Column("size", Big),  # bytes that it is about
    Column("progress", Json),
    _where("ix_step_claim", "claim", "job_id", "run_after", "idx"),
)

_OPEN: ColumnElement[bool] = literal_column("outcome").is_(None)

attempt = Table(
    "attempt",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("worker_id", Text, nullable=False),  # instance of the executor that holds the lease
    Column("host", Text, nullable=False),
    Column("lease_id", Text, nullable=False),  # 128 random bits: the fence of every later write
    Column("lease_until", Float),
    Column("heartbeat_at", Float),
    Column("pid", Integer),
    Column("pid_start", Text),  # start time of the pid as the system writes it: never signal another process
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("outcome", Text),  # ok fail timeout deferred killed lost spawn_failed output_limit; None while open
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("error", Json),
    Column("usage", Json),
    Column("output_path", Text),
    Column("output_bytes", Big),
    ForeignKeyConstraint(["job_id", "idx"], ["step.job_id", "step.idx"], ondelete="CASCADE"),
    Index("ix_attempt_open", "job_id", sqlite_where=_OPEN),
    # Leases of the queue; an attempt of the dispatcher has none that ends.
    Index("ix_attempt_lease", "lease_id", sqlite_where=literal_column("lease_until").is_not(None)),
)

# How many jobs of the queue there are, kept by each change: nobody counts rows. Name "" is the sum over all names.
job_count = Table(
    "job_count",
    metadata,
    Column("name", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("flags", Integer, primary_key=True, autoincrement=False),  # bits of jobs.counts
    Column("n", Big, nullable=False),
)

# Requests that may come twice: the second gets the job of the first.
request_key = Table(
    "request_key",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _name("job_id", "job.id", nullable=False, index=True),
    Column("created_at", Float, nullable=False, index=True),
)

# When each schedule of the configuration ran last, so that no two servers run it twice.
schedule = Table(
    "schedule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cron", Text, nullable=False),  # what `ran_at` belongs to: a changed one begins anew
    Column("ran_at", Float, nullable=False),
    Column("job_id", Text),  # the latest job that it made
)

log_position = Table(
    "log_position",
    metadata,
    Column("path", Text, primary_key=True),
    Column("device", Big, nullable=False),
    Column("inode", Big, nullable=False),
    Column("position", Big, nullable=False),  # bytes read
    Column("fingerprint", Text, nullable=False),  # of the bytes before the position: an inode alone may be another file
    Column("follows", Json),  # the logs that this one named and that are read beside it
    Column("read_at", Float, nullable=False),
)
