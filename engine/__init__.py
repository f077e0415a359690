"""Train and evaluate networks, manage runs, and run inference."""

import os

# OpenMP's threads spin while they wait for each other. If other threads need the cores, as decoding always does,
# spinning takes the cores from them, and steps take many times longer. OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
