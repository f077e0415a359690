"""A model for Triton's Python backend: decodes, samples and crops a video with the code of evaluation, and scores it.

This is Triton Inference Server, not the Triton compiler. `triton_python_backend_utils` exists only in the server.
"""

from __future__ import annotations

import json
import tempfile

import numpy as np
import triton_python_backend_utils as pb_utils

from dali_pipes import DataError
from engine.inference.network import open_network
from engine.inference.predict import predict_video


class TritonPythonModel:
    """Responds to requests with one video each; the server defines the interface."""

    def initialize(self, args: dict) -> None:
        """Open the network that config.pbtxt names."""
        parameters = json.loads(args["model_config"])["parameters"]
        device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"
        path = parameters["network"]["string_value"]
        self.network = open_network(path, overrides=[f"runtime.device={device}"])
        self.top_k = int(parameters["top_k"]["string_value"])

    def execute(self, requests: list) -> list:
        """Return a response for each request; an unreadable video is an error of its request only."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        (content,) = pb_utils.get_input_tensor_by_name(request, "video").as_numpy().ravel()
        try:
            with tempfile.NamedTemporaryFile(prefix="video-") as file:
                file.write(content)
                file.flush()
                guesses = predict_video(self.network, file.name, self.top_k)
        except DataError as error:
            return pb_utils.InferenceResponse([], pb_utils.TritonError(error.reason))
        names = np.array([name.encode() for name, _ in guesses], np.object_)
        probabilities = np.array([probability for _, probability in guesses], np.float32)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("name", names), pb_utils.Tensor("probability", probabilities)]
        )
