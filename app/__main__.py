"""`python -m app …`: the terminal door."""

import sys

from app import cli

if __name__ == "__main__":
    sys.exit(cli.main())
