"""A rank's freed memory stays with it: the second use touches no new pages, and nothing is taken before it is used."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from pipeline.training.memory import keep_freed_memory

def used(what):
    return getattr(resource.getrusage(resource.RUSAGE_SELF), what)

before = used("ru_maxrss")
assert keep_freed_memory()
grown = used("ru_maxrss") - before
faults = []
for _ in range(3):
    first = used("ru_minflt")
    for _ in range(2):
        held = [bytearray(40 << 20) for _ in range(4)]
        del held
    faults.append(used("ru_minflt") - first)
print(grown, faults[-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_freed_memory_is_used_again_and_none_is_taken_beforehand() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    grown, faults = map(int, done.stdout.split())
    assert grown < 50_000  # KiB
    assert faults < 100  # 320 MB in pages of 4 KiB would be 80,000
