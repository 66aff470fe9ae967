// Learning in the page: the trainer's own step (student, teacher, low-confidence consistency, class separation) on the
// labelled and unlabelled slices of the open studies. Between steps the page is free: a step is encoded, then awaited.
import { type Gpu, uniformStream } from 'wgrad';
import { drawTransform, sampleOnGrid, voxelsOf } from 'wgrad/data';
import { createTrainer, metricNames, resolveConfig, type Trainer } from 'wgrad/method';
import { copyState } from 'wgrad/model';
import { nativeSlice, type Study, sliceAt } from './study.js';
import { type Weights, writeInto } from './weights.js';

export interface LearningOptions {
  readonly iterations: number;
  /** Slices in a batch, half of them labelled. */
  readonly batch: number;
  readonly lr: number;
  readonly seed: number;
  /** Forget what the weights know: only their architecture is kept. */
  readonly fromScratch: boolean;
}

export interface Learner {
  readonly trainer: Trainer;
  /** `lccs`, or `supervised` where every slice is labelled. */
  readonly method: string;
  /** Steps done. */
  readonly iteration: number;
  /** For how long, in ms, the page was held up: once, to record the step, and at most by a step. */
  readonly heldUp: { readonly once: number; readonly step: number };
  /** Sorts the slices again by whether they are labelled now. Throws an Error where none is. */
  lookAgain(): void;
  /** One step; what the log would say of it, by name. */
  step(): Promise<Record<string, number>>;
}

interface Place {
  readonly study: Study;
  readonly z: number;
}

/** Draws from a list in ever new orders. */
function deck(all: readonly Place[], next: () => number): () => Place {
  let left: Place[] = [];
  return () => {
    if (!left.length) left = [...all];
    return left.splice(Math.floor(next() * left.length), 1)[0]!;
  };
}

/** The slices of the studies, by whether they are labelled. Throws an Error where none is. */
export function slicesToLearnFrom(studies: readonly Study[]) {
  const places = studies.flatMap((study) => Array.from({ length: study.depth }, (_, z) => ({ study, z })));
  const labelled = places.filter(({ study, z }) => study.labelled[z]);
  const unlabelled = places.filter(({ study, z }) => !study.labelled[z]);
  if (!labelled.length) throw new Error('No slice is labelled yet. Paint at least one, or take over its segmentation.');
  return { labelled, unlabelled };
}

/** A learner on the slices of `studies`, as they are labelled. Throws an Error where none is. */
export async function createLearner(
  gpu: Gpu,
  studies: readonly Study[],
  weights: Weights,
  { iterations, batch, lr, seed, fromScratch }: LearningOptions,
): Promise<Learner> {
  const { unlabelled } = slicesToLearnFrom(studies);
  const method = unlabelled.length ? 'lccs' : 'supervised';
  const { classes, features, patch, spacing } = weights;
  const config = resolveConfig({
    ...{
      method,
      classes,
      features: [...features],
      patch: [...patch],
      spacing: [...spacing],
      iterations,
      lr,
      seed,
      batch,
    },
    labeledBatch: unlabelled.length ? Math.max(1, Math.floor(batch / 2)) : batch,
    dropout: features.map((_, level) => Math.min(0.05 * (level + 1), 0.2)),
    warmupFraction: 0.1,
    rampFraction: 0.5,
  });
  const trainer = createTrainer(gpu, config);
  if (!fromScratch) {
    writeInto(trainer.student, weights);
    if (trainer.teacher) copyState(trainer.teacher, trainer.student);
  }
  const started = performance.now();
  const compiled = trainer.step.prepare(); // records now, compiles elsewhere
  const heldUp = { once: performance.now() - started, step: 0 };
  await compiled;

  const names = metricNames(config);
  const next = uniformStream(seed, 0xba7c);
  let [fromLabelled, fromUnlabelled] = [deck([], next), deck([], next)];
  const lookAgain = (): void => {
    const now = slicesToLearnFrom(studies);
    fromLabelled = deck(now.labelled, next);
    fromUnlabelled = deck(now.unlabelled.length ? now.unlabelled : now.labelled, next);
  };
  lookAgain();
  const pixels = voxelsOf(config);
  const images = new Float32Array(batch * pixels);
  const labels = new Uint8Array(batch * pixels);
  let iteration = 0;

  const fillBatch = (): void => {
    for (let i = 0; i < batch; i++) {
      const isLabelled = i < config.labeledBatch;
      const { study, z } = isLabelled ? fromLabelled() : fromUnlabelled();
      const slice = { ...nativeSlice(study, z), label: sliceAt(study, study.labels, z) };
      const { image, label } = sampleOnGrid(slice, config, drawTransform(seed, iteration, i));
      images.set(image, i * pixels);
      labels.set(label!, i * pixels); // those of unlabelled slices are only counted, and not shown
    }
  };
  return {
    trainer,
    method,
    get iteration() {
      return iteration;
    },
    heldUp,
    lookAgain,
    async step() {
      const begun = performance.now();
      fillBatch();
      trainer.setBatch(images, labels);
      trainer.setIteration(iteration);
      const reading = trainer.step().metrics.read();
      heldUp.step = Math.max(heldUp.step, performance.now() - begun);
      const values = await reading;
      iteration++;
      const said = Object.fromEntries(names.map((name, i) => [name, values[i]!]));
      if (!Number.isFinite(said.loss))
        throw new Error(`The loss is no number after ${iteration} steps. Lower the learning rate.`);
      return said;
    },
  };
}
