"""`python -m latentrot`."""

import sys

from latentrot.cli import main

sys.exit(main())
