// The whole training step: milliseconds, launches, CPU time to encode a replayed step, bytes, time to the first step, and
// where the time goes by kernel. Synthetic batches: no loading is timed.
import { type Gpu, memoryOf, profileTable, summarize, uniformStream } from '../engine/index.js';
import { openDevice } from '../engine/node.js';
import { resolveConfig } from '../train/config.js';
import { createTrainer } from '../train/trainer.js';
import { median } from './harness.js';

export interface StepFigures {
  adapter: string;
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
  plannedBytes: number;
  unsharedBytes: number;
  externalBytes: number;
  /** Bytes of buffers that appeared after the first step: 0. */
  allocatedLater: number;
  profile: string | undefined;
}

/** Times `repeats` steps of a configuration (keys as in `wgrad train --config`). */
export async function measureStep(
  gpu: Gpu,
  settings: Record<string, unknown>,
  repeats: number,
  profile: boolean,
): Promise<StepFigures> {
  const config = resolveConfig(settings);
  const trainer = createTrainer(gpu, config);
  const pixels = config.size * config.size * config.batch;
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
  const rows = profile ? summarize(await trainer.step.profile()) : undefined;
  return {
    adapter: gpu.adapter.description || gpu.adapter.device,
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
    allocatedLater: memoryOf(gpu).bytes - bytesAfterFirst,
    profile: rows && profileTable(rows),
  };
}
