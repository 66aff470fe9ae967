// The whole training step: milliseconds, launches, CPU time to encode a replayed step, bytes, time to the first step, and
// launches, bytes and time by kernel. Synthetic batches: no loading is timed.

import { sizeOf } from '../engine/custom.js';
import { type LaunchTime, memoryOf, verifyDevice } from '../engine/debug.js';
import { type Gpu, uniformStream } from '../engine/index.js';
import { openDevice } from '../engine/node.js';
import { createTrainer } from '../train/method/trainer.js';
import { describeCommand } from '../train/settings/command-line.js';
import { layered, protocolFlag } from '../train/settings/config-file.js';
import { configFlags, resolveConfig } from '../train/settings/settings.js';
import { median, table } from './harness.js';
import { adapterName, commonFlags, measuredOn, openHistory } from './history.js';

/** What one kernel does in a step. */
export interface KernelShare {
  readonly kernel: string;
  readonly launches: number;
  /** Sum of all bindings of its launches: what it reads and writes at least. */
  readonly bytes: number;
  readonly ms: number;
}

export interface StepFigures {
  adapter: string;
  /** What differs from the defaults of `wgrad train`. */
  config: Record<string, unknown>;
  launches: number;
  stepMs: number;
  /** CPU time of one replayed call, encode and submit. */
  encodeMs: number;
  encodeMicrosecondsPerLaunch: number;
  /** From the start of the process to the end of the first step. */
  firstStepMs: number;
  /** Recording and planning, then compiling, of the first step. */
  recordMs: number;
  compileMs: number;
  /** Temporaries after planning, and had each a buffer of its own. */
  plannedBytes: number;
  unsharedBytes: number;
  /** Parameters, optimizer state, inputs. */
  externalBytes: number;
  /** What the device holds for the step at most. */
  peakBytes: number;
  /** Bytes of buffers that appeared after the first step: 0. */
  allocatedLater: number;
  /** Bytes that the launches of one step bind, and the same by kernel; absent where the adapter has no timestamps. */
  movedBytes?: number;
  kernels?: KernelShare[];
}

/** Launches, bytes and time by kernel, most bytes first. */
export function kernelShares(times: readonly LaunchTime[]): KernelShare[] {
  const shares = new Map<string, KernelShare>();
  for (const { label, bytes, ms } of times) {
    const { launches, bytes: before, ms: spent } = shares.get(label) ?? { launches: 0, bytes: 0, ms: 0 };
    shares.set(label, { kernel: label, launches: launches + 1, bytes: before + bytes, ms: spent + ms });
  }
  return [...shares.values()].sort((a, b) => b.bytes - a.bytes);
}

/** Times `repeats` steps of a configuration (keys as in `wgrad train --config`). */
export async function measureStep(gpu: Gpu, settings: Record<string, unknown>, repeats: number): Promise<StepFigures> {
  const config = resolveConfig(settings);
  const trainer = createTrainer(gpu, config);
  const pixels = sizeOf(config.patch) * config.batch;
  const uniform = uniformStream(1);
  const images = Float32Array.from({ length: pixels }, uniform);
  trainer.setBatch(
    images,
    Uint8Array.from(images, (v) => Math.floor(v * config.classes)),
  );
  trainer.setIteration(Math.floor(config.iterations / 2));

  const start = performance.now();
  const { info } = trainer.step;
  const recorded = performance.now();
  await trainer.step.prepare();
  const compiled = performance.now();
  await trainer.step().loss.read();
  const firstStepMs = performance.now(); // since the process started
  const bytesAfterFirst = memoryOf(gpu).bytes;

  const times: number[] = [];
  const encodes: number[] = [];
  for (let i = 0; i < repeats; i++) {
    const before = performance.now();
    const { loss } = trainer.step();
    encodes.push(performance.now() - before);
    await loss.read();
    times.push(performance.now() - before);
  }
  const allocatedLater = memoryOf(gpu).bytes - bytesAfterFirst;
  const kernels = gpu.features.has('timestamp-query') ? kernelShares(await trainer.step.profile()) : undefined;
  return {
    adapter: adapterName(gpu),
    config: settings,
    launches: info.launches,
    stepMs: median(times),
    encodeMs: median(encodes),
    encodeMicrosecondsPerLaunch: (1000 * median(encodes)) / info.launches,
    firstStepMs,
    recordMs: recorded - start,
    compileMs: compiled - recorded,
    plannedBytes: info.plannedBytes,
    unsharedBytes: info.unsharedBytes,
    externalBytes: info.externalBytes,
    peakBytes: info.plannedBytes + info.externalBytes,
    allocatedLater,
    ...(kernels && { movedBytes: kernels.reduce((sum, { bytes }) => sum + bytes, 0), kernels }),
  };
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
const milliseconds = (ms: number): string => `${ms.toFixed(1)} ms`;

/** The figures as text; by kernel when asked for. */
export function stepText(figures: StepFigures, byKernel: boolean): string {
  const { launches, stepMs, encodeMs, encodeMicrosecondsPerLaunch, movedBytes, kernels } = figures;
  const lines = [
    ['step', milliseconds(stepMs)],
    ['launches', `${launches}`],
    ['bytes bound by launches', movedBytes === undefined ? 'unknown: no timestamps here' : megabytes(movedBytes)],
    ['encoding', `${milliseconds(encodeMs)}, ${encodeMicrosecondsPerLaunch.toFixed(1)} µs a launch`],
    ['first step, from the start', milliseconds(figures.firstStepMs)],
    ['of it recording, compiling', `${milliseconds(figures.recordMs)}, ${milliseconds(figures.compileMs)}`],
    ['peak bytes', megabytes(figures.peakBytes)],
    ['of it temporaries', `${megabytes(figures.plannedBytes)} (${megabytes(figures.unsharedBytes)} unshared)`],
    ['allocated later', megabytes(figures.allocatedLater)],
  ].map(([name, value]) => `${name!.padEnd(28)} ${value}`);
  if (!byKernel || !kernels) return lines.join('\n');
  const rows = kernels.map((k) => [
    ...[k.kernel, String(k.launches), k.bytes / 1e6, k.ms],
    ...[k.ms ? k.bytes / k.ms / 1e6 : 0],
  ]);
  return `${lines.join('\n')}\n\n${table([['kernel', 'launches', 'MB', 'ms', 'GB/s'], ...rows])}`;
}

export const command = describeCommand({
  name: 'bench step',
  about: 'Measures the whole training step, with any settings of wgrad train.',
  flags: {
    repeats: { type: 'integer', min: 1, default: 10, help: 'timed steps; the median counts' },
    profile: { type: 'boolean', help: 'also print launches, bytes and time by kernel (--json always does)' },
    ...commonFlags,
    protocol: protocolFlag,
    ...configFlags,
  },
});

/** `wgrad bench step`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const { repeats, profile, adapter, save, compare, json, ...given } = flags;
  const settings = layered(given);
  resolveConfig(settings); // refuses before a GPU is opened
  const history = openHistory('step', args);
  const gpu = await openDevice({ adapter });
  try {
    await verifyDevice(gpu);
    const figures = await measureStep(gpu, settings, repeats);
    const { stepMs, encodeMs, firstStepMs, compileMs } = figures;
    history.publish(
      measuredOn(gpu),
      { ...(save && { save }), ...(compare && { compare }), ...(json && { json }) },
      {
        settings: { ...settings, repeats },
        rows: { step: stepMs, encoding: encodeMs, 'first step': firstStepMs, compiling: compileMs },
        report: figures,
        text: stepText(figures, profile),
      },
    );
    return 0;
  } finally {
    gpu.close();
  }
}
