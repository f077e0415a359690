"""Package metadata. `pip install -e .[test]` brings all that training, evaluation and the tests need."""

from setuptools import find_packages, setup

EXPORT = ["onnx>=1.18", "onnxruntime>=1.22", "onnxscript>=0.5", "safetensors>=0.5"]
STORE = ["obstore>=0.12"]  # videos in s3, gs, az and http
PROGRAMS = {
    "train": "train",
    "eval": "eval",
    "prepare": "tools.prepare",
    "predict": "tools.predict",
    "export": "tools.export",
    "import-weights": "tools.import_weights",
    "scores": "tools.scores",
    "report": "tools.report",
    "status": "tools.status",
    "zoo": "tools.zoo",
}

setup(
    name="tsm-dali",
    version="0.1.0",
    description="TSM and TSN action recognition, trained from mp4 at the speed of the GPU",
    python_requires=">=3.11",
    packages=find_packages(include=["configs*", "dali_pipes*", "models*", "engine*", "tools*"]),
    py_modules=["train", "eval"],
    entry_points={"console_scripts": [f"tsm-{name}={module}:main" for name, module in PROGRAMS.items()]},
    package_data={"configs": ["*.yaml"], "engine": ["**/*.j2", "*.jsonl"], "models": ["**/*.jsonl"]},
    install_requires=[
        "av>=15,<20",  # 20 is not out: every version of late has renamed or removed something that is used here
        "filelock>=3.13",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "numpy>=1.26",
        # for a driver older than 580: nvidia-dali-cuda120 in its place, never beside it
        "nvidia-dali-cuda130>=2.4; platform_system == 'Linux' and platform_machine == 'x86_64'",
        "omegaconf>=2.4,<3",
        "pillow>=10",
        "pyyaml>=6",
        "rich>=13",
        "tensorboard>=2.17",
        "threadpoolctl>=3.5",
        "torch>=2.11",
        "torchvision>=0.26",
    ],
    extras_require={
        "export": EXPORT,
        "store": STORE,
        "peers": ["decord>=0.6", "torchcodec>=0.8"],
        "test": [
            *EXPORT,
            *STORE,
            "hypothesis>=6",
            "mypy>=1.13",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.6",
        ],
        "test-s3": ["moto[s3,server]>=5"],
    },
)
