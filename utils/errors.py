"""The one kind of error that a user sees as a line."""


class UserError(Exception):
    """A mistake of the user. Its message is one line: what is wrong, where, what is expected."""
