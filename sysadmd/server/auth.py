"""Everything that says who somebody is and what they may do, made once and tied together."""

from __future__ import annotations

from collections.abc import Callable

from sysadmd.auth.accounts import Accounts
from sysadmd.auth.api_tokens import ApiTokens
from sysadmd.auth.audit import Audit
from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.key_table import Registered
from sysadmd.auth.keys import Keys
from sysadmd.auth.policy import PolicyChange
from sysadmd.auth.system_accounts import SystemAccounts, SystemCheck
from sysadmd.auth.throttle import Throttle
from sysadmd.auth.tokens import Tokens
from sysadmd.config import Config
from sysadmd.events.log import EventLog
from sysadmd.rpc.engine import Engine
from sysadmd.store import Store


class Auth:
    """The sources of identity of one server. `tie` makes an engine follow their changes."""

    def __init__(
        self, store: Store, events: EventLog, config: Config, *, system_check: SystemCheck | None = None
    ) -> None:
        """`system_check` asks the machine about its accounts; None: nobody does."""
        limits = config.limits
        self.accounts = Accounts(store, events, limits=limits)
        self.policy = self.accounts.policy
        self.tokens = Tokens(store, events, self.policy, limits=limits)
        self.api_tokens = ApiTokens(events, self.policy, self.tokens)
        self.audit = Audit(store, events, node=config.node, key_dir=config.state_dir)
        self.throttle = Throttle(store, events, limits=limits)
        self.system = SystemAccounts(self.accounts, events, system_check, config.pam) if system_check else None
        renew = self.system.renewed if self.system else None
        self.keys = Keys(store, events, self.policy, limits=limits, renew=renew)
        self.authenticator = Authenticator(
            self.accounts, self.tokens, self.throttle, trail=self.audit, system=self.system
        )

    def tie(self, engine: Engine) -> None:
        """Sessions of this engine follow every change of accounts, roles and keys at once."""
        self.policy.on_change(lambda change: engine.apply_policy(change, self.policy.scope))
        self.keys.on_change(self._ending_in(engine))
        self.api_tokens.on_revoke(engine.end_dead_tokens)

    def token_holds(self, token: str) -> bool:
        """Whether a token is still good; its idle time restarts."""
        return self.tokens.resolve(token) is not None

    def reconfigure(self, config: Config) -> None:
        """Take a changed configuration."""
        limits = config.limits
        self.tokens.limits = self.throttle.limits = limits
        self.accounts.reconfigure(limits)
        self.keys.reconfigure(limits)
        if self.system is not None:
            self.system.reconfigure(config.pam)

    def _ending_in(self, engine: Engine) -> Callable[[tuple[Registered, ...]], None]:
        def revoked(keys: tuple[Registered, ...]) -> None:
            """What a key opened ends with it: tokens, sessions that use one, and those that showed a certificate."""
            for key in keys:
                self.tokens.end_key(key.account, key.fingerprint)
                scope = self.policy.scope(key.account)
                change = PolicyChange(self.policy.version, key.account, scope, revoked=False)
                engine.apply_policy(change, self.policy.scope)
            if keys:
                engine.end_dead_tokens()

        return revoked
