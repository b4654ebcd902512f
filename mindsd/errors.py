"""Every error a caller may catch, as one tree.

MindsdError
├── RequestError            what was asked cannot be done: change the request (exit code 2)
│   └── UnknownModel        there is no model of this id
├── ModelError              the model folder is missing, incomplete or not safe (exit code 2)
├── OutputError             results cannot be written where they should go (exit code 2)
├── BrokenImage             the model drew values that are not numbers
├── BrokenLogits            what the model computed are no numbers to draw a token by
├── AttentionRefused        no attention backend can compute this call
├── QueueFull               the engine already holds as many requests as it was allowed
├── Cancelled               the request was cancelled before it finished
├── EngineClosed            the engine no longer takes requests
└── OutOfMemory             one request alone does not fit in this device's memory

Every message says what was found (with its numbers) and what to do about it.
"""


class MindsdError(Exception):
    """Root of all errors that mindsd raises on purpose."""


class RequestError(MindsdError, ValueError):
    """The request itself is wrong: a size, a step count, a prompt, an unknown option."""


class UnknownModel(RequestError):
    """No model has this id; the message names the nearest one."""


class ModelError(MindsdError):
    """The model cannot be found, read, or safely loaded."""


class OutputError(MindsdError, OSError):
    """The place for the results cannot be written."""


class BrokenImage(MindsdError, ArithmeticError):
    """The model drew values that are not numbers, usually where half precision overflowed."""


class BrokenLogits(MindsdError, ArithmeticError):
    """The logits are not numbers, usually where half precision overflowed."""


class AttentionRefused(MindsdError, NotImplementedError):
    """Every backend refused an attention call; the message lists each reason."""


class QueueFull(MindsdError):
    """The engine's queue is at its limit; submit again later."""


class Cancelled(MindsdError):
    """Raised inside a request where it is suspended, and to whoever waits for its result."""


class EngineClosed(MindsdError):
    """The engine was closed; make a new one."""


class OutOfMemory(MindsdError, MemoryError):
    """A single request does not fit in memory even alone."""
