// One training run: data in, run folder out. The method is trainer.ts; here are the loop around it, its log, validation,
// pictures and checkpoints, and what happens when a run is interrupted or a loss is not finite.
import { join } from 'node:path';
import type { Gpu, StepInfo, Tensor } from '../../engine/index.js';
import { countParameters } from '../../model/index.js';
import type { Reading } from '../data/case-volume.js';
import { describeDataset, openDataset, type Split, type SplitOptions, splitDataset } from '../data/datasets.js';
import { type Batch, createLoader } from '../data/loader.js';
import { createNotices } from '../data/notices.js';
import { evaluateCases, windowStride } from '../evaluation/evaluate.js';
import { createPredictor } from '../evaluation/predictor.js';
import type { Summary } from '../evaluation/summary.js';
import { UsageError } from '../files/usage-error.js';
import { gradientNames } from '../method/gradients.js';
import { createTrainer, metricNames, type Schedule, type StepResult, type Trainer } from '../method/trainer.js';
import { loadForeignTensors, NonFiniteWeightsError, saveTensors } from '../run/checkpoint.js';
import { environmentOf, readEnvironment } from '../run/environment.js';
import { appendRecord, type LogRecord, readLog, rewindLog } from '../run/log.js';
import {
  iterationOf,
  keepCheckpoint,
  loadState,
  runFiles,
  saveState,
  takeRunFolder,
  writeJson,
} from '../run/run-folder.js';
import { describeSplit, readRunSplit, reopenDataset, sameSplit } from '../run/run-split.js';
import type { Config } from '../settings/settings.js';
import { fittingBatch, unfit } from './fitting-batch.js';
import { createProgress, sayCompiling } from './progress.js';
import { drawProgress, drawValidation, drawViews, type Kept, keptBy, reportOn, showBatch } from './run-pictures.js';
import { createEventFile } from './tensorboard.js';

/** A loss or a weight became NaN or infinite; the message names the op, the last good checkpoint is on disk. */
export class NonFiniteLossError extends Error {
  override name = 'NonFiniteLossError';
}

/** What `train` needs. */
export interface TrainingOptions {
  /** Where it trains; not closed. */
  gpu: Gpu;
  /** Settings, as resolveConfig gives them. */
  config: Config;
  /** Data folder. */
  data: string;
  /** Run folder: new or empty, or with `resume` the one to continue. */
  out: string;
  /** Continue the run in `out` from its last state. */
  resume?: boolean;
  /** Resume although the data are not those that the run was trained on: other bits. */
  changedData?: boolean;
  /** Weights to start from (safetensors, PyTorch's names); projection heads are optional, and the teacher starts as a copy. */
  initWeights?: string | undefined;
  /** Aborted: the iteration ends, the state is saved, `interrupted` is true. */
  stop?: AbortSignal;
}

/** An iteration whose commands the GPU has, and whose numbers are not read yet. */
interface Running extends Pick<StepResult, 'cosines' | 'views'> {
  readonly batch: Batch;
  readonly number: number;
  readonly schedule: Schedule;
  readonly values: ReturnType<Tensor['read']>;
  /** By `gradientNames`, where they are wanted. */
  readonly gradients: ReturnType<Tensor['read']> | undefined;
}

/** What became of a training. */
export interface TrainingResult {
  /** Done in all, those before a resumption included. */
  iterations: number;
  /** Time in this process. */
  seconds: number;
  /** Whether `stop` ended it before its time. */
  interrupted: boolean;
  /** The best validation so far; with `select: 'last'` the last one. */
  best: { iteration: number; scores: Pick<Summary, 'mean' | 'foreground_mean'> } | undefined;
  /** Time the loop waited for batches, ms. */
  waitMs: number;
}

/** What a configuration costs on a GPU. */
export interface Costs {
  parameters: number;
  launches: number;
  peakBytes: number;
  plannedBytes: number;
  unsharedBytes: number;
  externalBytes: number;
  /** Whether this GPU can bind every tensor of it. */
  fits: boolean;
  /** Where it cannot: the largest batch that it could train, if there is one. */
  fittingBatch?: number;
}

/** What a configuration costs, without training: nothing is allocated but inputs and weights. Says when this GPU cannot run it. */
export function dryRun(gpu: Gpu, config: Config): Costs {
  const trainer = createTrainer(gpu, config);
  const { launches, plannedBytes, unsharedBytes, externalBytes, tooLarge }: StepInfo = trainer.step.info;
  const smaller = tooLarge && fittingBatch(gpu, config);
  if (tooLarge) console.error(unfit(gpu, config, tooLarge, smaller));
  return {
    parameters: countParameters(trainer.student),
    launches,
    peakBytes: plannedBytes + externalBytes,
    plannedBytes,
    unsharedBytes,
    externalBytes,
    fits: !tooLarge,
    ...(smaller && { fittingBatch: smaller.batch }),
  };
}

/** Trains to the end of the configuration, or until stopped. Throws NonFiniteLossError, DataError, GpuError. */
export async function train({
  gpu,
  config,
  data,
  out,
  resume = false,
  changedData = false,
  stop,
  initWeights,
}: TrainingOptions): Promise<TrainingResult> {
  const start = performance.now();
  const goesOn = resume && trainedIn(out);
  const known = goesOn ? readRunSplit(out) : undefined;
  if (goesOn && !known) console.error(`train: '${out}' has no split.json, as in earlier versions; it gets one now`);
  const dataset = known
    ? await reopenDataset(data, out, known, changedData)
    : await openDataset(data, { fold: config.fold });
  console.error(describeDataset(dataset));
  for (const warning of dataset.warnings) console.error(`train: ${warning}`);
  const split = splitDataset(dataset, config);
  if (config.method !== 'supervised' && !split.unlabeled.length) {
    const fewer = config.labeled > 1 ? `a --labeled below ${config.labeled}, ` : '';
    throw new UsageError(
      `train: ${config.method} learns from unlabelled patients, too, but all ${config.labeled} training patients are labelled. Use ${fewer}--method supervised, or add patients (they need no labels).`,
    );
  }
  const isSame = known !== undefined && !changedData;
  const described = isSame ? known : describeSplit(dataset, config.labeled);
  const trainer = createTrainer(gpu, config);
  const { tooLarge } = trainer.step.info; // before there is a folder
  if (tooLarge) throw new UsageError(unfit(gpu, config, tooLarge, fittingBatch(gpu, config)));
  const giveBack = takeRunFolder(out, resume);
  try {
    if (!isSame) writeJson(join(out, runFiles.split), described);
    const options = { gpu, config, data, out, resume, stop, initWeights };
    return await trainIn(options, trainer, split, sameSplit(dataset), start);
  } finally {
    giveBack();
  }
}

/** Whether a run has trained anything: before that, its data may still be corrected. */
const trainedIn = (out: string): boolean =>
  [runFiles.state, runFiles.previous].some((name) => (iterationOf(join(out, name)) ?? 0) > 0);

async function trainIn(
  { gpu, config, data, out, resume = false, stop, initWeights }: TrainingOptions,
  trainer: Trainer,
  split: Split,
  resolved: SplitOptions['split'],
  start: number,
): Promise<TrainingResult> {
  const file = (name: string) => join(out, name);
  const before = resume ? readEnvironment(file(runFiles.environment)) : undefined;
  const weights = initWeights ?? before?.initWeights;
  const saved = resume ? loadState(out, trainer.state) : undefined;
  if (resume && saved === undefined) console.error('no state was saved yet; starting from the beginning');
  const first = saved ?? 0;
  if (saved === undefined && weights) initialize(trainer, weights);
  if (before && before.adapter?.description !== gpu.adapter.description) {
    console.error(
      `this run was trained on ${before.adapter?.description} and now continues on ${gpu.adapter.description}; results will differ in the last bits`,
    );
  }
  if (first >= config.iterations) console.error(`all ${config.iterations} iterations are done`);
  writeJson(file(runFiles.config), config);
  writeJson(file(runFiles.environment), { ...environmentOf(gpu), ...(weights && { initWeights: weights }) });
  rewindLog(file(runFiles.log), first);
  if (!split.val.length) console.error('train: nobody is in validation: the last checkpoint counts, and is not scored');
  const supervised = config.method === 'supervised';
  const loader = createLoader({
    dir: data,
    split: resolved,
    labeled: config.labeled,
    patch: config.patch,
    ...{ spacing: config.spacing, sample: config.sample, downsample: config.downsample, select: config.select },
    ...readingIn(config),
    batch: supervised ? config.labeledBatch : config.batch,
    labeledBatch: config.labeledBatch,
    seed: config.seed,
    augment: config.augment,
    startIteration: first,
  });
  loader.ready().then(
    ({ warnings }) => {
      for (const warning of warnings) console.error(warning);
    },
    () => {}, // what is wrong with the data comes with the first batch
  );
  const notices = createNotices('train'); // of what is validated on: once, however often it is read
  const stride = windowStride(config);
  const how = stride ? { stride } : {};
  const predictor = createPredictor(gpu, trainer.student, config.patch, how);
  const teacher = trainer.teacher && createPredictor(gpu, trainer.teacher, config.patch, how);
  const events = createEventFile(out, resume ? first : undefined);
  const log = (record: LogRecord) => {
    appendRecord(file(runFiles.log), record);
    events.record(record);
  };
  const progress = createProgress(config.method, config.iterations, first);
  const names = metricNames(config);
  let best = bestIn(readLog(file(runFiles.log)), config.select);
  let iteration = first;
  let [gpuMs, validationMs] = [0, 0];

  const save = async () => {
    await keepingFinite(saveState(out, trainer.state, iteration));
    if (iteration === 0) return; // a state to go back to, and no model: nothing was trained
    await saveTensors(file(runFiles.last), trainer.student.state, {
      iteration: String(iteration),
      config: JSON.stringify(config),
    });
    keepCheckpoint(out, iteration, config.keepCheckpoints);
  };
  /** A loss may be finite while the step after it leaves weights that are not. */
  const keepingFinite = async (saving: Promise<void>): Promise<void> => {
    try {
      await saving;
    } catch (error) {
      if (!(error instanceof NonFiniteWeightsError)) throw error;
      throw new NonFiniteLossError(
        `train: the weights are not finite after ${iteration} iterations — ${error.message} ` +
          `The last good state is in ${file(runFiles.state)}. Lower --lr.`,
        { cause: error },
      );
    }
  };
  const validate = async (kept: Kept): Promise<LogRecord> => {
    const summary = await evaluateCases(predictor, split.val, config, (volume) => void notices.add(volume.notes));
    const dice = summary.foreground_mean.Dice ?? 0;
    const isLast = config.select === 'last';
    if (isLast || !best || dice > (best.scores.foreground_mean.Dice ?? 0)) {
      best = { iteration, scores: { mean: summary.mean, foreground_mean: summary.foreground_mean } };
      writeJson(file(runFiles.summary), summary);
      const metadata = { iteration: String(iteration), dice: String(dice), config: JSON.stringify(config) };
      if (!isLast) await keepingFinite(saveTensors(file(runFiles.best), trainer.student.state, metadata));
    }
    await drawValidation(file(runFiles.slices), iteration, config, kept, predictor, split.val);
    const { mean, foreground_mean } = summary;
    // The student is what counts; how its teacher does is good to know.
    const ofTeacher = teacher && (await evaluateCases(teacher, split.val, config, undefined, { distances: false }));
    const scores = ofTeacher && { teacher: { Dice: ofTeacher.foreground_mean.Dice } };
    return { iteration, validation: { mean, foreground_mean, ...scores } };
  };

  // The GPU begins an iteration before the numbers of the one before it are read, so that it never waits for their log.
  const begin = (batch: Batch, number: number): Running => {
    trainer.setBatch(batch.image, batch.label);
    const schedule = trainer.setIteration(number);
    const isProbed = config.gradientsEvery > 0 && number % config.gradientsEvery === 0;
    const gradients = isProbed ? trainer.probe().read() : undefined;
    const { metrics, cosines, views } = trainer.step();
    const values = metrics.read(); // as they are now: a copy is in the queue
    for (const reading of [values, gradients]) reading?.catch(() => {}); // who awaits it is told
    return { batch, number, schedule, values, gradients, cosines, views };
  };
  const finish = async (
    { batch, number, schedule, values, gradients, cosines }: Running,
    withGeometry = false,
  ): Promise<Kept> => {
    const waited = performance.now();
    const numbers = await values;
    gpuMs += performance.now() - waited;
    const named = Object.fromEntries(names.map((name, i) => [name, numbers[i]!]));
    if (!Number.isFinite(named.loss)) {
      trainer.setBatch(batch.image, batch.label); // the next iteration's may be there already
      trainer.setIteration(number);
      const culprit = await trainer.step.findNonFinite();
      throw new NonFiniteLossError(
        `train: the loss is ${named.loss} at iteration ${number} (${batch.cases.join(', ')}) — ${culprit ?? 'replaying the step did not reproduce it'}. ` +
          `The last good state is in ${file(runFiles.state)}. Lower --lr, or look at these cases.`,
      );
    }
    const geometry = cosines && withGeometry ? { cosines: [...(await cosines.read())] } : {};
    const found = await gradients;
    const shares = found && {
      gradients: Object.fromEntries(gradientNames(config).map((name, i) => [name, found[i]!])),
    };
    log({ iteration: number, ...named, ...schedule, ...geometry, ...shares });
    const dice = best?.scores.foreground_mean.Dice;
    const shown = ['loss', 'ce', 'dice', 'consistency', 'separation', 'kept'].filter((name) => name in named);
    const text = shown.map((name) => `${name} ${named[name]!.toPrecision(3)}`).join('  ');
    progress.update(
      number + 1,
      `${text}${dice === null || dice === undefined ? '' : `  ${config.select} val Dice ${dice.toFixed(4)}`}`,
      { data: loader.stats.waitMs, gpu: gpuMs, validation: validationMs },
    );
    return keptBy(config, { ...named, ...schedule });
  };

  try {
    trainer.setIteration(first); // which decides on the program
    await sayCompiling(trainer.step.prepare);
    if (saved === undefined) await save(); // so that there is always a state from before a loss that is not finite
    let running: Running | undefined;
    while (iteration < config.iterations && !stop?.aborted) {
      const batch = await loader.next();
      const previous = running;
      running = begin(batch, iteration++);
      if (previous) await finish(previous);
      const isValidated = iteration % config.evalEvery === 0 || iteration === config.iterations;
      const isSaved = iteration % config.saveEvery === 0;
      if (!isValidated && !isSaved) continue;
      const kept = await finish(running, isValidated);
      const { views } = running;
      running = undefined;
      if (isValidated) {
        const began = performance.now();
        if (split.val.length) log(await validate(kept));
        await showBatch(events, iteration, batch, config.patch, kept, predictor);
        if (views) await drawViews(file(runFiles.slices), events, iteration, config, batch, views, kept);
        drawProgress(file(runFiles.curves), readLog(file(runFiles.log)));
        validationMs += performance.now() - began;
      }
      if (isSaved) await save();
    }
    if (running) await finish(running);
    await save();
  } finally {
    progress.end();
    await loader.close();
  }
  drawProgress(file(runFiles.curves), readLog(file(runFiles.log)));
  reportOn(out, file(runFiles.report));
  return {
    iterations: iteration,
    seconds: (performance.now() - start) / 1000,
    interrupted: iteration < config.iterations,
    best,
    waitMs: loader.stats.waitMs,
  };
}

/** The settings that decide how cases are read. */
function readingIn(config: Config): Reading {
  const { classes, orient, ignoreLabel, trust, nan, intensity, intensityPercentiles } = config;
  return { classes, orient, ignoreLabel, trust, nan, intensity, intensityPercentiles };
}

/** The validation in a log that counts: the best, or the last. */
function bestIn(records: readonly LogRecord[], select: Config['select']): TrainingResult['best'] {
  let best: TrainingResult['best'];
  for (const { iteration, validation } of records) {
    const scores = validation as Pick<Summary, 'mean' | 'foreground_mean'> | undefined;
    const dice = scores?.foreground_mean.Dice ?? 0;
    if (scores && (select === 'last' || !best || dice > (best.scores.foreground_mean.Dice ?? 0)))
      best = { iteration, scores };
  }
  return best;
}

/** Starts student and teacher from given weights. */
function initialize({ student, teacher, state }: Trainer, path: string): void {
  const of = (role: string): Map<string, Tensor> =>
    new Map([...state].flatMap(([name, t]) => (name.startsWith(`${role}.`) ? [[name.slice(role.length + 1), t]] : [])));
  for (const role of teacher ? ['student', 'teacher'] : ['student']) {
    loadForeignTensors(path, of(role), (name) => !student.state.has(name));
  }
}
