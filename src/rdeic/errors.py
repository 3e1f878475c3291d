"""The exceptions a caller can meet, all below one root.

    RdeicError
    ├── FileFormatError      not an .rdeic file, truncated, damaged, or from a newer version
    ├── ModelMismatchError   the file needs another model than the one at hand
    ├── ImageError           a picture that cannot be read, used or written
    │   ├── TooLargeError        it has more pixels than the limit that was set
    │   └── TransparencyError    nobody said what lies behind its transparent pixels
    ├── RateError            a requested size that cannot be met
    ├── VerifyError          what was encoded does not decode to the same
    ├── CheckpointError      weights that do not fit the network they are meant for
    ├── TrainingError        training cannot start or go on (empty data set, NaN loss, out of memory)
    └── ConfigError          a setting that makes no sense, or a model that is not installed

Messages name the offender and the remedy, in one line.
"""

from __future__ import annotations


class RdeicError(Exception):
    """Root of everything this package raises on purpose."""


class FileFormatError(RdeicError):
    """The bytes are not a valid .rdeic file."""


class ModelMismatchError(RdeicError):
    """The file was made with a model that is not the one loaded."""


class ImageError(RdeicError):
    """A picture cannot be read, used or written."""


class TooLargeError(ImageError):
    """A picture has more pixels than the limit that was set."""


class TransparencyError(ImageError):
    """A picture has transparent pixels, and nobody said what lies behind them."""


class RateError(RdeicError):
    """The requested size is out of reach."""


class VerifyError(RdeicError):
    """A file that was just made does not decode to what was encoded."""


class CheckpointError(RdeicError):
    """Weights do not fit the network."""


class TrainingError(RdeicError):
    """Training cannot start or go on."""


class ConfigError(RdeicError):
    """A setting makes no sense, or a model is not installed."""
