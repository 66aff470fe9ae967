// The training step in tfjs, with a mean teacher or without, as fast as its ops allow. Parameters, momentum and teacher are one flat
// tensor each, so that the optimizer takes ten passes and not nine a parameter; what has classes is computed class by class, because
// softmax, max and sum over a last axis of 4 give each pixel a workgroup of its own (3 s a call at 16 384 pixels on
// SwiftShader). Left out, to its favour: the running statistics and the numbers for the log, which wgrad computes.

import type * as Tf from '@tensorflow/tfjs';
import { sizeOf } from '../engine/custom.js';
import { transposed } from './peer.js';
import { createConstants, type Named, network } from './peer-network-tfjs.js';
import { middleOf, type StepContender, type StepNumbers, type StepWork } from './step-work.js';

/** Position of each parameter in a flat tensor; convolution weights as tfjs has them: [...kernel, I, O]. */
interface Place {
  readonly name: string;
  readonly shape: readonly number[];
  readonly size: number;
}

/** Axes of [O, ...kernel, I] in the order of tfjs's [...kernel, I, O], or the way back; a vector's stays. */
const moved = (rank: number, by: 1 | -1): number[] => Array.from({ length: rank }, (_, i) => (i + by + rank) % rank);

/** The step in tfjs; `done` resolves when all that was queued has run. */
export function tfjsStep(tf: typeof Tf, done: () => Promise<undefined>, work: StepWork): StepContender {
  const { config } = work;
  const { patch, classes, batch, labeledBatch, momentum, weightDecay } = config;
  const teaches = config.method !== 'supervised';
  const separates = config.method === 'lccs';
  const perImage = sizeOf(patch);
  const labeledPixels = labeledBatch * perImage;
  const pixels = batch * perImage;
  const width = config.projectionWidth;

  const places = [...work.initial].map(
    ([name, { shape, values }]): Place => ({
      ...{ name, shape: moved(shape.length, 1).map((axis) => shape[axis]!), size: values.length },
    }),
  );
  const flatInitial = Float32Array.from(
    [...work.initial.values()].flatMap(({ shape, values }) => [...transposed(values, shape, moved(shape.length, 1))]),
  );
  const sizes = places.map((place) => place.size);
  const named = (parts: readonly Tf.Tensor[]): Named =>
    new Map(places.map(({ name }, i) => [name, parts[i]!] as const));
  const unflatten = (flat: Tf.Tensor): Tf.Tensor[] =>
    tf.split(flat, sizes).map((part, i) => tf.reshape(part, [...places[i]!.shape]));

  // What is one number a pixel is a plane [pixels]; labels are a plane a class, 0 on unlabelled pixels.
  const images = tf.tensor(work.images, [batch, ...patch, 1]);
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
  const { forward, project } = network(tf, config, constants);
  // What a custom gradient computes is not on the tape; comparisons have no gradient and tfjs refuses to pass them by.
  const detached = (compute: () => Tf.Tensor): Tf.Tensor =>
    tf.customGrad(() => ({ value: compute(), gradFunc: (dy: Tf.Tensor) => tf.zerosLike(dy) }))(constants.filled([], 0));
  const plus = (planes: readonly Tf.Tensor[]): Tf.Tensor => planes.reduce((a, b) => tf.add(a, b));
  const where = (condition: Tf.Tensor): Tf.Tensor => tf.cast(condition, 'float32');

  /** Softmax of logits [N, ...patch, K], a plane a class: probabilities, their logarithms, the largest one, and whose it is. */
  const classesOf = (logits: Tf.Tensor) => {
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
      const q = teaches ? forward(teacherWeights, separates ? images : tf.slice(images, labeledBatch)) : undefined;
      const target = q && classesOf(q.logits);
      const targets = separates ? target?.p : target?.p.map((v) => tf.pad(v, [[labeledPixels, 0]]));

      let [nextVectors, nextCounts] = [vectors, counts];
      let separation: { classOf: Tf.Tensor[]; units: Tf.Tensor2D; seen: Tf.Tensor } | undefined;
      if (separates && q && target) {
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
        const { logits, features } = forward(w, images);
        const { p, logP, confidence } = classesOf(logits);
        // ½ (cross-entropy + soft Dice)
        const ce = tf.div(tf.sum(plus(label.map((y, k) => tf.mul(y, logP[k]!)))), -labeledPixels);
        const ratios = label.map((y, k) => {
          const overlap = tf.add(tf.mul(tf.sum(tf.mul(p[k]!, y)), 2), 1e-5);
          return tf.div(overlap, tf.add(tf.add(tf.sum(tf.mul(tf.square(p[k]!), isLabeled)), tf.sum(y)), 1e-5));
        });
        const counted = config.diceClasses === 'foreground' ? ratios.slice(1) : ratios;
        const dice = tf.sub(1, tf.div(plus(counted), counted.length));
        const supervised = tf.mul(tf.add(ce, dice), 0.5) as Tf.Scalar;
        if (!targets) return supervised;
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
        return tf.add(supervised, tf.mul(unsupervised, consistencyWeight));
      };
      const { value, grads } = tf.valueAndGrads(loss)(unflatten(student));

      const gradient = tf.concat(grads.map((g) => tf.reshape(g, [-1])));
      const nextVelocity = tf.add(tf.mul(velocity, momentum), tf.add(gradient, tf.mul(student, weightDecay)));
      const nextStudent = tf.sub(student, tf.mul(nextVelocity, lr));
      const nextTeacher = teaches ? tf.add(tf.mul(teacher, emaDecay), tf.mul(nextStudent, 1 - emaDecay)) : teacher;
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
      for (const [role, flat] of Object.entries({ student, ...(teaches && { teacher }) })) {
        const values = (await flat.data()) as Float32Array;
        let at = 0;
        for (const { name, shape, size: count } of places) {
          const own = values.slice(at, at + count);
          state.set(`${role}.${name}`, transposed(own, shape, moved(shape.length, -1)));
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
