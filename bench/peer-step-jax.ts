// The mean-teacher step in jax-js: one jitted function, from weights to weights. It has no pooling with a gradient, no resize and
// no batch norm, so they are composed of what its compiler fuses into single kernels: max pool is the maximum over two axes
// of windows; bilinear upsampling weighs each pixel and its two neighbours by broadcasting; sums over pixels go row by row first,
// for it gives each result one thread. Left out, to its favour: running statistics and the numbers for the log, which wgrad
// computes. Inside of a traced function references only guard against use after free, so everything is used by `.ref`.

import type * as Jax from '@jax-js/jax';
import { sizeOf } from '../engine/custom.js';
import { jaxArray, type Values } from './jax-array.js';
import { transposed } from './peer.js';
import { middleOf, type StepContender, type StepNumbers, type StepWork, type Weights } from './step-work.js';

type Named = Record<string, Values>;

/** Everything that outlives a step. */
interface State {
  student: Named;
  teacher: Named;
  velocity: Named;
  vectors: Values; // [K, D]
  counts: Values; // [K]
}

/** Inputs that no step changes. */
interface Inputs {
  images: Values; // [B, 1, H, W]
  label: Values; // one-hot [labelled, K, H, W]
  /** By the size of an axis: weights [size, 2] of a pixel and of those before and behind it, for its two output pixels. */
  taps: Record<string, Values[]>;
}

type Numbers = { readonly [K in keyof StepNumbers]: Values };

const jaxShape = ({ shape }: Weights): readonly number[] =>
  shape.length === 4 ? [shape[0]!, shape[3]!, shape[1]!, shape[2]!] : shape;
const jaxValues = ({ shape, values }: Weights): Float32Array =>
  shape.length === 4 ? transposed(values, shape, [0, 3, 1, 2]) : values;

/** Output pixel 2k reads at k − k/(2n − 1), pixel 2k + 1 at k + (n − 1 − k)/(2n − 1): aligned corners. */
function tapsOf(n: number): Float32Array[] {
  const before = new Float32Array(2 * n);
  const behind = new Float32Array(2 * n);
  for (let k = 0; k < n; k++) {
    before[2 * k] = k / (2 * n - 1);
    behind[2 * k + 1] = (n - 1 - k) / (2 * n - 1);
  }
  return [before.map((v, i) => 1 - v - behind[i]!), before, behind];
}

/** The network: logits and last features from named weights. */
function network({ lax, numpy: np }: typeof Jax, levels: number, taps: Record<string, Values[]>) {
  const perChannel = (v: Values): Values => v.ref.reshape([1, v.shape[0]!, 1, 1]);
  const conv = (w: Named, x: Values, name: string): Values =>
    lax.convGeneralDilated(x.ref, w[`${name}.weight`]!.ref, [1, 1], 'SAME').add(perChannel(w[`${name}.bias`]!));
  const leaky = (x: Values): Values => np.maximum(x.ref, x.ref.mul(0.01));
  const overPixels = (x: Values): Values => x.ref.sum(3).sum(2).sum(0); // [N, C, H, W] → [C]
  const norm = (w: Named, x: Values, name: string): Values => {
    const n = x.size / x.shape[1]!;
    const centred = x.ref.sub(perChannel(overPixels(x).div(n)));
    const variance = overPixels(np.square(centred.ref)).div(n);
    const scale = w[`${name}.weight`]!.ref.div(np.sqrt(variance.add(1e-5)));
    return leaky(centred.mul(perChannel(scale)).add(perChannel(w[`${name}.bias`]!)));
  };
  const block = (w: Named, x: Values, name: string): Values => {
    const y = norm(w, conv(w, x, `${name}.conv_conv.0`), `${name}.conv_conv.1`);
    return norm(w, conv(w, y, `${name}.conv_conv.4`), `${name}.conv_conv.5`);
  };
  const maxPool = (x: Values): Values => {
    const [n, c, h, width] = x.shape as [number, number, number, number];
    return np.max(x.ref.reshape([n, c, h / 2, 2, width / 2, 2]), [3, 5]);
  };
  const doubled = (x: Values, axis: 2 | 3): Values => {
    const size = x.shape[axis]!;
    const around = x.shape.map((_, i) => (i === axis ? [1, 1] : [0, 0])) as [number, number][];
    const padded = np.pad(x.ref, around);
    const shifted = (by: number): Values => {
      const range: [number, number] = [1 + by, 1 + by + size];
      const part = axis === 2 ? padded.ref.slice([], [], range) : padded.ref.slice([], [], [], range);
      return part.reshape([...part.shape.slice(0, axis + 1), 1, ...part.shape.slice(axis + 1)]);
    };
    const [here, before, behind] = taps[String(size)]!.map((t) => t.ref.reshape(axis === 2 ? [size, 2, 1] : [size, 2]));
    const y = shifted(0).mul(here!).add(shifted(-1).mul(before!)).add(shifted(1).mul(behind!));
    return y.reshape(x.shape.map((n, i) => (i === axis ? 2 * n : n)));
  };
  const unet = (w: Named, x: Values): { logits: Values; features: Values } => {
    const skips = [block(w, x, 'encoder.in_conv')];
    for (let level = 1; level < levels; level++) {
      skips.push(block(w, maxPool(skips.at(-1)!), `encoder.down${level}.maxpool_conv.1`));
    }
    let y = skips.pop()!;
    for (let i = 1; skips.length; i++) {
      const up = doubled(doubled(conv(w, y, `decoder.up${i}.conv1x1`), 2), 3);
      y = block(w, np.concatenate([skips.pop()!.ref, up], 1), `decoder.up${i}.conv`);
    }
    return { logits: conv(w, y, 'decoder.out_conv'), features: y };
  };
  const project = (w: Named, x: Values): Values => conv(w, leaky(conv(w, x, 'projection.0')), 'projection.2');
  return { unet, project, overPixels };
}

/** The jitted step: the new state and the loss. */
function stepFunction(jax: typeof Jax, { config }: StepWork) {
  const { numpy: np, nn, lax } = jax;
  const { classes, patch, batch, labeledBatch, momentum, weightDecay } = config;
  const separates = config.method === 'lccs';
  const labeledPixels = labeledBatch * sizeOf(patch);
  const where = (condition: Values): Values => condition.astype(np.float32);
  const labeledOf = (x: Values): Values => x.ref.slice([0, labeledBatch]);
  const unlabeledOf = (x: Values): Values => x.ref.slice([labeledBatch, batch]);
  const column = (v: Values): Values => v.ref.reshape([classes, 1]);
  const mapped = (f: (name: string) => Values, names: readonly string[]): Named =>
    Object.fromEntries(names.map((name) => [name, f(name)]));

  return jax.jit(((state: State, inputs: Inputs, numbers: Numbers) => {
    const { student, teacher, velocity } = state;
    const { images, label, taps } = inputs;
    const { lr, consistencyWeight, threshold, emaDecay, unlabeledWeight } = numbers;
    const { unet, project, overPixels } = network(jax, config.features.length, taps);

    const q = unet(teacher, separates ? images : unlabeledOf(images));
    const target = nn.softmax(q.logits.ref, 1);
    const targetUnlabeled = separates ? unlabeledOf(target) : target;

    let { vectors, counts } = state;
    let separation: { classOf: Values; units: Values; seen: Values } | undefined;
    if (separates) {
      // μ ← m μ + (1 − m) mean of the reliable features of a class; only where there are some.
      const own = where(q.logits.ref.equal(np.max(q.logits.ref, 1, { keepdims: true })));
      const c = np.max(target.ref, 1, { keepdims: true });
      const right = labeledOf(own).mul(label.ref).sum(1, { keepdims: true });
      const sure = where(unlabeledOf(c).greaterEqual(threshold.ref)).mul(unlabeledWeight.ref);
      const weighted = own.ref.mul(c.mul(np.concatenate([right, sure], 0)));
      const z = project(teacher, q.features);
      const rowByRow = { lhsBatchDims: [0, 2], rhsBatchDims: [0, 2], lhsContractingDims: [3], rhsContractingDims: [3] };
      const sums = lax.dot(weighted.ref, z, rowByRow).sum(1).sum(0); // [B, H, K, D] → [K, D]
      const weights = overPixels(weighted);
      const present = where(weights.ref.greater(0));
      const m = np.minimum(np.reciprocal(counts.ref.add(1)).mul(-1).add(1), config.prototypeMomentum);
      const moved = present.ref.mul(m.mul(-1).add(1)); // 1 − m where updated, 0 elsewhere
      const share = moved.ref.div(np.maximum(weights.ref, 1e-30));
      vectors = vectors.ref.mul(column(moved.mul(-1).add(1))).add(sums.mul(column(share)));
      counts = counts.ref.add(present.ref);
      const seen = where(counts.ref.greater(0));
      const length = np.maximum(np.sqrt(np.square(vectors.ref).sum(1)), 1e-8);
      const classOf = np.concatenate([label.ref, unlabeledOf(own)], 0);
      separation = { classOf, units: vectors.ref.mul(column(seen.ref.div(length))), seen };
    }

    const loss = (w: Named): Values => {
      const { logits, features } = unet(w, images);
      const logP = nn.logSoftmax(logits.ref, 1);
      const p = np.exp(logP.ref);
      // ½ (cross-entropy + soft Dice)
      const ce = labeledOf(logP).mul(label.ref).sum(3).sum().div(-labeledPixels);
      const labeled = labeledOf(p);
      const overlap = overPixels(labeled.ref.mul(label.ref)).mul(2).add(1e-5);
      const area = overPixels(np.square(labeled.ref)).add(overPixels(label)).add(1e-5);
      const dice = overlap.div(area).sum().div(-classes).add(1);
      // λ (consistency on kept pixels + β separation)
      const low = where(np.max(lax.stopGradient(p.ref), 1, { keepdims: true }).less(threshold.ref));
      const kept = separates ? unlabeledOf(low) : np.onesLike(unlabeledOf(low));
      const number = np.maximum(kept.ref.sum(3).sum(), 1).mul(classes);
      const apart = np.square(unlabeledOf(p).sub(targetUnlabeled.ref)).mul(kept.ref);
      let unsupervised = apart.sum(3).sum().div(number);
      if (separation) {
        const { classOf, units, seen } = separation;
        const z = project(w, features); // [B, D, H, W]
        const length = np.maximum(np.sqrt(np.square(z.ref).sum(1)), 1e-8);
        const ofClass = lax.dot(classOf.ref, units.ref, { lhsContractingDims: [1], rhsContractingDims: [0] }); // [B, H, W, D]
        const own = z.ref
          .mul(ofClass.transpose([0, 3, 1, 2]))
          .sum(1)
          .div(length);
        const counted = classOf.ref.mul(low.ref);
        const perClass = overPixels(counted).mul(seen.ref);
        const classesThere = np.maximum(where(perClass.ref.greater(0)).sum(), 1);
        const each = seen.ref.div(np.maximum(perClass, 1).mul(classesThere));
        const share = counted.ref.mul(each.reshape([1, classes, 1, 1])).sum(1);
        const pull = own.mul(-1).add(1).mul(share).sum(2).sum();
        unsupervised = unsupervised.add(pull.mul(config.separationWeight));
      }
      return ce.add(dice).mul(0.5).add(unsupervised.mul(consistencyWeight.ref));
    };
    const inside = jax.tree.ref(student as never) as Named;
    const [value, gradients] = (jax.valueAndGrad(loss as never) as (w: Named) => unknown)(inside) as unknown as [
      Values,
      Named,
    ];

    const names = Object.keys(student);
    const nextVelocity = mapped((name) => {
      const gradient = gradients[name]!.ref.add(student[name]!.ref.mul(weightDecay));
      return velocity[name]!.ref.mul(momentum).add(gradient);
    }, names);
    const nextStudent = mapped((name) => student[name]!.ref.sub(nextVelocity[name]!.ref.mul(lr.ref)), names);
    const nextTeacher = mapped(
      (name) => teacher[name]!.ref.mul(emaDecay.ref).add(nextStudent[name]!.ref.mul(emaDecay.ref.mul(-1).add(1))),
      names,
    );
    const next = { student: nextStudent, teacher: nextTeacher, velocity: nextVelocity, vectors, counts };
    return { state: next, loss: value };
  }) as never) as unknown as (state: State, inputs: Inputs, numbers: Numbers) => { state: State; loss: Values };
}

/** The step in jax-js. */
export function jaxStep(jax: typeof Jax, work: StepWork): StepContender {
  const { config } = work;
  const { patch, classes, batch, labeledBatch } = config;
  const perImage = sizeOf(patch);
  const named = (make: (w: Weights) => Values): Named =>
    Object.fromEntries([...work.initial].map(([name, w]) => [name, make(w)]));
  const initial = (w: Weights): Values => jaxArray(jax, jaxValues(w), jaxShape(w));
  const zeros = (shape: readonly number[]): Values =>
    jaxArray(jax, new Float32Array(shape.reduce((a, b) => a * b, 1)), shape);

  const oneHot = new Float32Array(labeledBatch * classes * perImage);
  for (let i = 0; i < labeledBatch * perImage; i++) {
    oneHot[(Math.floor(i / perImage) * classes + work.labels[i]!) * perImage + (i % perImage)] = 1;
  }
  const inputs: Inputs = {
    images: jaxArray(jax, work.images, [batch, 1, ...patch]),
    label: jaxArray(jax, oneHot, [labeledBatch, classes, ...patch]),
    taps: Object.fromEntries(
      config.features.slice(1).map((_, level) => {
        const n = patch[0]! / 2 ** (level + 1);
        return [String(n), tapsOf(n).map((t) => jaxArray(jax, t, [n, 2]))];
      }),
    ),
  };
  let state: State = {
    student: named(initial),
    teacher: named(initial),
    velocity: named((w) => zeros(jaxShape(w))),
    vectors: zeros([classes, config.projectionWidth]),
    counts: zeros([classes]),
  };
  let lastLoss = zeros([]);

  const onDevice = (numbers: StepNumbers): Numbers =>
    Object.fromEntries(
      Object.entries(numbers).map(([name, value]) => [name, jaxArray(jax, Float32Array.of(value as number), [])]),
    ) as unknown as Numbers;
  let numbers = onDevice(work.numbers(middleOf(config)));
  const step = stepFunction(jax, work);
  const run = (): void => {
    const result = step(state, jax.tree.ref(inputs as never) as Inputs, jax.tree.ref(numbers as never) as Numbers);
    state = result.state;
    lastLoss.dispose();
    lastLoss = result.loss;
  };
  const loss = async (): Promise<number> => ((await lastLoss.ref.data()) as Float32Array)[0]!;
  return {
    name: 'jax-js',
    queue: run,
    done: async () => {
      await jax.blockUntilReady([state, lastLoss] as never);
    },
    loss,
    advance(iteration) {
      jax.tree.dispose(numbers as never);
      numbers = onDevice(work.numbers(iteration));
      run();
      return loss();
    },
    async state() {
      const values = new Map<string, Float32Array>();
      for (const role of ['student', 'teacher'] as const) {
        for (const [name, w] of work.initial) {
          const own = (await state[role][name]!.ref.data()) as Float32Array;
          values.set(`${role}.${name}`, w.shape.length === 4 ? transposed(own, jaxShape(w), [0, 2, 3, 1]) : own);
        }
      }
      if (config.method === 'lccs') values.set('prototypes.vectors', (await state.vectors.ref.data()) as Float32Array);
      return values;
    },
    release: () => jax.tree.dispose([state, inputs, numbers, lastLoss] as never),
  };
}
