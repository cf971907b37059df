"""The bridge: servers and clients that cannot reach each other dial it, and it relays between them what it cannot read.

Of a bridge: relay.py listens (forwarded.py knows who comes through a proxy), connection.py and framing.py read and
write a peer's WebSocket, and exchange.py puts the rest together: dialogue.py, speech.py and login.py are what a peer
and the bridge say to each other, roster.py and pairing.py know who may talk to whom, switch.py moves what they say,
allowance.py and progress.py bound what one peer takes from the others. keyring.py holds the keys that are let in;
figures.py, metrics.py, pages.py and status.py tell how it is.

Of a server that dials one: link.py keeps the connection up, dial.py and known.py open it to the right bridge, line.py
speaks with the bridge, guests.py knows the peers behind it, and conversation.py carries the session of each.
"""
