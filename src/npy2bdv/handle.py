"""What holds files and has to be closed."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from npy2bdv.errors import WriteError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

logger = logging.getLogger(__name__)


class Handle(ABC):
    """A context manager that is closed at the end of its block.

    An error that is under way then is not hidden by one of closing, which is logged.
    """

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Close all files. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except WriteError:
            if error is None:
                raise
            logger.exception("closing %r", self)
