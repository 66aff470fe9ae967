// The method, top to bottom (Gao & Yu 2023 as defined in the README): one student step with its teacher, losses, optimizer
// and prototypes is recorded once and replayed; numbers that change are 1-element tensors written before each call.
import {
  add,
  backward,
  capture,
  cast,
  concat,
  createLossScale,
  createPrototypes,
  createRandom,
  createSgd,
  type Gpu,
  GpuError,
  gaussianNoise,
  lowConfidenceMask,
  maskedConsistency,
  mul,
  noGrad,
  pack,
  prototypeCosines,
  prototypeDistance,
  pseudoClasses,
  reshape,
  type Step,
  selectionStatistics,
  slice,
  type Tensor,
  tensor,
  updatePrototypes,
} from '../engine/index.js';
import { copyState, projection, type UNet, unet } from '../model/index.js';
import type { Config } from './config.js';
import { supervisedLoss } from './losses.js';
import * as ramps from './ramps.js';

/** Everything that training changes: what a checkpoint needs to continue bit for bit. */
export interface Trainer {
  readonly gpu: Gpu;
  readonly config: Config;
  readonly student: UNet;
  readonly teacher: UNet | undefined;
  /** All persistent tensors by name: student, teacher, heads, optimizer, prototypes. */
  readonly state: Map<string, Tensor>;
  readonly step: Step<StepResult>;
  /** Writes a batch: images [B, size, size, 1] and labels [B, size, size], the labelled items first; what is used of it. */
  setBatch(images: Float32Array, labels: Uint8Array): void;
  /** Writes every scheduled number of an iteration (learning rate, λ, τ, EMA decay, ρ, random step). */
  setIteration(iteration: number): Schedule;
}

/** What a step returns; overwritten by the next call. */
export interface StepResult {
  /** One number for each of `metricNames`. */
  readonly metrics: Tensor;
  readonly loss: Tensor;
  /** Kept pixels of the unlabelled items, u8 [U, size, size]; absent where nothing is masked. */
  readonly mask: Tensor | undefined;
  readonly logits: Tensor;
  /** Cosines between class prototypes [K, K]. */
  readonly cosines: Tensor | undefined;
}

export interface Schedule {
  lr: number;
  consistencyWeight: number;
  threshold: number;
}

/** The names of `metrics`, in order; terms that a method does not have are absent. */
export const metricNames = (config: Config): string[] => [
  'loss',
  'ce',
  'dice',
  ...(config.method === 'supervised' ? [] : ['consistency']),
  ...(config.method === 'lccs' ? ['separation', 'kept', 'keptAccuracy', 'droppedAccuracy', 'confidence'] : []),
];

/** Models, optimizer, inputs and the step of a configuration, on a device. Nothing is recorded or run yet. */
export function createTrainer(gpu: Gpu, config: Config): Trainer {
  const { method, size, classes, seed, batch, labeledBatch } = config;
  if (config.precision === 'f16' && !gpu.features.has('shader-f16')) {
    throw new GpuError(`precision f16: ${gpu.adapter.description || 'this adapter'} has no shader-f16. Use f32.`);
  }
  const labeled = labeledBatch;
  const unlabeled = method === 'supervised' ? 0 : batch - labeled;
  const scalar = (label: string) => tensor(gpu, 0, [], { label });

  const network = { inChannels: 1, classes, features: config.features, dropout: config.dropout, seed };
  const student = unet(gpu, network);
  const teacher = method === 'supervised' ? undefined : unet(gpu, network);
  const width = config.projection ? config.projectionWidth : config.features[0]!;
  const head = () => projection(gpu, { inputs: config.features[0]!, hidden: width, outputs: width, seed: seed + 1 });
  const heads = method === 'lccs' && config.projection ? { student: head(), teacher: head() } : undefined;
  const prototypes = method === 'lccs' ? createPrototypes(gpu, classes, width) : undefined;

  const images = {
    labeled: tensor(gpu, 0, [labeled, size, size, 1], { label: 'labeledImages' }),
    unlabeled: undefined as Tensor | undefined,
  };
  const labels = {
    labeled: tensor(gpu, 0, [labeled, size, size], { dtype: 'u8', label: 'labels' }),
    all: undefined as Tensor | undefined,
  };
  if (unlabeled > 0) {
    images.unlabeled = tensor(gpu, 0, [unlabeled, size, size, 1], { label: 'unlabeledImages' });
    labels.all = tensor(gpu, 0, [batch, size, size], { dtype: 'u8', label: 'allLabels' });
  }
  const lr = scalar('lr');
  const lambda = scalar('consistencyWeight');
  const threshold = scalar('threshold');
  const decay = scalar('emaDecay');
  const unlabeledWeight = scalar('prototypeUnlabeledWeight');
  const studentRandom = createRandom(gpu, seed);
  const teacherRandom = createRandom(gpu, seed + 0x7ea); // another key: teacher and student draw different numbers

  const trained = [...student.parameters, ...(heads?.student.parameters ?? [])];
  const averaged = [...(teacher?.parameters ?? []), ...(heads?.teacher.parameters ?? [])];
  pack(trained, 'student');
  if (teacher) pack(averaged, 'teacher');
  const optimizer = createSgd(trained, { momentum: config.momentum, weightDecay: config.weightDecay });
  const scaling = config.precision === 'f16' ? createLossScale(gpu) : undefined;
  const step = capture(gpu, (): StepResult => {
    // 1. Student on everything; the supervised loss on the labelled items.
    const image = images.unlabeled ? concat([images.labeled, images.unlabeled], 0) : images.labeled;
    const { logits, features } = student.forward(cast(image, config.precision), {
      mode: 'train',
      random: studentRandom,
    });
    const { loss: segmentation, ce, dice } = supervisedLoss(part(logits, 0, labeled), labels.labeled);
    let loss = segmentation;
    const logged = [ce, dice];
    let mask: Tensor | undefined;
    let cosines: Tensor | undefined;

    if (teacher && images.unlabeled && labels.all) {
      // 2. Teacher on the noisy unlabelled items (and the clean labelled ones, when prototypes need their features).
      const noisy = gaussianNoise(images.unlabeled, {
        deviation: config.noise,
        clip: config.noiseClip,
        random: teacherRandom,
      });
      const seen = method === 'lccs' ? concat([images.labeled, noisy], 0) : noisy;
      const q = noGrad(() => teacher.forward(cast(seen, config.precision), { mode: 'train', random: teacherRandom }));

      // 3. Consistency on the unlabelled pixels that are kept: all (mt), or those of low confidence (lccs).
      const p = part(logits, labeled, unlabeled);
      const target = method === 'lccs' ? part(q.logits, labeled, unlabeled) : q.logits;
      const confidence = method === 'lccs' ? config.confidence : 'none';
      const consistency = maskedConsistency(p, target, { kind: config.consistency, confidence, threshold });
      let unsupervised = consistency.loss;
      logged.push(consistency.loss);

      if (prototypes) {
        // 4. Prototypes from reliable pixels; low-confidence pixels are pulled to the prototype of their (pseudo-)class.
        const labeledPixels = labeled * size * size;
        const z = heads ? heads.student(features) : features;
        const zTeacher = noGrad(() => (heads ? heads.teacher(q.features) : q.features));
        const keep = lowConfidenceMask(logits, q.logits, { confidence: config.confidence, threshold });
        const classOf = pseudoClasses(q.logits, labels.all, labeledPixels);
        updatePrototypes(prototypes, {
          features: zTeacher,
          teacherLogits: q.logits,
          labels: labels.all,
          labeledPixels,
          threshold,
          unlabeledWeight,
          momentum: config.prototypeMomentum,
        });
        const separation = prototypeDistance(z, prototypes, classOf, keep, {
          kind: config.separation,
          temperature: config.temperature,
        });
        unsupervised = add(unsupervised, mul(separation, config.separationWeight));
        mask = consistency.mask;
        cosines = prototypeCosines(prototypes);
        const statistics = selectionStatistics(p, mask, part(labels.all, labeled, unlabeled));
        logged.push(separation, statistics);
      }
      loss = add(loss, mul(unsupervised, lambda));
    }

    // 5. Optimizer and teacher; both skip a step whose loss is not finite, so the last good weights survive.
    const gradients = backward(loss, scaling?.scale);
    optimizer.step(gradients, lr, {
      guard: loss,
      ...(scaling && { unscale: scaling.unscale(gradients, trained) }),
      ...(teacher && { average: { tensors: averaged, decay } }),
    });
    const metrics = concat(
      [loss, ...logged].map((x) => reshape(x, [x.size])),
      0,
    );
    return { metrics, loss, mask, logits, cosines };
  });

  if (teacher) copyState(teacher, student);
  if (heads) copyState(heads.teacher, heads.student);

  const state = new Map<string, Tensor>();
  const keep = (prefix: string, tensors: Iterable<readonly [string, Tensor]>) => {
    for (const [name, t] of tensors) state.set(`${prefix}.${name}`, t);
  };
  keep('student', student.state);
  if (teacher) keep('teacher', teacher.state);
  if (heads) keep('student', heads.student.state);
  if (heads) keep('teacher', heads.teacher.state);
  if (prototypes) keep('prototypes', Object.entries(prototypes));
  keep(
    'optimizer',
    optimizer.state.map((t, i) => [String(i), t] as const),
  );
  keep('lossScale', scaling?.state.map((t, i) => [String(i), t] as const) ?? []);

  return {
    gpu,
    config,
    student,
    teacher,
    state,
    step,
    setBatch(pixels, classesOf) {
      const perImage = size * size;
      images.labeled.write(pixels.subarray(0, labeled * perImage));
      labels.labeled.write(classesOf.subarray(0, labeled * perImage));
      images.unlabeled?.write(pixels.subarray(labeled * perImage));
      labels.all?.write(classesOf.subarray(0, (labeled + unlabeled) * perImage));
    },
    setIteration(iteration) {
      const schedule: Schedule = {
        lr: ramps.polyLearningRate(config, iteration),
        consistencyWeight: ramps.consistencyWeight(config, iteration),
        threshold: ramps.threshold(config, iteration),
      };
      lr.write(schedule.lr);
      lambda.write(schedule.consistencyWeight);
      threshold.write(schedule.threshold);
      decay.write(ramps.emaDecay(config, iteration));
      unlabeledWeight.write(ramps.prototypeUnlabeledWeight(config, iteration));
      studentRandom.setStep(iteration);
      teacherRandom.setStep(iteration);
      return schedule;
    },
  };
}

/** `count` items of a batch, from the `first` on. */
const part = (x: Tensor, first: number, count: number): Tensor => slice(x, 0, first, count);
