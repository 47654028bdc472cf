"""Which tasks of a resave are finished, so that one that was interrupted can go on."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from npy2bdv.errors import InvalidInputError
from npy2bdv.storage.remote import Lines
from npy2bdv.tasks import Done

if TYPE_CHECKING:
    from npy2bdv.planning import ResavePlan

logger = logging.getLogger(__name__)


class Record:
    """The list of finished tasks: ``NAME.part.h5.tasks`` beside the pixels, a line of JSON each."""

    def __init__(self, plan: ResavePlan) -> None:
        part = plan.part_pixels
        self._path = part.with_name(f"{part.name}.tasks")
        self._lines = Lines(self._path)
        self._plan = plan
        self.count = 0

    @property
    def is_begun(self) -> bool:
        """Whether an earlier resave was begun and not completed."""
        return self._lines.exists()

    def begin(self) -> None:
        """Begin anew."""
        said = {"npy2bdv resave": 1, "plan": self._plan.identity, "tasks": len(self._plan.tasks)}
        self._lines.begin(json.dumps(said))

    def read(self) -> dict[int, Done] | None:
        """Return what was finished; None where there is nothing to go on with.

        Raises
        ------
        InvalidInputError
            If it was begun with other options, or from another source.
        """
        if not self.is_begun or (self._plan.card.concurrent and not self._plan.part_pixels.is_dir()):
            logger.warning("there is nothing to go on with beside %s: it is begun anew", self._path)
            return None
        first, *lines = self._lines.read()
        try:
            identity = json.loads(first)["plan"]
        except (ValueError, TypeError, KeyError):
            return None
        if identity != self._plan.identity:
            raise InvalidInputError(
                f"what lies in {self._path.name} was begun with other options, or its source has changed since; "
                "resave with the same ones, or leave out resume=True to begin anew"
            )
        done = {}
        for line in lines:
            try:
                number, files, nbytes = json.loads(line)
            except (ValueError, TypeError):  # the last one may be torn
                continue
            done[number] = Done(number=number, files=files, nbytes=nbytes)
        self.count = len(done)
        return done

    def note(self, done: Done) -> None:
        """Note that a task is finished."""
        self._lines.add(json.dumps([done.number, done.files, done.nbytes]))
        self.count += 1

    def remove(self) -> None:
        """Forget it."""
        self._lines.remove()
