"""The errors a user can meet: what is wrong, where, which value, and one hint that can be run.

    LatenteError ─┬─ ConfigError     exit 2  a setting, a name, a combination
                  ├─ NotFittedError  exit 2  a verb before `fit`
                  ├─ DataError       exit 3  the data
                  ├─ ModelFileError  exit 4  the model file
                  └─ ResourceError   exit 5  memory, disk, a lost device

The data and configuration errors are also `ValueError`s, as scikit-learn's conventions ask.
"""


class LatenteError(Exception):
    """A problem that the user can mend; shown without a traceback on the command line."""

    exit_code = 1

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem}\n\nhint: {self.hint}" if self.hint else self.problem


class ConfigError(LatenteError, ValueError):
    """A setting, a name or a combination of parts that cannot be."""

    exit_code = 2


class NotFittedError(LatenteError, ValueError, AttributeError):
    """A verb was called on a model that has not been fitted."""

    exit_code = 2


class DataError(LatenteError, ValueError):
    """The data cannot be read, or do not fit the model."""

    exit_code = 3


class DataTypeError(DataError, TypeError):
    """A value of a type that no kind of data has (scikit-learn's contract: a `TypeError`)."""


class ModelFileError(LatenteError):
    """The model file is damaged, foreign, or from another version."""

    exit_code = 4


class ResourceError(LatenteError):
    """Memory, disk or device ran out."""

    exit_code = 5


class DataWarning(UserWarning):
    """Something about the data that a user should know, and that was handled as the message says."""
