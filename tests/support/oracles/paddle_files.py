"""Files as PaddleVideo and Paddle write them, made from torchvision's networks."""

import pickle
from functools import partial

import numpy as np
import torch

BATCH_NORM = {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"}


def block_name(stage, block, blocks):
    """Return `res2a` for the first block of the first stage; `res4b7` if a stage has more blocks than letters."""
    name = "res" + str(stage + 1)
    return name + (chr(ord("a") + block) if blocks < 23 else "b" + str(block) if block else "a")


def _put(state, prefix, name, conv, norm):
    """Add the tensors of a convolution and its norm to a state."""
    state[f"{prefix}{name}._conv.weight"] = conv.weight.detach().numpy()
    for ours, theirs in BATCH_NORM.items():
        state[f"{prefix}{name}._batch_norm.{theirs}"] = getattr(norm, ours).detach().numpy()


def _put_classifier(state, head, fc):
    state[f"{head}fc.weight"] = np.ascontiguousarray(fc.weight.detach().numpy().T)
    state[f"{head}fc.bias"] = fc.bias.detach().numpy()


def paddle_state(net, prefix="backbone.", head="head."):
    """Return a torchvision ResNet's tensors under PaddleVideo's names, as arrays."""
    state = {}
    put = partial(_put, state, prefix)
    put("conv", net.conv1, net.bn1)
    for stage, layer in enumerate([net.layer1, net.layer2, net.layer3, net.layer4], 1):
        for number, block in enumerate(layer):
            name = block_name(stage, number, len(layer))
            put(f"{name}.conv0", block.conv1, block.bn1)
            put(f"{name}.conv1", block.conv2, block.bn2)
            put(f"{name}.conv2", block.conv3, block.bn3)
            if block.downsample:
                put(f"{name}.short", *block.downsample)
    _put_classifier(state, head, net.fc)
    return state


def vd_state(net, prefix="backbone.", head="head."):
    """Return the tensors of a ResNet-D under PaddleVideo's names for PP-TSM and PP-TSN, as arrays."""
    state = {}
    put = partial(_put, state, prefix)
    put("conv1_1", net.conv1[0], net.conv1[1])
    put("conv1_2", net.conv1[3], net.conv1[4])
    put("conv1_3", net.conv1[6], net.bn1)
    for stage, layer in enumerate([net.layer1, net.layer2, net.layer3, net.layer4]):
        for number, block in enumerate(layer):
            for conv in range(3):
                put(
                    f"bb_{stage}_{number}.conv{conv}",
                    block.get_submodule(f"conv{conv + 1}"),
                    getattr(block, f"bn{conv + 1}"),
                )
            if block.downsample:
                _, conv, norm = block.downsample
                put(f"bb_{stage}_{number}.short", conv, norm)
    _put_classifier(state, head, net.fc)
    return state


def write(path, state, protocol=4):
    """Write a file as paddle.save does for a state_dict: the arrays, and a table of other names for them."""
    table = {name: name.replace(".", "_") for name in state}
    path.write_bytes(pickle.dumps({**state, "StructuredToParameterName@@": table}, protocol=protocol))
    return path


def mirrored_tsm_logits(net, clips_BTCHW):
    """Return the logits of PaddleVideo's TSM: a torchvision network whose channels show the frame before first.

    Of C channels the first C/T show the frame before and the next C/T the one after.
    """
    frames = clips_BTCHW.shape[1]

    def shift(_, inputs):
        x_BTCHW = inputs[0].unflatten(0, (-1, frames))
        out_BTCHW = x_BTCHW.clone()
        fold = x_BTCHW.shape[2] // frames
        out_BTCHW[:, :, : 2 * fold] = 0
        out_BTCHW[:, 1:, :fold] = x_BTCHW[:, :-1, :fold]
        out_BTCHW[:, :-1, fold : 2 * fold] = x_BTCHW[:, 1:, fold : 2 * fold]
        return (out_BTCHW.flatten(0, 1),)

    layers = [block.conv1 for stage in (net.layer1, net.layer2, net.layer3, net.layer4) for block in stage]
    hooks = [layer.register_forward_pre_hook(shift) for layer in layers]
    with torch.no_grad():
        logits_BK = tsn_logits(net, clips_BTCHW)
    for hook in hooks:
        hook.remove()
    return logits_BK


def tsn_logits(net, clips_BTCHW):
    with torch.no_grad():
        return net(clips_BTCHW.flatten(0, 1)).unflatten(0, clips_BTCHW.shape[:2]).mean(1)
