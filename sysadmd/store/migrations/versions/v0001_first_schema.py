"""The first schema: accounts, events, lanes, jobs with their steps and attempts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from sysadmd.store import rows

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LIVE = sa.text("(state NOT IN ('complete', 'error', 'inactive', 'killed'))")
OPEN = sa.text("outcome IS NULL")


def upgrade() -> None:
    """Create every table, parents first, and the rows that ship."""
    create_account()
    create_event()
    create_lane()
    create_log_position()
    create_meta()
    create_role()
    create_account_role()
    create_job()
    create_public_key()
    create_token()
    create_throttle()
    create_audit()
    create_step()
    create_attempt()
    create_queue()
    rows.seed(op.get_bind())


def create_account() -> None:
    """Table `account`."""
    op.create_table(
        "account",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("realname", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_account")),
        sa.UniqueConstraint("email", name=op.f("uq_account_email")),
    )


def create_event() -> None:
    """Table `event`."""
    op.create_table(
        "event",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("permission", sa.Text(), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_event")),
    )
    op.create_index("ix_event_topic_seq", "event", ["topic", "seq"], unique=False)


def create_lane() -> None:
    """Table `lane`."""
    op.create_table(
        "lane",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("paused_at", sa.Float(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lane")),
    )


def create_log_position() -> None:
    """Table `log_position`."""
    op.create_table(
        "log_position",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("device", BIG, nullable=False),
        sa.Column("inode", BIG, nullable=False),
        sa.Column("position", BIG, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("follows", sa.Text(), nullable=True),
        sa.Column("read_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_log_position")),
    )


def create_meta() -> None:
    """Table `meta`."""
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )


def create_role() -> None:
    """Table `role`."""
    op.create_table(
        "role",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("patterns", sa.Text(), nullable=False),
        sa.Column("includes", sa.Text(), nullable=False),
        sa.Column("realname", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=True),
        sa.Column("changed_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_role")),
    )


def create_account_role() -> None:
    """Table `account_role`."""
    op.create_table(
        "account_role",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account"], ["account.name"], name=op.f("fk_account_role_account"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["role"], ["role.name"], name=op.f("fk_account_role_role"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("account", "role", name=op.f("pk_account_role")),
    )


def create_job() -> None:
    """Table `job`."""
    op.create_table(
        "job",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("seq", BIG, nullable=False),
        sa.Column("ext_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.Column("event_system", sa.Text(), nullable=True),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("run_after", sa.Float(), nullable=True),
        sa.Column("tries_max", sa.Integer(), nullable=False),
        sa.Column("tries_used", sa.Integer(), nullable=False),
        sa.Column("retry_delay", sa.Float(), nullable=False),
        sa.Column("timeout", sa.Float(), nullable=True),
        sa.Column("on_lost", sa.Text(), nullable=False),
        sa.Column("kill_requested_at", sa.Float(), nullable=True),
        sa.Column("kill_requested_by", sa.Text(), nullable=True),
        sa.Column("log_uid", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("archived_at", sa.Float(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("rev", sa.Integer(), nullable=False),
        *queue_columns(),
        sa.ForeignKeyConstraint(["lane"], ["lane.name"], name=op.f("fk_job_lane")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint("seq", name=op.f("uq_job_seq")),
    )
    create_job_indexes()


def queue_columns() -> list[sa.Column[Any]]:
    """What the queue adds to a job."""
    return [
        sa.Column("live", sa.Integer(), nullable=True),
        sa.Column("counters", sa.Text(), nullable=True),
        sa.Column("ready_key", sa.Text(), nullable=True),
        sa.Column("rank", BIG, nullable=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("force", sa.Boolean(), nullable=True),
        sa.Column("defer_delay", sa.Float(), nullable=True),
        sa.Column("defer_max", sa.Float(), nullable=True),
        sa.Column("defer_deadline", sa.Float(), nullable=True),
        sa.Column("wall_time", sa.Float(), nullable=True),
        sa.Column("zombie_time", sa.Float(), nullable=True),
        sa.Column("wall_at", sa.Float(), nullable=True),
        sa.Column("zombie_at", sa.Float(), nullable=True),
        sa.Column("worker_selector", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("max_parallel", sa.Integer(), nullable=True),
        sa.Column("trial", sa.Integer(), nullable=True),
        sa.Column("runtime", sa.Float(), nullable=True),
        sa.Column("heartbeat_at", sa.Float(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("progress_msg", sa.Text(), nullable=True),
        sa.Column("remove_requested_at", sa.Float(), nullable=True),
        sa.Column("remove_requested_by", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("child_id", sa.Text(), nullable=True),
    ]


def create_partial(name: str, table: str, columns: list[str]) -> None:
    """An index of the rows that have a value in its first column."""
    where = sa.text(f"{columns[0]} IS NOT NULL")
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def create_job_indexes() -> None:
    """Indexes of table `job`."""
    create_partial("ix_job_live", "job", ["live", "state", "seq"])
    create_partial("ix_job_ready", "job", ["ready_key", "rank", "seq"])
    create_partial("ix_job_due", "job", ["due_at"])
    op.create_index("ix_job_ext_id_seq", "job", ["ext_id", "seq"], unique=False)
    op.create_index("ix_job_lane_state", "job", ["lane", "state"], unique=False)
    op.create_index(
        "uq_job_ext_id_live", "job", ["kind", "ext_id"], unique=True, sqlite_where=LIVE, postgresql_where=LIVE
    )
    op.create_index(
        "uq_job_unique_key_live", "job", ["unique_key"], unique=True, sqlite_where=LIVE, postgresql_where=LIVE
    )


def create_token() -> None:
    """Table `token`."""
    op.create_table(
        "token",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("used_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["account"], ["account.name"], name=op.f("fk_token_account"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["key"], ["public_key.fingerprint"], name=op.f("fk_token_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_token")),
        sa.UniqueConstraint("id", name=op.f("uq_token_id")),
    )
    op.create_index(op.f("ix_token_account"), "token", ["account"], unique=False)


def create_public_key() -> None:
    """Table `public_key`."""
    op.create_table(
        "public_key",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column("nickname", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.name"], name=op.f("fk_public_key_account"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_public_key")),
        sa.UniqueConstraint("checksum", name=op.f("uq_public_key_checksum")),
    )
    op.create_index(op.f("ix_public_key_account"), "public_key", ["account"], unique=False)


def create_throttle() -> None:
    """Table `throttle`."""
    op.create_table(
        "throttle",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at", sa.Float(), nullable=False),
        sa.Column("blocked_until", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("account", "prefix", name=op.f("pk_throttle")),
    )


def create_audit() -> None:
    """Tables `audit` and `audit_checkpoint`."""
    op.create_table(
        "audit",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("seq", BIG, autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_checkpoint")),
    )


def create_step() -> None:
    """Table `step`."""
    op.create_table(
        "step",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries_max", sa.Integer(), nullable=False),
        sa.Column("tries_used", sa.Integer(), nullable=False),
        sa.Column("run_after", sa.Float(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("claim", sa.Integer(), nullable=True),
        sa.Column("starts", sa.Integer(), nullable=True),
        sa.Column("size", BIG, nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_step_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "idx", name=op.f("pk_step")),
    )
    create_partial("ix_step_claim", "step", ["claim", "job_id", "run_after", "idx"])


def create_attempt() -> None:
    """Table `attempt`."""
    op.create_table(
        "attempt",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("lease_id", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("heartbeat_at", sa.Float(), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("pid_start", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("usage", sa.Text(), nullable=True),
        sa.Column("output_path", sa.Text(), nullable=True),
        sa.Column("output_bytes", BIG, nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id", "idx"], ["step.job_id", "step.idx"], name=op.f("fk_attempt_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "idx", "n", name=op.f("pk_attempt")),
    )
    op.create_index("ix_attempt_open", "attempt", ["job_id"], unique=False, sqlite_where=OPEN, postgresql_where=OPEN)
    leased = sa.text("lease_until IS NOT NULL")
    op.create_index(
        "ix_attempt_lease", "attempt", ["lease_id"], unique=False, sqlite_where=leased, postgresql_where=leased
    )


def create_queue() -> None:
    """Tables `job_count`, `request_key` and `schedule`."""
    op.create_table(
        "job_count",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("flags", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", "state", "flags", name=op.f("pk_job_count")),
    )
    op.create_table(
        "request_key",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_request_key_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_request_key")),
    )
    op.create_index(op.f("ix_request_key_created_at"), "request_key", ["created_at"], unique=False)
    op.create_index(op.f("ix_request_key_job_id"), "request_key", ["job_id"], unique=False)
    op.create_table(
        "schedule",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("ran_at", sa.Float(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_schedule")),
    )
