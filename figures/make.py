"""Make every figure, table and named result of the thesis of the small tables here: python figures/make.py"""

import pictures  # noqa: F401  (they declare their steps)
import texts  # noqa: F401
from named import STEPS

if __name__ == "__main__":
    STEPS.main()
