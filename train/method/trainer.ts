// The method, top to bottom (Gao & Yu 2023 ; formulas in train/README.md): one student step with its teacher, losses, optimizer
// and prototypes is recorded once and replayed; numbers that change are 1-element tensors written before each call.

import { sizeOf } from '../../engine/custom.js';
import {
  backward,
  capture,
  cast,
  concat,
  createLossScale,
  createRandom,
  createSgd,
  type Gpu,
  GpuError,
  pack,
  reshape,
  type Step,
  type Tensor,
  tensor,
} from '../../engine/index.js';
import { addPrototypeDistance, createPrototypes, prototypeCosines, updatePrototypes } from '../../engine/method.js';
import { copyState, projection, type Segmenter } from '../../model/index.js';
import type { Config } from '../settings/settings.js';
import { type PastedBatch, pastedLosses, pretrainingLosses } from './copy-paste.js';
import { gradientShares, type LossTerms } from './gradients.js';
import { imageLosses } from './losses.js';
import { partsOf } from './methods.js';
import { createNetwork } from './network.js';
import * as ramps from './ramps.js';
import { keptPixels } from './selection.js';
import { statisticsOf } from './statistics.js';
import { createTeacher } from './teacher.js';
import { copied, createThreshold, thresholdNames } from './threshold.js';
import { createViews } from './views.js';

/** Everything that training changes: what a checkpoint needs to continue bit for bit. */
export interface Trainer {
  readonly gpu: Gpu;
  readonly config: Config;
  readonly student: Segmenter;
  readonly teacher: Segmenter | undefined;
  /** All persistent tensors by name: student, teacher, heads, optimizer, prototypes. */
  readonly state: Map<string, Tensor>;
  /** The program of the iteration that was set last: a pre-training has one of its own. */
  readonly step: Step<StepResult>;
  /**
   * One number for each of `gradientNames`: norms and cosines of the gradients of the terms of the loss, for this batch and iteration.
   * Call it before the step; it changes nothing. Costs a backward pass a term, and memory of its own from the first call on.
   */
  readonly probe: Step<Tensor>;
  /** Writes a batch: images [B, …patch, 1] and labels [B, …patch], the labelled items first; what is used of it. */
  setBatch(images: Float32Array, labels: Uint8Array): void;
  /** Writes every scheduled number of an iteration (learning rate, λ, τ, EMA decay, ρ, random step). */
  setIteration(iteration: number): Schedule;
}

/** What parts 1 to 4 of a step find. */
interface LossOfBatch {
  readonly loss: Tensor;
  /** The terms of the loss, where they can be had apart. */
  readonly apart?: LossTerms | undefined;
  /** What `metrics` holds behind the loss. */
  readonly logged: readonly Tensor[];
  readonly cosines?: Tensor | undefined;
  readonly shown?: ShownViews | undefined;
}

/** What a step returns; overwritten by the next call. */
export interface StepResult {
  /** One number for each of `metricNames`. */
  readonly metrics: Tensor;
  readonly loss: Tensor;
  /** Cosines between class prototypes [K, K]. */
  readonly cosines: Tensor | undefined;
  /** What there is to show of strong views, with a teacher. */
  readonly views: ShownViews | undefined;
}

/** Strong views, and what is said of them: of all items, or of the unlabelled ones, which come last. */
export interface ShownViews {
  /** [items, …patch, 1]. */
  readonly images: Tensor;
  /** The teacher's logits, mixed alike, [items, …patch, K]. */
  readonly teacher: Tensor;
  /** Which pixels are kept, u8 [items, …patch]; undefined where it is all, or by uncertainty. */
  readonly kept: Tensor<'u8'> | undefined;
}

/** The scheduled numbers of an iteration that the log holds. */
export interface Schedule {
  lr: number;
  consistencyWeight: number;
  /** Absent where only the GPU knows it: then it is one of the metrics. */
  threshold?: number;
}

/**
 * The names of `metrics`, in order; terms that a method does not have are absent.
 * @example
 * console.log(metricNames(resolveConfig({ method: 'supervised' }))[0]); // loss
 */
export const metricNames = (config: Config): string[] => {
  const { teacher, keeps, separation } = partsOf(config);
  return [
    'loss',
    'ce',
    'dice',
    ...(teacher ? ['consistency'] : []),
    ...(separation ? ['separation'] : []),
    ...(keeps === 'all' ? [] : ['kept', 'keptAccuracy', 'droppedAccuracy', 'confidence']),
    ...thresholdNames(config),
  ];
};

/**
 * Models, optimizer, inputs and the step of a configuration, on a device. Nothing is recorded or run yet.
 * @example
 * const settings = { size: 16, features: [4, 8], dropout: [0, 0], batch: 2, labeledBatch: 1 };
 * console.log(createTrainer(gpu, resolveConfig(settings)).step.info.launches > 50); // true
 */
export function createTrainer(gpu: Gpu, config: Config): Trainer {
  const { patch, classes, seed, labeledBatch: labeled, batch } = config;
  const parts = partsOf(config);
  if (config.precision === 'f16' && !gpu.features.has('shader-f16')) {
    throw new GpuError(`precision f16: ${gpu.adapter.description || 'this adapter'} has no shader-f16. Use f32.`);
  }
  const scalar = (label: string) => tensor(gpu, 0, [], { label });

  const student = createNetwork(gpu, config);
  const views = createViews(gpu, config);
  // Copy-paste shows the teacher clean, whole images, whose classes are then mixed with labels; the student's two kinds are two passes.
  const fixed: Config = parts.pastes ? { ...config, noise: 0, statistics: 'apart' } : config;
  const teacher = parts.teacher ? createTeacher(gpu, fixed, student, parts.pastes ? undefined : views) : undefined;
  const width = config.projection ? config.projectionWidth : config.features[0]!;
  const { features, rank } = student;
  const sizes = { inputs: features[0]!, hidden: width, outputs: width, rank };
  const head = () => projection(gpu, { ...sizes, seed: seed + 1 });
  const heads = parts.separation && config.projection ? { student: head(), teacher: head() } : undefined;
  const prototypes = parts.separation ? createPrototypes(gpu, classes, width) : undefined;
  const threshold = createThreshold(gpu, config);

  const items = parts.teacher ? batch : labeled;
  const images = tensor(gpu, 0, [items, ...patch, 1], { label: 'images' });
  const labels = tensor(gpu, 0, [items, ...patch], { dtype: 'u8', label: 'labels' });
  const lr = scalar('lr');
  const lambda = scalar('consistencyWeight');
  const consistencyWeight = parts.consistency ? lambda : scalar('noConsistency'); // logged all the same
  const decay = scalar('emaDecay');
  const unlabeledWeight = scalar('prototypeUnlabeledWeight');
  const nothing = scalar('nothing');
  const studentRandom = createRandom(gpu, seed >>> 0);

  const trained = [...student.parameters, ...(heads?.student.parameters ?? [])];
  const averaged = [...(teacher?.model.parameters ?? []), ...(heads?.teacher.parameters ?? [])];
  pack(trained, 'student');
  if (teacher) pack(averaged, 'teacher');
  const optimizer = createSgd(trained, { momentum: config.momentum, weightDecay: config.weightDecay });
  const scaling = config.precision === 'f16' ? createLossScale(gpu) : undefined;

  // Parts 1 to 4 of a step: the loss, and what is logged. `aside` moves nothing that lasts, and has the terms of the loss apart.
  const lossOfBatch = ({ aside, pretrains }: { aside: boolean; pretrains: boolean }): LossOfBatch => {
    for (const random of [studentRandom, teacher?.random, views?.random]) random?.restart();
    const moved = aside
      ? { teacher: teacher?.aside(), threshold: threshold.aside(), prototypes: prototypes && copied(prototypes) }
      : { teacher, threshold, prototypes };
    const forward = (x: Tensor) =>
      student.forward(cast(x, config.precision), {
        mode: 'train',
        random: studentRandom,
        ...statisticsOf(fixed, x.shape[0]!),
        ...(aside && { track: [] }),
      });

    if (parts.pastes && views && moved.teacher) {
      const pasted: PastedBatch = {
        images,
        labels,
        labeledItems: labeled,
        views,
        diceClasses: config.diceClasses,
        student: (x) => forward(x).logits,
      };
      return pretrains ? pretrainingLosses(pasted) : pastedLosses(pasted, moved.teacher, consistencyWeight);
    }

    // 1. Student on everything, in strong views where these are wanted; the labels then go with them.
    const seen = views ? { images: views.strong(images), labels: views.mix(labels) } : { images, labels };
    const { logits, features } = forward(seen.images);

    // 2. Teacher on the weak views of the unlabelled items, with noise (and of the labelled ones, where prototypes may need their features).
    const q = moved.teacher?.predict(images);

    // 3. Supervised loss on the labelled items; consistency on the unlabelled pixels that are kept: all (mt), those that several
    //    passes of the teacher agree on (uamt), or those of low confidence (lccs). The others may have hard pseudo-labels.
    const of = { labels: seen.labels, labeledItems: labeled, diceClasses: config.diceClasses };
    const kept = q && moved.teacher && keptPixels(config, moved.threshold, moved.teacher, images, logits, q.logits);
    const ofTeacher = kept && {
      ...{ ...kept, logits: q.logits, weight: consistencyWeight },
      ...{ kind: config.consistency, confidentWeight: config.confidentWeight },
    };
    const segmentation = imageLosses(logits, of, ofTeacher, aside);
    let { loss } = segmentation;
    let apart: LossTerms | undefined = segmentation.apart;
    const logged = [...segmentation.terms];
    let cosines: Tensor | undefined;

    if (moved.prototypes && q && kept && segmentation.selected) {
      // 4. Prototypes from reliable pixels; low-confidence pixels are pulled to the prototype of their (pseudo-)class.
      const { mask, classes: classOf, reliable } = segmentation.selected;
      updatePrototypes(moved.prototypes, {
        features: q.features,
        projection: heads?.teacher.head,
        ...(reliable
          ? { weights: reliable, classes: classOf }
          : { teacherLogits: q.logits, labels: seen.labels, threshold: kept.threshold, hard: kept.hard }),
        labeledPixels: labeled * sizeOf(patch),
        unlabeledWeight,
        momentum: config.prototypeMomentum,
      });
      const { total, separation } = addPrototypeDistance(
        { loss: aside ? nothing : loss, weight: lambda, factor: config.separationWeight },
        features,
        moved.prototypes,
        classOf,
        config.separationPixels === 'kept' ? mask : undefined,
        { kind: config.separation, temperature: config.temperature, projection: heads?.student.head },
      );
      loss = total;
      if (apart) apart = { ...apart, separation: total };
      cosines = prototypeCosines(moved.prototypes);
      logged.push(separation);
    }
    if (segmentation.statistics) logged.push(segmentation.statistics);
    if (kept && thresholdNames(config).length) logged.push(kept.threshold);
    const shown = views && q && { images: seen.images, teacher: q.logits, kept: segmentation.selected?.mask };
    return { loss, apart, logged, cosines, shown };
  };

  const programs = (pretrains: boolean) => ({
    step: capture(gpu, (): StepResult => {
      const { loss, logged, cosines, shown } = lossOfBatch({ aside: false, pretrains });

      // 5. Optimizer and teacher; both skip a step whose loss is not finite, so the last good weights survive.
      const gradients = backward(loss, scaling?.scale);
      const unless = { guard: loss, ...(scaling && { unscale: scaling.unscale(gradients, trained) }) };
      optimizer.step(gradients, lr, { ...unless, ...(teacher && { average: { tensors: averaged, decay } }) });
      teacher?.averageBuffers(student, decay, unless);
      const metrics = concat(
        [loss, ...logged].map((x) => reshape(x, [x.size])),
        0,
      );
      return { metrics, loss, cosines, views: shown };
    }),
    // Of the same batch, with the same random numbers, as the step that follows it.
    probe: capture(gpu, () => {
      const { apart } = lossOfBatch({ aside: true, pretrains });
      return gradientShares(config, student.parameters, apart!, scaling?.scale);
    }),
  });
  const main = programs(false);
  const pretraining = parts.pastes ? programs(true) : main;
  let current = main;

  if (teacher) copyState(teacher.model, student);
  if (heads) copyState(heads.teacher, heads.student);

  const state = new Map<string, Tensor>();
  const keep = (prefix: string, tensors: Iterable<readonly [string, Tensor]>) => {
    for (const [name, t] of tensors) state.set(`${prefix}.${name}`, t);
  };
  keep('student', student.state);
  if (teacher) keep('teacher', teacher.model.state);
  if (heads) keep('student', heads.student.state);
  if (heads) keep('teacher', heads.teacher.state);
  if (prototypes) keep('prototypes', Object.entries(prototypes));
  keep('threshold', Object.entries(threshold.state));
  keep(
    'optimizer',
    optimizer.state.map((t, i) => [String(i), t] as const),
  );
  keep('lossScale', scaling?.state.map((t, i) => [String(i), t] as const) ?? []);

  const known = parts.keeps === 'uncertainty' ? ramps.uncertaintyThreshold : threshold.follows && ramps.threshold;
  return {
    gpu,
    config,
    student,
    teacher: teacher?.model,
    state,
    get step() {
      return current.step;
    },
    get probe() {
      return current.probe;
    },
    setBatch(pixels, classesOf) {
      images.write(pixels.subarray(0, images.size));
      labels.write(classesOf.subarray(0, labels.size));
    },
    setIteration(iteration) {
      const schedule: Schedule = {
        lr: ramps.learningRate(config, iteration),
        consistencyWeight: ramps.consistencyWeight(config, iteration),
        ...(known && { threshold: known(config, iteration) }),
      };
      current = ramps.isPretraining(config, iteration) ? pretraining : main;
      lr.write(schedule.lr);
      lambda.write(schedule.consistencyWeight);
      if (schedule.threshold !== undefined) threshold.scheduled.write(schedule.threshold);
      decay.write(ramps.emaDecay(config, iteration));
      unlabeledWeight.write(ramps.prototypeUnlabeledWeight(config, iteration));
      studentRandom.setStep(iteration);
      teacher?.random.setStep(iteration);
      views?.setIteration(iteration);
      return schedule;
    },
  };
}
