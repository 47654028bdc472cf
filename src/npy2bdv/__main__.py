"""Make ``python -m npy2bdv`` the same as the command ``npy2bdv``."""

import sys

from npy2bdv.cli import main

sys.exit(main())
