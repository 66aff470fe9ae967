// The mean-teacher step in tfjs, as fast as its ops allow. Convolutions are fused with their bias; batch norm has its closed-form
// gradient (tfjs' own composes it of about three times as many passes); parameters, momentum and teacher are one flat tensor
// each, so that the optimizer takes ten passes and not nine a parameter; what has classes is computed class by class, because
// softmax, max and sum over a last axis of 4 give each pixel a workgroup of its own (3 s a call at 16 384 pixels on
// SwiftShader). Max pool, bilinear resize and concat have gradients of their own. Left out, to its favour: the running
// statistics and the numbers for the log, which wgrad computes.

import type * as Tf from '@tensorflow/tfjs';
import { transposed } from './peer.js';
import { middleOf, type StepContender, type StepNumbers, type StepWork, type Weights } from './step-work.js';

type Named = ReadonlyMap<string, Tf.Tensor>;

/** Position of each parameter in a flat tensor; convolution weights as tfjs has them: [kH, kW, I, O]. */
interface Place {
  readonly name: string;
  readonly shape: readonly number[];
  readonly size: number;
}

const tfjsShape = ({ shape }: Weights): readonly number[] =>
  shape.length === 4 ? [shape[1]!, shape[2]!, shape[3]!, shape[0]!] : shape;
const tfjsValues = ({ shape, values }: Weights): Float32Array =>
  shape.length === 4 ? transposed(values, shape, [1, 2, 3, 0]) : values;

/** The network: logits and last features from named weights. */
function network(tf: typeof Tf, features: readonly number[], constants: Constants) {
  const conv = (w: Named, x: Tf.Tensor4D, name: string): Tf.Tensor4D =>
    tf.fused.conv2d({
      x,
      filter: w.get(`${name}.weight`) as Tf.Tensor4D,
      strides: 1,
      pad: 'same',
      bias: w.get(`${name}.bias`)!,
      activation: 'linear',
    });

  // Sums over pixels are products with ones: tf.sum over leading axes transposes first (on lavapipe 4.7 ms against 0.7).
  const overPixels = (x: Tf.Tensor4D): Tf.Tensor1D => {
    const channels = x.shape[3];
    const n = x.size / channels;
    const flat = tf.reshape(x, [n, channels]) as Tf.Tensor2D;
    return tf.reshape(tf.matMul(constants.filled([1, n], 1) as Tf.Tensor2D, flat), [channels]) as Tf.Tensor1D;
  };
  // (x − mean) · scale + offset by the batch norm kernel: 9 ms where a broadcasting product takes 72 (SwiftShader, 64², 8 channels).
  const affine = (x: Tf.Tensor4D, mean?: Tf.Tensor1D, scale?: Tf.Tensor1D): Tf.Tensor4D => {
    const shape = [x.shape[3]];
    const one = constants.filled(shape, 1) as Tf.Tensor1D;
    return tf.batchNorm4d(x, mean ?? (constants.filled(shape, 0) as Tf.Tensor1D), one, undefined, scale, 0);
  };

  // y = leaky(γ x̂ + β);  g = dy · (y > 0 ? 1 : slope);  dβ = Σ g;  dγ = Σ g x̂;  dx = γ/σ (g − (dβ + x̂ dγ)/n)
  const normActivation = tf.customGrad((...args) => {
    const [x, gamma, beta, save] = args as unknown as [Tf.Tensor4D, Tf.Tensor1D, Tf.Tensor1D, (t: Tf.Tensor[]) => void];
    const n = x.size / x.shape[3];
    const mean = tf.div(overPixels(x), n) as Tf.Tensor1D;
    const variance = tf.div(overPixels(tf.square(affine(x, mean))), n) as Tf.Tensor1D;
    const y = tf.leakyRelu(tf.batchNorm4d(x, mean, variance, beta, gamma, 1e-5), 0.01);
    save([x, mean, variance, gamma, y]);
    const gradFunc = (dy: Tf.Tensor, saved: Tf.Tensor[]): Tf.Tensor[] => {
      const [x, y] = [saved[0] as Tf.Tensor4D, saved[4]!];
      const [mean, variance, gamma] = saved.slice(1, 4) as Tf.Tensor1D[] as [Tf.Tensor1D, Tf.Tensor1D, Tf.Tensor1D];
      const g = tf.mul(dy, tf.step(y, 0.01)) as Tf.Tensor4D;
      const dBeta = overPixels(g);
      const dGamma = overPixels(tf.mul(g, tf.batchNorm4d(x, mean, variance, undefined, undefined, 1e-5)));
      const scale = tf.mul(gamma, tf.rsqrt(tf.add(variance, 1e-5))) as Tf.Tensor1D;
      const share = tf.div(scale, n);
      const [offset, slope] = [tf.mul(dBeta, share), tf.mul(dGamma, share)] as [Tf.Tensor1D, Tf.Tensor1D];
      const common = tf.batchNorm4d(x, mean, variance, offset, slope, 1e-5);
      return [tf.sub(affine(g, undefined, scale), common), dGamma, dBeta];
    };
    return { value: y, gradFunc };
  });
  const norm = (w: Named, x: Tf.Tensor4D, name: string): Tf.Tensor4D =>
    normActivation(x, w.get(`${name}.weight`)!, w.get(`${name}.bias`)!) as Tf.Tensor4D;
  const block = (w: Named, x: Tf.Tensor4D, name: string): Tf.Tensor4D => {
    const y = norm(w, conv(w, x, `${name}.conv_conv.0`), `${name}.conv_conv.1`);
    return norm(w, conv(w, y, `${name}.conv_conv.4`), `${name}.conv_conv.5`);
  };
  const unet = (w: Named, x: Tf.Tensor4D): { logits: Tf.Tensor4D; features: Tf.Tensor4D } => {
    const skips = [block(w, x, 'encoder.in_conv')];
    for (let level = 1; level < features.length; level++) {
      skips.push(block(w, tf.maxPool(skips.at(-1)!, 2, 2, 'valid'), `encoder.down${level}.maxpool_conv.1`));
    }
    let y = skips.pop()!;
    for (let i = 1; skips.length; i++) {
      const reduced = conv(w, y, `decoder.up${i}.conv1x1`);
      const [, height, width] = reduced.shape;
      const up = tf.image.resizeBilinear(reduced, [2 * height, 2 * width], true);
      y = block(w, tf.concat([skips.pop()!, up], 3), `decoder.up${i}.conv`);
    }
    return { logits: conv(w, y, 'decoder.out_conv'), features: y };
  };
  const project = (w: Named, x: Tf.Tensor4D): Tf.Tensor2D => {
    const z = conv(w, tf.leakyRelu(conv(w, x, 'projection.0'), 0.01), 'projection.2');
    return tf.reshape(z, [-1, z.shape[3]]) as Tf.Tensor2D;
  };
  return { unet, project };
}

/** Tensors of one value that are made once. */
interface Constants {
  filled(shape: number[], value: number): Tf.Tensor;
  dispose(): void;
}

function createConstants(tf: typeof Tf): Constants {
  const made = new Map<string, Tf.Tensor>();
  return {
    filled(shape, value) {
      const key = `${value}:${shape}`;
      if (!made.has(key)) made.set(key, tf.keep(tf.fill(shape, value)));
      return made.get(key)!;
    },
    dispose: () => tf.dispose([...made.values()]),
  };
}

/** The step in tfjs; `done` resolves when all that was queued has run. */
export function tfjsStep(tf: typeof Tf, done: () => Promise<undefined>, work: StepWork): StepContender {
  const { config } = work;
  const { patch, classes, batch, labeledBatch, momentum, weightDecay } = config;
  const separates = config.method === 'lccs';
  const [rows, columns] = patch as [number, number];
  const perImage = rows * columns;
  const labeledPixels = labeledBatch * perImage;
  const pixels = batch * perImage;
  const width = config.projectionWidth;

  const places: Place[] = [...work.initial].map(([name, w]) => ({ name, shape: tfjsShape(w), size: w.values.length }));
  const flatInitial = Float32Array.from([...work.initial.values()].flatMap((w) => [...tfjsValues(w)]));
  const sizes = places.map((place) => place.size);
  const named = (parts: readonly Tf.Tensor[]): Named =>
    new Map(places.map(({ name }, i) => [name, parts[i]!] as const));
  const unflatten = (flat: Tf.Tensor): Tf.Tensor[] =>
    tf.split(flat, sizes).map((part, i) => tf.reshape(part, [...places[i]!.shape]));

  // What is one number a pixel is a plane [pixels]; labels are a plane a class, 0 on unlabelled pixels.
  const images = tf.tensor4d(work.images, [batch, rows, columns, 1]);
  const plane = (value: (pixel: number) => boolean): Tf.Tensor =>
    tf.tensor1d(Float32Array.from({ length: pixels }, (_, i) => Number(value(i))));
  const isLabeled = plane((i) => i < labeledPixels);
  const isUnlabeled = plane((i) => i >= labeledPixels);
  const label = Array.from({ length: classes }, (_, k) => plane((i) => i < labeledPixels && work.labels[i] === k));

  // Everything that outlives a step.
  let student = tf.tensor1d(flatInitial) as Tf.Tensor;
  let teacher = tf.tensor1d(flatInitial) as Tf.Tensor;
  let velocity = tf.zeros([flatInitial.length]) as Tf.Tensor;
  let vectors = tf.zeros([classes, width]) as Tf.Tensor;
  let counts = tf.zeros([classes]) as Tf.Tensor;
  let lastLoss = tf.scalar(0) as Tf.Tensor;

  const constants = createConstants(tf);
  const { unet, project } = network(tf, config.features, constants);
  // What a custom gradient computes is not on the tape; comparisons have no gradient and tfjs refuses to pass them by.
  const detached = (compute: () => Tf.Tensor): Tf.Tensor =>
    tf.customGrad(() => ({ value: compute(), gradFunc: (dy: Tf.Tensor) => tf.zerosLike(dy) }))(constants.filled([], 0));
  const plus = (planes: readonly Tf.Tensor[]): Tf.Tensor => planes.reduce((a, b) => tf.add(a, b));
  const where = (condition: Tf.Tensor): Tf.Tensor => tf.cast(condition, 'float32');

  /** Softmax of logits [N, H, W, K], a plane a class: probabilities, their logarithms, the largest one, and whose it is. */
  const classesOf = (logits: Tf.Tensor4D) => {
    const x = tf.unstack(tf.reshape(logits, [-1, classes]), 1);
    const most = detached(() => x.reduce((a, b) => tf.maximum(a, b)));
    const shifted = x.map((v) => tf.sub(v, most));
    const e = shifted.map((v) => tf.exp(v));
    const total = plus(e);
    const logTotal = tf.log(total);
    return {
      p: e.map((v) => tf.div(v, total)),
      logP: shifted.map((v) => tf.sub(v, logTotal)),
      confidence: () => tf.reciprocal(total), // the largest e is 1
      best: () => x.map((v) => where(tf.equal(v, most))),
    };
  };

  const run = (numbers: StepNumbers): void => {
    const { lr, consistencyWeight, threshold, emaDecay, unlabeledWeight } = numbers;
    const before = [student, teacher, velocity, vectors, counts, lastLoss];
    const after = tf.tidy((): Tf.Tensor[] => {
      const teacherWeights = named(unflatten(teacher));
      const unlabeledImages = () =>
        tf.slice(images, [labeledBatch, 0, 0, 0], [batch - labeledBatch, rows, columns, 1]) as Tf.Tensor4D;
      const q = unet(teacherWeights, separates ? images : unlabeledImages());
      const target = classesOf(q.logits);
      const targets = separates ? target.p : target.p.map((v) => tf.pad(v, [[labeledPixels, 0]]));

      let [nextVectors, nextCounts] = [vectors, counts];
      let separation: { classOf: Tf.Tensor[]; units: Tf.Tensor2D; seen: Tf.Tensor } | undefined;
      if (separates) {
        // μ ← m μ + (1 − m) mean of the reliable features of a class; only where there are some.
        const own = target.best();
        const c = target.confidence();
        const right = plus(own.map((v, k) => tf.mul(v, label[k]!)));
        const sure = tf.mul(tf.mul(where(tf.greaterEqual(c, threshold)), isUnlabeled), unlabeledWeight);
        const weight = tf.mul(c, tf.add(right, sure));
        const weighted = tf.stack(own.map((v) => tf.mul(v, weight))) as Tf.Tensor2D; // [K, pixels]
        const sums = tf.matMul(weighted, project(teacherWeights, q.features));
        const weights = tf.sum(weighted, 1);
        const present = where(tf.greater(weights, 0));
        const m = tf.minimum(tf.sub(1, tf.div(1, tf.add(counts, 1))), config.prototypeMomentum);
        const kept = tf.sub(1, tf.mul(present, tf.sub(1, m)));
        const moved = tf.div(tf.sub(1, kept), tf.maximum(weights, 1e-30));
        const column = (t: Tf.Tensor) => tf.reshape(t, [classes, 1]);
        nextVectors = tf.add(tf.mul(vectors, column(kept)), tf.mul(sums, column(moved)));
        nextCounts = tf.add(counts, present);
        const seen = where(tf.greater(nextCounts, 0));
        const length = tf.maximum(tf.sqrt(tf.sum(tf.square(nextVectors), 1)), 1e-8);
        separation = {
          classOf: own.map((v, k) => tf.add(label[k]!, tf.mul(v, isUnlabeled))),
          units: tf.mul(nextVectors, column(tf.div(seen, length))),
          seen,
        };
      }

      const loss = (...parts: Tf.Tensor[]): Tf.Scalar => {
        const w = named(parts);
        const { logits, features } = unet(w, images);
        const { p, logP, confidence } = classesOf(logits);
        // ½ (cross-entropy + soft Dice)
        const ce = tf.div(tf.sum(plus(label.map((y, k) => tf.mul(y, logP[k]!)))), -labeledPixels);
        const ratios = label.map((y, k) => {
          const overlap = tf.add(tf.mul(tf.sum(tf.mul(p[k]!, y)), 2), 1e-5);
          return tf.div(overlap, tf.add(tf.add(tf.sum(tf.mul(tf.square(p[k]!), isLabeled)), tf.sum(y)), 1e-5));
        });
        const dice = tf.sub(1, tf.div(plus(ratios), classes));
        // λ (consistency on kept pixels + β separation)
        const low = detached(() => where(tf.less(confidence(), threshold)));
        const kept = detached(() => {
          const mask = separates ? tf.mul(low, isUnlabeled) : isUnlabeled;
          return tf.div(mask, tf.mul(tf.maximum(tf.sum(mask), 1), classes));
        });
        const apart = plus(p.map((v, k) => tf.squaredDifference(v, targets[k]!)));
        let unsupervised = tf.sum(tf.mul(apart, kept));
        if (separation) {
          const { classOf, units, seen } = separation;
          const z = project(w, features);
          const squares = tf.matMul(constants.filled([1, width], 1) as Tf.Tensor2D, tf.square(z), false, true);
          const length = tf.maximum(tf.sqrt(tf.reshape(squares, [pixels])), 1e-8);
          const cosines = tf.unstack(tf.matMul(units, z, false, true));
          const own = tf.div(plus(cosines.map((v, k) => tf.mul(v, classOf[k]!))), length);
          const share = detached(() => {
            const counted = tf.stack(classOf.map((v) => tf.mul(v, low))) as Tf.Tensor2D; // [K, pixels]
            const numbers = tf.mul(tf.sum(counted, 1), seen);
            const classesThere = tf.maximum(tf.sum(where(tf.greater(numbers, 0))), 1);
            const each = tf.div(seen, tf.mul(tf.maximum(numbers, 1), classesThere));
            return tf.reshape(tf.matMul(tf.reshape(each, [1, classes]) as Tf.Tensor2D, counted), [pixels]);
          });
          const pull = tf.sum(tf.mul(tf.sub(1, own), share));
          unsupervised = tf.add(unsupervised, tf.mul(pull, config.separationWeight));
        }
        return tf.add(tf.mul(tf.add(ce, dice), 0.5), tf.mul(unsupervised, consistencyWeight));
      };
      const { value, grads } = tf.valueAndGrads(loss)(unflatten(student));

      const gradient = tf.concat(grads.map((g) => tf.reshape(g, [-1])));
      const nextVelocity = tf.add(tf.mul(velocity, momentum), tf.add(gradient, tf.mul(student, weightDecay)));
      const nextStudent = tf.sub(student, tf.mul(nextVelocity, lr));
      const nextTeacher = tf.add(tf.mul(teacher, emaDecay), tf.mul(nextStudent, 1 - emaDecay));
      return [nextStudent, nextTeacher, nextVelocity, nextVectors, nextCounts, value];
    });
    [student, teacher, velocity, vectors, counts, lastLoss] = after as typeof before as [
      Tf.Tensor,
      Tf.Tensor,
      Tf.Tensor,
      Tf.Tensor,
      Tf.Tensor,
      Tf.Tensor,
    ];
    for (const t of before) if (!after.includes(t)) t.dispose();
  };

  let numbers = work.numbers(middleOf(config));
  const loss = async (): Promise<number> => ((await lastLoss.data()) as Float32Array)[0]!;
  return {
    name: 'tfjs',
    queue: () => run(numbers),
    done,
    loss,
    advance(iteration) {
      numbers = work.numbers(iteration);
      run(numbers);
      return loss();
    },
    async state() {
      const state = new Map<string, Float32Array>();
      for (const [role, flat] of [
        ['student', student],
        ['teacher', teacher],
      ] as const) {
        const values = (await flat.data()) as Float32Array;
        let at = 0;
        for (const { name, shape, size: count } of places) {
          const own = values.slice(at, at + count);
          state.set(`${role}.${name}`, shape.length === 4 ? transposed(own, shape, [3, 0, 1, 2]) : own);
          at += count;
        }
      }
      if (separates) state.set('prototypes.vectors', (await vectors.data()) as Float32Array);
      return state;
    },
    release: () => {
      tf.dispose([student, teacher, velocity, vectors, counts, lastLoss, images, isLabeled, isUnlabeled, ...label]);
      constants.dispose();
    },
  };
}
