"""Why a connection is not read: bits of one mask.

Reading goes on when no bit is set. The transport keeps the mask; whoever
pauses for a reason also ends that reason.
"""

from __future__ import annotations

from typing import Final

#: A token bucket is in debt.
RATE: Final = 1
#: A handler returned a Deferred that has not fired.
PENDING: Final = 2
#: A receiver's queue is full and its overflow policy is pause-publishers.
DOWNSTREAM: Final = 4
#: The client does not take what we send it (acknowledgements, mostly).
OUTPUT: Final = 8
#: The connection is closing: nothing more is read.
CLOSING: Final = 16
#: Too much of what it sent waits to be acknowledged.
UNANSWERED: Final = 32
