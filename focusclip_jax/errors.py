"""The one exception that reaches a user as a sentence instead of a traceback."""


class UserError(Exception):
    """A mistake the user can mend: its message says which file, record or field, and what was expected."""
