"""`events/subscribe` and `events/unsubscribe`."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.errors import NotFound
from sysadmd.events.filter import Filter
from sysadmd.events.subscription import SubscriptionSpec
from sysadmd.rpc.call import Call, method
from sysadmd.wire.topics import canonical_topic


@method("events/subscribe")
def subscribe(call: Call, services: Services) -> dict[str, Any]:
    """Listen to topics, in the seed's form (a topic, a list) or the extended one (an object)."""
    services.life_preserver.poke()
    if isinstance(call.args, dict):
        return _subscribe_extended(call, services) if call.args["topics"] else {}
    names = [call.args] if isinstance(call.args, str) else call.args
    call.session.subscriptions.add(call.caller, call.dialect, [canonical_topic(name) for name in names])
    return {"subscribe": names[-1]} if names else {}


@method("events/unsubscribe")
def unsubscribe(call: Call, services: Services) -> dict[str, Any]:
    """Stop listening, in the form that subscribed."""
    if isinstance(call.args, dict):
        if "subscription" not in call.args:
            return {}
        subscription = call.args["subscription"]
        if not call.session.subscriptions.remove_extended(subscription):
            raise NotFound(f"args.subscription: there is no subscription {subscription!r}", path="args.subscription")
        return {"unsubscribe": subscription}
    names = [call.args] if isinstance(call.args, str) else call.args
    call.session.subscriptions.remove(call.dialect, [canonical_topic(name) for name in names])
    return {"unsubscribe": names[-1]} if names else {}


def _subscribe_extended(call: Call, services: Services) -> dict[str, Any]:
    args, events = call.args, services.events
    since = args.get("since")
    spec = SubscriptionSpec(
        topics=frozenset(canonical_topic(name) for name in args["topics"]),
        dialect=call.dialect,
        scope=call.caller,
        extended=True,
        policy=args.get("policy", "gap"),
        filter=Filter.parse(args["filter"]) if args.get("filter") else None,
        since=(since["epoch"], since["seq"]) if since else None,
        replay_last=args.get("snapshot", False),
    )
    snapshot = services.dispatcher.snapshot() if args.get("snapshot") and "dispatcher" in spec.topics else ()
    subscription = call.session.subscriptions.add_extended(spec, snapshot)
    return {"subscribe": sorted(spec.topics), "subscription": subscription, "epoch": events.epoch, "seq": events.head}
