"""Train and evaluate networks, keep their runs, and use them for inference."""

import os

# OpenMP's threads, which compute on a CPU, spin while they wait for each other. As soon as anything else wants the
# cores (decoding does, all the time) they spin against it, and steps take many times longer. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
