"""Why a connection is not read: bits of one mask.

Reading goes on when no bit is set. The transport keeps the mask; whoever
pauses for a reason also ends that reason.
"""

from __future__ import annotations

#: A token bucket is in debt.
RATE = 1
#: A handler returned a Deferred that has not fired.
PENDING = 2
#: A receiver's queue is full and its overflow policy is pause-publishers.
DOWNSTREAM = 4
#: The client does not take what we send it (acknowledgements, mostly).
OUTPUT = 8
#: The connection is closing: nothing more is read.
CLOSING = 16
#: Too much of what it sent waits to be acknowledged.
UNANSWERED = 32
