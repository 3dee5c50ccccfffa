"""``python -m semiclip`` is the command ``semiclip``."""

import sys

from semiclip._cli import main

if __name__ == "__main__":
    sys.exit(main())
