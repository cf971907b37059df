"""`events/subscribe` and `events/unsubscribe`."""

from __future__ import annotations

from typing import Any

from sysadmd.api.services import Services
from sysadmd.errors import Forbidden, NotFound
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
    call.session.subscriptions.add(call.caller, call.dialect, _visible(call, names))
    return {"subscribe": names[-1]}


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
    return {"unsubscribe": names[-1]}


def _subscribe_extended(call: Call, services: Services) -> dict[str, Any]:
    args, events = call.args, services.events
    since = args.get("since")
    spec = SubscriptionSpec(
        topics=frozenset(_visible(call, args["topics"])),
        dialect=call.dialect,
        scope=call.caller,
        extended=True,
        policy=args.get("policy", "gap"),
        filter=Filter.parse(args["filter"]) if args.get("filter") else None,
        since=(since["epoch"], since["seq"]) if since else None,
        replay_last=args.get("snapshot", False),
    )
    # What can be resumed needs no snapshot, whose newer numbers would come before the older ones.
    wanted = spec.replay_last and "dispatcher" in spec.topics and not events.resumes(spec)
    snapshot = services.dispatcher.snapshot() if wanted else ()
    subscription = call.session.subscriptions.add_extended(spec, snapshot)
    return {"subscribe": sorted(spec.topics), "subscription": subscription, "epoch": events.epoch, "seq": events.head}


def _visible(call: Call, names: list[str]) -> list[str]:
    """The topics, all of which the caller may see. Raises `Forbidden`."""
    topics = [canonical_topic(name) for name in names]
    for name, topic in zip(names, topics, strict=True):
        if not call.caller.may_see(topic):
            raise Forbidden(f"{call.caller.account} may not see {name}")
    return topics
