"""The two ways in which a request can fail."""


class RequestError(ValueError):
    """What was asked for is wrong: the message says which value, what is allowed and how to fix it (exit code 2)."""


class WorkError(RuntimeError):
    """The request was right but the work failed: the message says why and what to do (exit code 1)."""
