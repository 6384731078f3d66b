"""`python -m latentrot.cli`."""

import sys

from latentrot.cli import main

sys.exit(main())
