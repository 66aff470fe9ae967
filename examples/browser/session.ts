// What the page does on the GPU: opening it when it is first needed, segmenting, and learning until it is stopped. The weights
// are kept outside of the GPU too, so that a lost device costs a few steps and nothing else.
import { type Gpu, GpuLostError } from 'wgrad';
import { openGpu } from './device.js';
import { createLearner, type Learner, type LearningOptions } from './learn.js';
import { createSegmenter, type Segmenter } from './segment.js';
import type { Study } from './study.js';
import { modelOf, type Weights, weightsOf } from './weights.js';

const stepsPerSegmentation = 20;

export interface Hooks {
  /** Something that is shown has changed: what runs, the weights, a study's segmentation. */
  changed(): void;
  /** A step was done. */
  stepped(values: Record<string, number>, learner: Learner): void;
  /** The device is gone; the next work opens another one. */
  lost(error: Error): void;
}

export interface Session {
  readonly weights: Weights;
  readonly busy: 'segmenting' | 'learning' | undefined;
  /** A training that runs or can be continued. */
  readonly learner: Learner | undefined;
  /** The device, once it is open. */
  readonly gpu: Gpu | undefined;
  open(): Promise<Gpu>;
  use(weights: Weights): void;
  /** Whether it was done: not where something else runs, or the device was lost. */
  segment(study: Study, progress?: (share: number) => void): Promise<boolean>;
  /** Starts or continues a training on `studies`, and segments `current()` every so often; ends with the training or `stop`. */
  learn(studies: readonly Study[], current: () => Study | undefined, options: LearningOptions): Promise<boolean>;
  /** Resolves when the step that runs is done. */
  stop(): Promise<void>;
  /** Forgets a training that could be continued; the weights stay. */
  forget(): void;
}

export function createSession(initial: Weights, hooks: Hooks): Session {
  let weights = initial;
  let gpu: Gpu | undefined;
  let opening: Promise<Gpu> | undefined;
  let busy: Session['busy'];
  let learner: Learner | undefined;
  let segmenter: Segmenter | undefined;
  let stopping = false;
  let running: Promise<unknown> = Promise.resolve();

  const lost = (which: Gpu, error: Error) => {
    if (gpu !== which) return;
    gpu = opening = learner = segmenter = undefined;
    busy = undefined;
    hooks.lost(error);
    hooks.changed();
  };
  const open = (): Promise<Gpu> => {
    opening ??= openGpu().then(
      (opened) => {
        gpu = opened;
        void opened.device.lost.then(({ message }) => lost(opened, new GpuLostError(message)));
        return opened;
      },
      (error: unknown) => {
        opening = undefined;
        throw error;
      },
    );
    return opening;
  };
  /** Runs work that a lost device may end: that was said already. */
  const guarded = async (what: 'segmenting' | 'learning', work: (on: Gpu) => Promise<void>): Promise<boolean> => {
    if (busy) return false;
    busy = what;
    hooks.changed();
    let on: Gpu | undefined;
    try {
      on = await open();
      await work(on);
      return true;
    } catch (error) {
      if (!on || !(error instanceof GpuLostError)) throw error;
      lost(on, error);
      return false;
    } finally {
      if (!on || gpu === on) busy = undefined;
      hooks.changed();
    }
  };

  return {
    get weights() {
      return weights;
    },
    get busy() {
      return busy;
    },
    get learner() {
      return learner;
    },
    get gpu() {
      return gpu;
    },
    open,
    use(other) {
      weights = other;
      learner = segmenter = undefined;
      hooks.changed();
    },
    segment: (study, progress) =>
      guarded('segmenting', async (on) => {
        segmenter ??= createSegmenter(learner?.trainer.student ?? modelOf(on, weights), weights);
        study.segmentation = await segmenter(study, progress);
      }),
    learn(studies, current, options) {
      stopping = false;
      const done = guarded('learning', async (on) => {
        if (!learner) {
          const made = await createLearner(on, studies, weights, options);
          learner = made;
          segmenter = createSegmenter(made.trainer.student, weights);
        } else learner.lookAgain();
        const { trainer } = learner;
        const { iterations } = trainer.config;
        const keep = async () => {
          const study = current();
          if (study) study.segmentation = await segmenter!(study);
          weights = await weightsOf(trainer.student, weights, `Learned here in ${learner!.iteration} steps`);
          hooks.changed();
        };
        while (learner.iteration < iterations && !stopping) {
          hooks.stepped(await learner.step(), learner);
          if (learner.iteration % stepsPerSegmentation === 0 && learner.iteration < iterations) {
            await keep();
            learner.lookAgain();
          }
        }
        await keep();
        if (learner.iteration >= iterations) learner = undefined;
      });
      running = done;
      return done;
    },
    async stop() {
      stopping = true;
      await running.catch(() => {});
    },
    forget() {
      learner = undefined;
      hooks.changed();
    },
  };
}
