"""Becomes a service: `python -I -S child_process.py PARENT_PID UID GID COMMAND…`.

It runs after the fork and before the service's own program, with only the standard library. It is a
separate program because the supervisor has threads: locks that they hold at a fork are never
released in the child.
"""

import ctypes
import os
import shutil
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_STARTED = 127


def main(arguments: list[str]) -> int:
    parent, uid, gid = (int(value) for value in arguments[:3])
    command = arguments[3:]
    # Looked up, and everything imported, before the change of user: the new one may be unable to
    # read this Python's own files (an interpreter under /root).
    program = shutil.which(command[0]) or command[0]
    if uid >= 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        except OSError as error:
            sys.stderr.write(f"cannot become user {uid}: {error.strerror}\n")
            return NOT_STARTED
    if parent > 0:
        # After the change of user, which clears it. The kernel kills us when the supervisor dies.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return NOT_STARTED  # the supervisor died before the line above
    # Python ignores these signals, and a child would inherit that across exec.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(program, command)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        return NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
