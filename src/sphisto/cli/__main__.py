"""Run the command line: ``python -m sphisto.cli``."""

import sys

from sphisto.cli import main

sys.exit(main())
