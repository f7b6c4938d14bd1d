"""What a process of a command switches at its start."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from ordertrail import startup

BUFFERS = """
import resource, sys
from ordertrail import startup
if sys.argv[1] == "kept":
    startup.keep_freed()
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):  # the first round grows the heap
    before = pages()
    for _ in range(20):
        buffers = [b"x" * (1 << 20) for _ in range(8)]
        del buffers
print((pages() - before) * resource.getpagesize() >> 20)
"""
"""Prints how many megabytes of pages the kernel had to hand out for 160 buffers of a megabyte."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed")
def test_freed_buffers_are_used_again_by_a_command_that_reads_files() -> None:
    def handed_out_mb(how: str) -> int:
        command = [sys.executable, "-c", BUFFERS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert handed_out_mb("kept") < 20 < handed_out_mb("as it is")


HEAPS = """
import ctypes, os, sys, tempfile, threading
from ordertrail import startup
if sys.argv[1] == "shared":
    startup.share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(8)
def work():
    together.wait()
    for _ in range(100):
        libc.malloc(10_000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
said = os.path.join(tempfile.mkdtemp(), "said")
stream = ctypes.c_void_p(libc.fopen(said.encode(), b"w"))
libc.malloc_info(0, stream)
libc.fclose(stream)
print(open(said).read().count("<heap "))
"""
"""Prints how many heaps eight threads have taken."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has heaps of threads, and tells of them")
def test_the_threads_of_a_service_share_their_heaps() -> None:
    def heaps(how: str) -> int:
        command = [sys.executable, "-c", HEAPS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert heaps("shared") <= startup.ARENAS < heaps("as it is")
