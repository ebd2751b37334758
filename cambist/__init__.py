"""The application: command line, configuration, supervisor, and what an operator sees."""

from typing import Final

from protocol.release import RELEASE

__version__: Final = RELEASE
