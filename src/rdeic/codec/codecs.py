"""Codecs of the installed models, chosen by the file to decode. torch is imported only when one of them codes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from rdeic.checkpoints import registry
from rdeic.codec.codec import DEFAULT_MODEL, Codec, load, load_for
from rdeic.codec.weights import DEFAULTS, Settings
from rdeic.container.info import inspect
from rdeic.system import forks


class Codecs:
    """Each model is loaded once, whichever files ask for it. Threads may share it."""

    def __init__(self, settings: Settings = DEFAULTS) -> None:
        """Of all of them."""
        self._settings = settings
        self._known: dict[str, Codec] = {}  # by fingerprint
        self._finding = threading.Lock()

    def for_file(self, blob: bytes) -> Codec:
        """That of the model which made an .rdeic file.

        Raises FileFormatError if it is none, ModelMismatchError if no installed model made it.
        """
        return self._find(inspect(blob).fingerprint, lambda: load_for(blob, self._settings))

    @functools.cached_property
    def default(self) -> Codec:
        """That of the model which comes with the package."""
        lowest = registry.rates(registry.find(DEFAULT_MODEL))[0]
        made = registry.fingerprint(lowest).hex()
        return self._find(made, lambda: load(DEFAULT_MODEL, *self._settings))

    def _find(self, fingerprint: str, make: Callable[[], Codec]) -> Codec:
        # As coding, so that a fork waits until the lock is free: a child would find it closed for ever.
        with forks.coding(), self._finding:
            if fingerprint not in self._known:
                # Rates of one model share most of their weights, as long as it is one codec that loads them.
                siblings = (one for one in self._known.values() if one.made(fingerprint))
                self._known[fingerprint] = next(siblings, None) or make()
            return self._known[fingerprint]
