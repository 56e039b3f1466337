"""Errors that a user can mend; each message says what was expected, what came and what to do."""


class InputError(ValueError):
    """Something that a user wrote or supplied is wrong."""


class PlanError(InputError):
    """The plan is wrong."""


class DataError(InputError):
    """The data are wrong."""


class TrainingError(RuntimeError):
    """A training that started could not go on."""


class ClientError(RuntimeError):
    """Local training of a client broke off. It may be well when it is done again."""


class TrackingError(RuntimeError):
    """MLflow could not be reached, or could not store what it was given."""


class RefusedError(TrackingError):
    """MLflow will not take it from this user, or not at all: to ask again changes nothing."""
