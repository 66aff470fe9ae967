#!/usr/bin/env python3
"""The mean-teacher training step of wgrad in PyTorch: timed in every mode that counts, and held against wgrad's result.

    node dist/train/cli.js bench peers --work step --export DIR [--size 256 --features 16,32,64,128,256 --batch 24]
    python3 bench/pytorch/step.py DIR [--modes f32,tf32,amp,compile-f32,compile-tf32,compile-amp] [--steps 50]

DIR holds settings, batch, initial weights, and wgrad's losses and weights after three steps. The judge is the same three steps in
float64: wgrad agrees when it is nowhere more than three times as far from them as PyTorch in f32 (see `judge`). All modes are timed
whatever the judge says; the script ends with 1 if wgrad disagrees. Dropout and noise are 0 for the check; --dropout and --noise turn
them on for the timing, as in training. Modes graph-f32, graph-tf32 and graph-amp replay the step as a CUDA graph.
Prints one JSON document on stdout (after SIGTERM, too, with what was done by then), progress on stderr. Needs PyTorch 1.13 or newer
and nothing else; older versions lack some modes, which then say so.
"""
import argparse
import contextlib
import copy
import inspect
import json
import math
import signal
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

    def __init__(self, config, labels, dtype):
        super().__init__()
        self.config = config
        self.dtype = dtype  # of losses; under autocast the network's own is f16
        self.labeled = config["labeledBatch"]
        self.separates = config["method"] == "lccs"
        width = config["projectionWidth"] if config["projection"] else config["features"][0]
        self.register_buffer("labels", labels.long())
        self.register_buffer("vectors", torch.zeros(config["classes"], width, dtype=dtype))
        self.register_buffer("counts", torch.zeros(config["classes"], dtype=dtype))

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
            q = q_logits.to(self.dtype).softmax(1)
        logits, z = student(images)
        log_p = logits.to(self.dtype).log_softmax(1)
        p = log_p.exp()
        loss = self.supervised(log_p, p)
        unlabeled_q = q[labeled:] if self.separates else q
        low = (p.detach().amax(1) < numbers["threshold"]).to(p.dtype)
        mask = low[labeled:] if self.separates else torch.ones_like(low[labeled:])
        apart = (p[labeled:] - unlabeled_q).square().sum(1)
        unsupervised = (apart * mask).sum() / (mask.sum().clamp_min(1) * self.config["classes"])
        if self.separates:
            with torch.no_grad():
                classes_of = self.update_prototypes(q, q_features.to(self.dtype), numbers)
            unsupervised = unsupervised + self.config["separationWeight"] * self.separation(z.to(self.dtype), classes_of, low)
        return loss + numbers["consistencyWeight"] * unsupervised


class Trainer:
    """Student, teacher and optimizer of one mode: f64, f32, tf32 or amp, after `compile-` or `graph-`."""

    def __init__(self, folder, device, mode, dropout=None, noise=0.0):
        work = json.loads((folder / "work.json").read_text())
        self.config = config = work["config"]
        self.noise = noise
        kind = mode.split("-")[-1]
        if kind not in ("f64", "f32", "tf32", "amp"):
            raise ValueError(f"unknown mode '{mode}'")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind in ("tf32", "amp")
        torch.backends.cudnn.benchmark = kind != "f64"
        self.amp = kind == "amp"
        dtype = torch.float64 if kind == "f64" else torch.float32
        place = {"device": device, "dtype": dtype, "memory_format": torch.channels_last if self.amp else torch.contiguous_format}
        (height, width), batch = config["patch"], config["batch"]
        images = torch.frombuffer(bytearray((folder / "images.f32").read_bytes()), dtype=torch.float32)
        labels = torch.frombuffer(bytearray((folder / "labels.u8").read_bytes()), dtype=torch.uint8)
        self.images = images.reshape(batch, 1, height, width).to(**place)
        projection = config["projectionWidth"] if config["method"] == "lccs" and config["projection"] else 0
        network = Network(config["features"], config["classes"], dropout or config["dropout"], projection)
        missing, unknown = network.load_state_dict(read_safetensors(folder / "initial.safetensors"), strict=False)
        missing = [name for name in missing if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
        if missing or unknown:
            sys.exit(f"weights do not fit: missing {missing}, unknown {unknown}")
        self.student = network.to(**place).train()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.step = Step(config, labels.reshape(batch, height, width), dtype).to(device)
        known = inspect.signature(torch.optim.SGD).parameters
        fast = next((name for name in ("fused", "foreach") if name in known and device.type == "cuda"), None)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=0.1,
            momentum=config["momentum"],
            weight_decay=config["weightDecay"],
            **({fast: True} if fast else {}),
        )
        self.scaler = None
        if self.amp:
            of_any_device = hasattr(torch.amp, "GradScaler")
            self.scaler = torch.amp.GradScaler(device.type) if of_any_device else torch.cuda.amp.GradScaler()
        self.losses = torch.compile(self.step) if mode.startswith("compile-") else self.step
        self.device = device
        self.pairs = list(self.teacher.parameters()), list(self.student.parameters())

    def run(self, numbers):
        noisy = self.images[self.step.labeled :]
        if self.noise:
            noisy = noisy + torch.clamp(torch.randn_like(noisy) * self.noise, -0.2, 0.2)
        with torch.autocast(self.device.type, torch.float16) if self.amp else contextlib.nullcontext():
            loss = self.losses(self.student, self.teacher, self.images, noisy, numbers)
        for group in self.optimizer.param_groups:
            group["lr"] = numbers["lr"]
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            self.optimizer.step()
        with torch.no_grad():
            teacher, student = self.pairs
            if hasattr(torch, "_foreach_lerp_"):
                torch._foreach_lerp_(teacher, student, 1 - numbers["emaDecay"])
            else:
                torch._foreach_mul_(teacher, numbers["emaDecay"])
                torch._foreach_add_(teacher, student, alpha=1 - numbers["emaDecay"])
        return loss.detach()

    def state(self):
        tensors = {f"{role}.{name}": t for role in ("student", "teacher") for name, t in getattr(self, role).named_parameters()}
        tensors["prototypes.vectors"] = self.step.vectors
        return {name: t.detach().cpu().double() for name, t in tensors.items()}


def three_steps(folder, device, mode, numbers, nudge=0):
    """Losses and state after the checked steps; `nudge` is the seed of changes of the images by up to four units in the last place."""
    trainer = Trainer(folder, device, mode)
    if nudge:
        random = torch.Generator().manual_seed(nudge)
        apart = (2 * torch.rand(trainer.images.shape, generator=random) - 1) * 2**-22
        trainer.images = trainer.images * (1 + apart.to(device))
    losses = [trainer.run(each).item() for each in numbers]
    return losses, trainer.state()


def group_of(name, value):
    """Tensors that are judged together: weights, biases and norms of the student and of the teacher, and the prototypes."""
    role = name.split(".")[0]
    kind = "weights" if value.dim() > 1 else "norms" if name.split(".")[-2] in ("1", "5") else "biases"
    return role if role == "prototypes" else f"{role}, {kind}"


def judge(folder, device, work):
    """How far wgrad and PyTorch in f32 are from float64 after the same steps, by group of tensors.

    A pixel that is nearly the largest of its pool, or an activation that is nearly 0, goes one way or the other with the last place
    of what comes before, and moves a gradient by far more than a rounding. So PyTorch runs five times, four of them with images
    changed in their last places; its farthest run counts. f32 leaves open, for each tensor, the largest of: that distance; the
    tensor's own change times the largest such relative distance in its group; three roundings of its values. wgrad agrees if no
    tensor and no loss is farther off than three times what f32 leaves open.
    """
    initial = read_safetensors(folder / "initial.safetensors")
    expected = read_safetensors(folder / "expected.safetensors")
    exact_losses, exact = three_steps(folder, device, "f64", work["numbers"])
    runs = [three_steps(folder, device, "f32", work["numbers"], nudge) for nudge in range(5)]

    def relative(losses):
        return max(abs(a - b) / abs(b) for a, b in zip(losses, exact_losses))

    ours, theirs = relative(work["losses"]), max(relative(losses) for losses, _ in runs)
    found = [{"group": "losses", "wgrad": ours, "pytorch": theirs, "ratio": ours / max(theirs, 2**-23), "worst": ""}]
    groups = {}
    for name, value in exact.items():
        before = initial.get(name.split(".", 1)[1], torch.zeros_like(value)).double()
        groups.setdefault(group_of(name, value), []).append(
            {
                "name": name,
                "change": max((value - before).abs().max().item(), 1e-30),
                "rounding": 3 * 2**-24 * value.abs().max().item(),
                "wgrad": (expected[name].double() - value).abs().max().item() if name in expected else math.inf,
                "pytorch": max((state[name] - value).abs().max().item() for _, state in runs),
            }
        )
    for group, tensors in groups.items():
        # Of what a weight's own rounding explains, nothing is said of the sums.
        share = max((t["pytorch"] / t["change"] for t in tensors if t["pytorch"] > t["rounding"]), default=0.0)
        for t in tensors:
            left_open = max(t["pytorch"], min(share, 1) * t["change"], t["rounding"])
            t["ratio"] = t["wgrad"] / left_open if t["wgrad"] == t["wgrad"] else math.inf
        worst = max(tensors, key=lambda t: t["ratio"])
        mean = {
            who: math.exp(sum(math.log(max(t[who], 1e-30) / t["change"]) for t in tensors) / len(tensors))
            for who in ("wgrad", "pytorch")
        }
        found.append({"group": group, **mean, "ratio": worst["ratio"], "worst": worst["name"]})
    return {"agrees": all(each["ratio"] <= 3 for each in found), "groups": found}


def timed(trainer, numbers, steps, device, graph):
    """Median milliseconds of a step; each ends with a wait for the device."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    begin = time.perf_counter()
    trainer.run(numbers)
    wait()
    first = time.perf_counter() - begin
    step = recorded(trainer, numbers) if graph else lambda: trainer.run(numbers)
    for _ in range(4):
        step()
    wait()
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        wait()
        times.append(1000 * (time.perf_counter() - begin))
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    queued = 1000 * (time.perf_counter() - begin) / steps
    return {"medianMs": sorted(times)[len(times) // 2], "queuedMs": queued, "firstMs": 1000 * first}


def recorded(trainer, numbers):
    """The step as a CUDA graph; returns what replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            trainer.run(numbers)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    trainer.optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        trainer.run(numbers)
    return graph.replay


def note(text):
    print(text, file=sys.stderr, flush=True)


def measure(options, device, work, mode):
    dropout = [float(x) for x in options.dropout.split(",")] if options.dropout else None
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer = Trainer(options.folder, device, mode, dropout, options.noise)
        result = {"mode": mode, **timed(trainer, work["numbers"][0], options.steps, device, mode.startswith("graph-"))}
        if cuda:
            result["peakBytes"] = torch.cuda.max_memory_allocated()
    except Exception as error:  # a mode that this build of PyTorch lacks, for instance no compiler for torch.compile
        result = {"mode": mode, "error": f"{type(error).__name__}: {str(error)[:300]}"}
    note(json.dumps(result))
    return result


def checked(options, device, work):
    try:
        found = judge(options.folder, device, work)
    except Exception as error:
        found = {"agrees": False, "error": f"{type(error).__name__}: {str(error)[:300]}", "groups": []}
        note(f"check: {found['error']}")
    note("from float64, relative to the change (geometric mean): wgrad, PyTorch f32, and what f32 leaves open times")
    for each in found["groups"]:
        note(f"{each['group']:18} {each['wgrad']:.1e} {each['pytorch']:.1e} {each['ratio']:6.2f} {each['worst']}")
    note("wgrad agrees" if found["agrees"] else "wgrad DISAGREES")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--modes", default="f32,tf32,amp,compile-f32,compile-tf32,compile-amp")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--dropout", help="rates for the timing, for instance 0.05,0.1,0.2,0.3,0.5")
    parser.add_argument("--noise", type=float, default=0.0, help="deviation of the noise for the timing")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(124))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = json.loads((options.folder / "work.json").read_text())
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    report = {"device": name, "torch": torch.__version__, "check": None, "results": []}
    modes = options.modes.split(",")
    try:
        # What compiles takes minutes: it comes last.
        for mode in (mode for mode in modes if not mode.startswith("compile-")):
            report["results"].append(measure(options, device, work, mode))
        report["check"] = checked(options, device, work)
        for mode in (mode for mode in modes if mode.startswith("compile-")):
            report["results"].append(measure(options, device, work, mode))
    finally:
        print(json.dumps(report, indent=2), flush=True)
    sys.exit(0 if report["check"]["agrees"] else 1)


if __name__ == "__main__":
    main()
