"""What tools/export.py can be asked for. Loads nothing, so that a mistake on its command line shows at once."""

ENDINGS = {  # of the files' names, by format
    "onnx": ".onnx",
    "export": ".pt2",
    "aoti": ".aoti.pt2",
    "safetensors": ".safetensors",
    "tensorrt": ".engine",
}
PRECISIONS = ("fp32", "fp16", "bf16")
