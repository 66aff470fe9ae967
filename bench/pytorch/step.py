#!/usr/bin/env python3
"""The mean-teacher training step of wgrad in PyTorch: checked against wgrad's result, then timed in every mode that counts.

    node dist/train/cli.js bench peers --work step --export DIR [--size 256 --features 16,32,64,128,256 --batch 24]
    python3 bench/pytorch/step.py DIR [--modes f32,tf32,amp,compile-f32,compile-tf32,compile-amp] [--steps 50]

DIR holds settings, batch, initial weights, and wgrad's losses and weights after three steps. In f32 three steps from the same
weights must give the same losses (1e-5, relative) and the same changes of every tensor (1e-3 of the largest), or the script
ends with 1. Dropout and noise are 0 for the check; --dropout and --noise turn them on for the timing, as in training.
Prints one JSON document on stdout, progress on stderr. Needs PyTorch 2.1 or newer and nothing else.
"""
import argparse
import copy
import json
import struct
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = memoryview(bytearray(data[8 + length :]))
    return {
        name: torch.frombuffer(body[slice(*entry["data_offsets"])], dtype=torch.float32).reshape(entry["shape"])
        for name, entry in header.items()
        if entry["dtype"] == "F32"
    }


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs, dropout):
        super().__init__()
        self.conv_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.LeakyReLU(),
        )

    def forward(self, x):
        return self.conv_conv(x)


class Down(nn.Module):
    def __init__(self, inputs, outputs, dropout):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), ConvBlock(inputs, outputs, dropout))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv1x1 = nn.Conv2d(inputs, outputs, 1)
        self.conv = ConvBlock(2 * outputs, outputs, 0.0)

    def forward(self, x, skip):
        x = F.interpolate(self.conv1x1(x), scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv(torch.cat([skip, x], dim=1))


class Network(nn.Module):
    """UNet, and the projection head of class separation; wgrad's names."""

    def __init__(self, features, classes, dropout, projection):
        super().__init__()
        rates = [dropout[min(i, len(dropout) - 1)] for i in range(len(features))]
        self.encoder = nn.ModuleDict({"in_conv": ConvBlock(1, features[0], rates[0])})
        for i in range(1, len(features)):
            self.encoder[f"down{i}"] = Down(features[i - 1], features[i], rates[i])
        self.decoder = nn.ModuleDict()
        for i in range(1, len(features)):
            self.decoder[f"up{i}"] = Up(features[-i], features[-i - 1])
        self.decoder["out_conv"] = nn.Conv2d(features[0], classes, 3, padding=1)
        self.levels = len(features)
        self.projection = (
            nn.Sequential(nn.Conv2d(features[0], projection, 1), nn.LeakyReLU(), nn.Conv2d(projection, projection, 1))
            if projection
            else None
        )

    def forward(self, x):
        skips = [self.encoder["in_conv"](x)]
        for i in range(1, self.levels):
            skips.append(self.encoder[f"down{i}"](skips[-1]))
        x = skips.pop()
        for i in range(1, self.levels):
            x = self.decoder[f"up{i}"](x, skips.pop())
        z = self.projection(x) if self.projection is not None else x
        return self.decoder["out_conv"](x), z


class Step(nn.Module):
    """Losses of one step, and the prototypes' update; everything but the optimizer."""

    def __init__(self, config, labels):
        super().__init__()
        self.config = config
        self.labeled = config["labeledBatch"]
        self.separates = config["method"] == "lccs"
        width = config["projectionWidth"] if config["projection"] else config["features"][0]
        self.register_buffer("labels", labels.long())
        self.register_buffer("vectors", torch.zeros(config["classes"], width))
        self.register_buffer("counts", torch.zeros(config["classes"]))

    def supervised(self, log_p, p):
        """1/2 (cross-entropy + soft Dice) on the labelled items."""
        target = self.labels[: self.labeled]
        one_hot = F.one_hot(target, self.config["classes"]).permute(0, 3, 1, 2).to(p.dtype)
        ce = F.nll_loss(log_p[: self.labeled], target)
        of_class = (0, 2, 3)
        p = p[: self.labeled]
        overlap = 2 * (p * one_hot).sum(of_class) + 1e-5
        dice = 1 - (overlap / ((p * p).sum(of_class) + one_hot.sum(of_class) + 1e-5)).mean()
        return (ce + dice) / 2

    def update_prototypes(self, q, z, numbers):
        """mu <- m mu + (1 - m) mean of reliable teacher features, for the classes that occur; returns pixels' classes."""
        confidence, own = q.max(1)
        classes, labeled = self.config["classes"], self.labeled
        weight = confidence.clone()
        weight[:labeled] *= own[:labeled] == self.labels[:labeled]
        weight[labeled:] *= (confidence[labeled:] >= numbers["threshold"]) * numbers["unlabeledWeight"]
        weighted = F.one_hot(own, classes).to(z.dtype).mul(weight.unsqueeze(-1)).flatten(0, 2)
        sums = weighted.T @ z.permute(0, 2, 3, 1).flatten(0, 2)
        weights = weighted.sum(0)
        present = (weights > 0).to(z.dtype)
        momentum = torch.clamp(1 - 1 / (self.counts + 1), max=self.config["prototypeMomentum"])
        kept = 1 - present * (1 - momentum)
        self.vectors.copy_(self.vectors * kept[:, None] + sums * ((1 - kept) / weights.clamp_min(1e-30))[:, None])
        self.counts += present
        own[:labeled] = self.labels[:labeled]
        return own

    def separation(self, z, classes_of, low):
        """Mean over present classes of the mean of 1 - cos(z, prototype) over kept pixels."""
        seen = (self.counts > 0).to(z.dtype)
        units = F.normalize(self.vectors, dim=1, eps=1e-8) * seen[:, None]
        z = z.permute(0, 2, 3, 1).flatten(0, 2)
        cosines = (z @ units.T) / z.norm(dim=1, keepdim=True).clamp_min(1e-8)
        one_hot = F.one_hot(classes_of.flatten(), self.config["classes"]).to(z.dtype)
        counted = one_hot * low.flatten()[:, None]
        numbers = counted.sum(0) * seen
        share = counted @ (seen / (numbers.clamp_min(1) * (numbers > 0).sum().clamp_min(1)))
        return ((1 - (cosines * one_hot).sum(1)) * share).sum()

    def forward(self, student, teacher, images, noisy, numbers):
        labeled = self.labeled
        with torch.no_grad():
            teachers = torch.cat([images[:labeled], noisy]) if self.separates else noisy
            q_logits, q_features = teacher(teachers)
            q = q_logits.float().softmax(1)
        logits, z = student(images)
        log_p = logits.float().log_softmax(1)
        p = log_p.exp()
        loss = self.supervised(log_p, p)
        unlabeled_q = q[labeled:] if self.separates else q
        low = (p.detach().amax(1) < numbers["threshold"]).to(p.dtype)
        mask = low[labeled:] if self.separates else torch.ones_like(low[labeled:])
        apart = (p[labeled:] - unlabeled_q).square().sum(1)
        unsupervised = (apart * mask).sum() / (mask.sum().clamp_min(1) * self.config["classes"])
        if self.separates:
            with torch.no_grad():
                classes_of = self.update_prototypes(q, q_features.float(), numbers)
            unsupervised = unsupervised + self.config["separationWeight"] * self.separation(z.float(), classes_of, low)
        return loss + numbers["consistencyWeight"] * unsupervised


class Trainer:
    def __init__(self, folder, device, mode, dropout=None, noise=0.0):
        work = json.loads((folder / "work.json").read_text())
        self.config = config = work["config"]
        self.noise = noise
        kind = mode.removeprefix("compile-")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind != "f32"
        torch.backends.cudnn.benchmark = True
        self.amp = kind == "amp"
        self.format = torch.channels_last if self.amp else torch.contiguous_format
        size, batch = config["size"], config["batch"]
        images = torch.frombuffer(bytearray((folder / "images.f32").read_bytes()), dtype=torch.float32)
        labels = torch.frombuffer(bytearray((folder / "labels.u8").read_bytes()), dtype=torch.uint8)
        self.images = images.reshape(batch, 1, size, size).to(device).to(memory_format=self.format)
        projection = config["projectionWidth"] if config["method"] == "lccs" and config["projection"] else 0
        network = Network(config["features"], config["classes"], dropout or config["dropout"], projection)
        missing, unknown = network.load_state_dict(read_safetensors(folder / "initial.safetensors"), strict=False)
        missing = [name for name in missing if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
        if missing or unknown:
            sys.exit(f"weights do not fit: missing {missing}, unknown {unknown}")
        self.student = network.to(device).to(memory_format=self.format).train()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.step = Step(config, labels.reshape(batch, size, size)).to(device)
        fused = device.type == "cuda"
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=0.1, momentum=config["momentum"], weight_decay=config["weightDecay"], fused=fused
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp)
        self.losses = torch.compile(self.step) if mode.startswith("compile-") else self.step
        self.device = device
        self.pairs = list(self.teacher.parameters()), list(self.student.parameters())

    def run(self, numbers):
        noisy = self.images[self.step.labeled :]
        if self.noise:
            noisy = noisy + torch.clamp(torch.randn_like(noisy) * self.noise, -0.2, 0.2)
        with torch.autocast(self.device.type, torch.float16, enabled=self.amp):
            loss = self.losses(self.student, self.teacher, self.images, noisy, numbers)
        for group in self.optimizer.param_groups:
            group["lr"] = numbers["lr"]
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            torch._foreach_lerp_(self.pairs[0], self.pairs[1], 1 - numbers["emaDecay"])
        return loss.detach()

    def state(self):
        tensors = {f"{role}.{name}": t for role in ("student", "teacher") for name, t in getattr(self, role).named_parameters()}
        return tensors | {"prototypes.vectors": self.step.vectors}


def difference(folder, trainer, numbers, losses):
    """After the checked steps: largest relative difference of a loss, and of a tensor's change, with its name."""
    initial = read_safetensors(folder / "initial.safetensors")
    expected = read_safetensors(folder / "expected.safetensors")
    got = [trainer.run(each).item() for each in numbers]
    of_losses = max(abs(a - b) / abs(a) for a, b in zip(losses, got))
    worst = (0.0, "")
    state = trainer.state()
    for name, value in expected.items():
        before = initial.get(name.split(".", 1)[1], torch.zeros_like(value))
        apart = (state[name].detach().cpu().float() - value).abs().max()
        # Half a unit in the last place, of each of the roundings of three steps in two engines.
        if apart > 18 * 2**-24 * value.abs().max():
            worst = max(worst, ((apart / (value - before).abs().max().clamp_min(1e-30)).item(), name))
    return {"losses": of_losses, "changes": worst[0], "worst": worst[1], "lossesHere": got, "lossesWgrad": losses}


def timed(trainer, numbers, steps, device):
    """Median milliseconds of a step; each ends with a wait for the device."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    begin = time.perf_counter()
    trainer.run(numbers)
    wait()
    first = time.perf_counter() - begin
    for _ in range(4):
        trainer.run(numbers)
    wait()
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        trainer.run(numbers)
        wait()
        times.append(1000 * (time.perf_counter() - begin))
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.run(numbers)
    wait()
    queued = 1000 * (time.perf_counter() - begin) / steps
    return {"medianMs": sorted(times)[len(times) // 2], "queuedMs": queued, "firstMs": 1000 * first}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--modes", default="f32,tf32,amp,compile-f32,compile-tf32,compile-amp")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--dropout", help="rates for the timing, for instance 0.05,0.1,0.2,0.3,0.5")
    parser.add_argument("--noise", type=float, default=0.0, help="deviation of the noise for the timing")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = json.loads((options.folder / "work.json").read_text())
    dropout = [float(x) for x in options.dropout.split(",")] if options.dropout else None

    checked = difference(options.folder, Trainer(options.folder, device, "f32"), work["numbers"], work["losses"])
    agrees = checked["losses"] <= 1e-5 and checked["changes"] <= 1e-3
    results = []
    if agrees:
        for mode in options.modes.split(","):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            try:
                trainer = Trainer(options.folder, device, mode, dropout, options.noise)
                result = {"mode": mode, **timed(trainer, work["numbers"][0], options.steps, device)}
                if device.type == "cuda":
                    result["peakBytes"] = torch.cuda.max_memory_allocated()
            except Exception as error:  # a mode that this build of PyTorch lacks, for instance no compiler for torch.compile
                result = {"mode": mode, "error": f"{type(error).__name__}: {str(error)[:300]}"}
            print(result, file=sys.stderr, flush=True)
            results.append(result)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(json.dumps({"device": name, "torch": torch.__version__, "check": checked, "agrees": agrees, "results": results}, indent=2))
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
