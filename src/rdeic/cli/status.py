"""Exit statuses of the program, and the errors that end a batch."""

from __future__ import annotations

import errno

FAILED = 1
INTERRUPTED = 130

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # on a disk: what ends a batch
