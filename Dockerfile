# Training and inference on NVIDIA GPUs (docs/deploy.md). Not built in continuous integration.
#   docker build -t tsm-dali .
#   docker run --gpus all --shm-size 8g -v "$PWD/data:/work/data" -v "$PWD/runs:/work/runs" \
#       tsm-dali tsm-train --config tsm_k400_nhwc.yaml
FROM python:3.12-slim

# `video` makes the container runtime mount NVDEC's library; the default capabilities leave it out.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    PYTHONUNBUFFERED=1

# Triton, the compiler of GPU kernels, builds its launchers with a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

COPY . /opt/tsm-dali
RUN pip install --no-cache-dir -e "/opt/tsm-dali[export]"

WORKDIR /work
CMD ["tsm-train", "--help"]
