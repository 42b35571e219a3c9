"""Errors a user can mend: what happened, where, and what to do about it."""


class VarError(Exception):
    """Unreadable content or a failure at run time; the command line prints it and exits with 1.

    `message` says what is wrong and where; `hint`, if any, says what to do.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(VarError):
    """A wrong option, missing path, existing output or bad config; exits with 2."""

    exit_code = 2
