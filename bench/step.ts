// The whole training step: milliseconds, launches, CPU time to encode a replayed step, bytes, time to the first step, and
// where the time goes by kernel. Synthetic batches: no loading is timed.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Gpu, memoryOf, profileTable, summarize, uniformStream } from '../engine/index.js';
import { openDevice } from '../engine/node.js';
import { readCommandLine } from '../train/command-line.js';
import { configFlags, configHelp, resolveConfig } from '../train/config.js';
import { environmentOf } from '../train/environment.js';
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

export const help = `wgrad bench step: the whole training step

usage: wgrad bench step [--repeats N] [--profile] [--adapter NAME] [--save] [--json] [settings of wgrad train]

  --repeats N      steps that are timed; the median counts (default 10)
  --profile        time by kernel, from timestamps
  --adapter NAME   swiftshader, lavapipe, or a part of a GPU's name
  --save           write the result to bench/results/
  --json           one JSON document on stdout

${configHelp()}`;

/** `wgrad bench step`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = readCommandLine('bench step', args, {
    repeats: { type: 'integer', min: 1 },
    profile: { type: 'boolean' },
    adapter: { type: 'string' },
    save: { type: 'boolean' },
    json: { type: 'boolean' },
    ...configFlags,
  } as const);
  const { repeats = 10, profile = false, adapter, save, json, ...settings } = flags;
  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    const figures = await measureStep(gpu, settings, repeats, profile);
    if (save) {
      const date = new Date().toISOString();
      const driver = (gpu.adapter.driver || gpu.adapter.device || 'gpu').toLowerCase().replace(/\W+/g, '-');
      const file = join('bench/results', `step-${driver}-${date.slice(0, 19).replace(/:/g, '')}.json`);
      mkdirSync('bench/results', { recursive: true });
      const command = ['wgrad', 'bench', 'step', ...args].join(' ');
      writeFileSync(
        file,
        `${JSON.stringify({ date, command, environment: environmentOf(gpu), ...figures }, null, 2)}\n`,
      );
      console.error(`saved ${file}`);
    }
    const { profile: rows, config, ...numbers } = figures;
    console.log(
      json
        ? JSON.stringify(figures, null, 2)
        : Object.entries(numbers)
            .map(([name, value]) => `${name.padEnd(28)} ${value}`)
            .join('\n'),
    );
    if (rows && !json) console.log(rows);
    return 0;
  } finally {
    gpu.close();
  }
}
