"""``python -m cambist`` is the program ``cambist``."""

import sys

from cambist.cli import main

if __name__ == "__main__":
    sys.exit(main())
