"""Run the command line: ``python -m sphisto``."""

import sys

from sphisto.cli import main

sys.exit(main())
