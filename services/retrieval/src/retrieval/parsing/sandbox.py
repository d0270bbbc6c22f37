"""What the parsing process gives up for good: files, network, other processes. Linux only, by filters of the kernel.

seccomp allows the system calls that a parser needs and refuses all others. Landlock allows to read Python's folders,
for modules that are loaded late, and no other file. `/proc`, where secrets of the service stand, is among the others.
Numbers of calls: asm/unistd_64.h of x86, asm-generic/unistd.h. Structures: linux/seccomp.h, linux/landlock.h.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32
# Calls of the x32 interface have the same numbers with this bit.
_X32 = 0x40000000

# Architecture in linux/audit.h, numbers of allowed calls, number of openat.
_X86 = (
    0xC000003E,
    (
        "0 1 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 19 20 21 24 25 28 32 39 60 63 72 79 89 96 97 98 99 102 104 "
        "107 108 110 131 186 202 204 217 228 229 231 262 267 269 271 273 302 318 324 332 334 439"
    ),
    257,
)
_ARM = (
    0xC00000B7,
    (
        "63 64 57 80 73 62 222 226 215 214 134 135 139 29 67 65 66 124 216 233 23 172 93 160 25 17 78 169 163 "
        "165 179 174 176 175 177 173 132 178 98 123 61 113 114 94 79 48 99 261 278 283 291 293 439"
    ),
    56,
)
_ARCHITECTURES = {"x86_64": _X86, "aarch64": _ARM}

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_READ = 0b1100
_ALL_ACCESS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends. Linux only."""
    if sys.platform == "linux":
        _call(ctypes.CDLL(None, use_errno=True).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it had ended before
            os._exit(1)


def enter() -> dict[str, str]:
    """Give up all that a parser does not need. Returns the filters that this system does not have, with the reason."""
    missing: dict[str, str] = {}
    if sys.platform != "linux":
        return {"seccomp": "not Linux", "landlock": "not Linux"}
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for name, apply in (("landlock", _restrict_files), ("seccomp", _restrict_calls)):
        try:
            apply(libc)
        except OSError as error:
            missing[name] = error.strerror or str(error)
    return missing


def _restrict_calls(libc: ctypes.CDLL) -> None:
    if platform.machine() not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
    program = b"".join(_program(*_ARCHITECTURES[platform.machine()]))
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, and a pointer to the instructions.
    filters = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(buffer)))
    _call(libc.prctl, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filters, 0, 0)


def _program(architecture: int, allowed: str, openat: int) -> Iterator[bytes]:
    """The filter in classic BPF. Jumps count instructions from the next one."""
    numbers = [int(number) for number in allowed.split()]
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield _instruction(_JUMP_IF_EQUAL, architecture, 1, 0)
    yield _instruction(_RETURN, _REFUSE)
    yield _instruction(_LOAD, _NUMBER)
    yield _instruction(_JUMP_IF_AT_LEAST, _X32, len(numbers) + 4, 0)
    for index, number in enumerate(numbers):
        yield _instruction(_JUMP_IF_EQUAL, number, len(numbers) - index + 4, 0)
    # A file may be opened to be read.
    yield _instruction(_JUMP_IF_EQUAL, openat, 0, 3)
    yield _instruction(_LOAD, _THIRD_ARGUMENT)
    yield _instruction(_AND, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    yield _instruction(_JUMP_IF_EQUAL, 0, 1, 0)
    yield _instruction(_RETURN, _REFUSE)
    yield _instruction(_RETURN, _ALLOW)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _restrict_files(libc: ctypes.CDLL) -> None:
    version = _call(libc.syscall, _CREATE_RULESET, None, 0, _VERSION_FLAG)
    handled = _ALL_ACCESS[min(version, max(_ALL_ACCESS))]
    ruleset = _call(libc.syscall, _CREATE_RULESET, struct.pack("Q", handled), 8, 0)
    try:
        for folder in _python_folders():
            with suppress(FileNotFoundError):
                parent = os.open(folder, os.O_PATH | os.O_CLOEXEC)
                # struct landlock_path_beneath_attr is packed.
                _call(libc.syscall, _ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", _READ, parent), 0)
                os.close(parent)
        _call(libc.syscall, _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _python_folders() -> set[str]:
    """Where modules and the libraries that they load are."""
    folders = {sys.prefix, sys.base_prefix, "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"}
    # A folder above all others, as of a system's Python, would allow everything.
    return {path for path in folders | set(sys.path) if Path(path).is_dir() and path not in {"/", "/usr"}}


def _call(function: Callable[..., int], *arguments: object) -> int:
    result = function(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
