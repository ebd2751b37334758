"""The release of this program; what clients that import no numpy know of versions."""

from __future__ import annotations

from typing import Final

RELEASE: Final = "0.2.0.dev0"
