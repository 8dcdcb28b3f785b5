"""`python -m infogan_dist`: the same program as `infogan-dist`."""

import sys

from infogan_dist.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
