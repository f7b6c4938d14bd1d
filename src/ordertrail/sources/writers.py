"""Whether somebody has a file open for writing, as far as the system can tell.

Linux grants a read lease (`F_SETLEASE`, fcntl(2)) on a file only while nobody has it open for writing; a shared
mapping that may be written to counts as open. Only the file's owner, or who has CAP_LEASE, may ask. The lease is
released at once: somebody who opens the file for writing in that instant waits for it and is not disturbed.

The answer is reliable only on a disk of this machine. A network file system either knows nothing of writers on other
machines, or refuses for reasons of its own.
"""

from __future__ import annotations

import ctypes
import errno
import signal
import sys
from collections.abc import Callable
from functools import cache

_LOCAL_SYSTEMS = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
        0xCA451A4E,  # bcachefs
        0x2FC12FC1,  # zfs
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0x794C7630,  # overlayfs, the disk of a container
    }
)
"""`f_type` of statfs(2) of the file systems of one machine, whose times are those of its own clock."""


def is_local(descriptor: int) -> bool:
    """Whether a file or folder is certainly on a disk of this machine."""
    call = _fstatfs()
    if call is None:
        return False
    answer = ctypes.create_string_buffer(512)
    if call(descriptor, answer) != 0:
        return False
    kind = int.from_bytes(answer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)
    return kind & 0xFFFFFFFF in _LOCAL_SYSTEMS


def is_written(descriptor: int) -> bool | None:
    """Whether anybody has the file open for writing, or mapped for it.

    Args:
        descriptor: Of a regular file on a local disk, opened for reading only.

    Returns:
        None when the system does not tell: it is not Linux, or the file is another user's.
    """
    if sys.platform != "linux":
        return None
    import fcntl

    try:
        # A writer that comes while we hold the lease is announced by a signal. SIGIO, the default one, would end us.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


@cache
def _fstatfs() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).fstatfs
    except (AttributeError, OSError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_void_p)
    call.restype = ctypes.c_int
    return call
