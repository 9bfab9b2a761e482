"""The process that libFuzzer runs in: `python -m bulkhead.fuzz.driver LIBFUZZER`, then libFuzzer's own arguments.

Trust label: TOOL. `BULKHEAD_HOST_LIBRARY` names the library with counters. A difference is printed and ends the process
by SIGABRT, upon which libFuzzer keeps the input.
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback

from bulkhead.conformance.backends import native
from bulkhead.fuzz.target import Difference, Run

PROGRAM = "BULKHEAD_FUZZ_PROGRAM"
"""Environment variable: what libFuzzer starts where it needs another process like this one."""
DIFFERENCE = "differs from the specification: "
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_uint8), ctypes.c_size_t)


def main(library: str, options: list[str]) -> int:
    """Does not return: libFuzzer ends the process."""
    # Before the library with the counters, which looks for it.
    fuzzer = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    native.engine()
    words = [os.environ.get(PROGRAM, sys.argv[0]), *options]
    argv = (ctypes.c_char_p * (len(words) + 1))(*(word.encode() for word in words), None)
    pointer, count = ctypes.cast(argv, ctypes.POINTER(ctypes.c_char_p)), ctypes.c_int(len(words))
    callback = _CALLBACK(_one)
    return int(fuzzer.LLVMFuzzerRunDriver(ctypes.byref(count), ctypes.byref(pointer), callback))


def _one(data: ctypes._Pointer[ctypes.c_uint8], size: int) -> int:
    try:
        Run(ctypes.string_at(data, size)).execute()
    except Difference as difference:
        print(f"{DIFFERENCE}{difference}", file=sys.stderr, flush=True)
        os.abort()
    except BaseException:  # noqa: BLE001 - nothing may unwind into libFuzzer
        traceback.print_exc()
        os.abort()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
