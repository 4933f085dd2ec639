"""Become a server, as another user where asked, that dies with the process that started it.

Run as ``python server_launcher.py SIGNAL USER COMMAND...``; an empty USER stays who it is. The kernel sends SIGNAL when
the starter ends, however it ends, so that no server outlives its tests.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    signal_number, user, *command = sys.argv[1:]
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.environ["HOME"] = "."
    # After the change of user, which would clear it.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal_number)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
