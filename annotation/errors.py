"""The one exception that reaches a user as a sentence instead of a traceback, and an end that is no error."""

import os
import select
import sys


class UserError(Exception):
    """A mistake the user can mend: its message says which file, record or field, and what was expected."""


def reader_is_gone() -> bool:
    """Whether the program that read our output has ended, as `head` does once it has its lines.

    What is still to be written is then dropped, so that Python does not complain of it at its end.
    """
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in output.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone
