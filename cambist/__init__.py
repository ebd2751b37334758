"""The application: command line, configuration, supervisor, and what an operator sees."""

from typing import Final

__version__: Final = "0.1.0"
