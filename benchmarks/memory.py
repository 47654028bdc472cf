"""Peak memory of this process. Runs in every candidate's environment: the standard library only."""

from __future__ import annotations

import os
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Let the peak begin anew, where the system can (Linux); elsewhere only what exceeds the old one is seen."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def peak() -> int:
    """Return the most memory that was resident, in bytes."""
    if _CLEAR.exists():
        status = _CLEAR.with_name("status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return _windows_peak() if os.name == "nt" else _unix_peak()


def _unix_peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _windows_peak() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [
            ("cb", wintypes.DWORD),
            ("page_faults", wintypes.DWORD),
            ("peak_working_set", ctypes.c_size_t),
            *((f"unused{i}", ctypes.c_size_t) for i in range(7)),
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo.argtypes = [wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD]
    kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    return int(counters.peak_working_set)
