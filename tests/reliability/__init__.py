"""How often something is lost, mixed, silent or not understood when runs are killed, disks fail and files are damaged.

``python -m tests.reliability.run`` measures all of it (TABLE.md is what it wrote last); the tests are the same with fewer
cases. A case runs in a forked child of a process that has imported everything, so that thousands of them take minutes, and
its end is judged from outside: by digests, by the exit status, by what stands in the folder. No compiler and no other
package is needed; Linux is, for `/proc`.
"""

import sys
from pathlib import Path

SUPPORT = str(Path(__file__).parents[1] / "support")
if SUPPORT not in sys.path:  # where pytest has not put it there
    sys.path.append(SUPPORT)
