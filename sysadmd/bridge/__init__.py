"""The bridge: peers behind NAT dial it, and it relays between them what it cannot read."""
