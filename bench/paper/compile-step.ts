// The program that `wgrad bench paper` starts on a GPU that is not there: records a step and compiles its kernels one after the other.
// What the driver says of a kernel appears on stderr between two marks; what each kernel does in the step goes to stdout as JSON.
//
//   node compile-step.js '{"settings": {…}, "matrix": false, "only": ""}'
import { writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { hashOf, remember } from '../../engine/choices.js';
import { type Gpu, scope } from '../../engine/index.js';
import { type Kernel, pipelineOf } from '../../engine/kernel.js';
import type { Launch } from '../../engine/launch.js';
import { openDevice } from '../../engine/node.js';
import { WgslSizes, withoutComments } from '../../engine/wgsl-sizes.js';
import { createTrainer } from '../../train/method/trainer.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { type MeasuredOn, measuredOn } from '../history.js';
import { jobsOfStep } from '../tune.js';
import type { Use } from './cards.js';

/** What to compile. */
export interface Order {
  /** Keys as in a configuration file of `wgrad train`. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Takes the first candidate for matrix units wherever there is one. */
  readonly matrix: boolean;
  /** Compiles only kernels whose name contains this. */
  readonly only: string;
}

/** One kernel of the step. */
export interface StepKernel extends Use {
  readonly label: string;
  readonly launches: number;
  /** Why it does not compile. */
  readonly failed?: string;
}

/** What the program prints. */
export interface StepKernels {
  readonly on: MeasuredOn;
  /** Launches of the whole step, compiled here or not. */
  readonly launches: number;
  readonly kernels: readonly StepKernel[];
}

/** The line after which the driver speaks of a kernel, by its place in the list; without a place: the line that ends that. */
export const mark = (place?: number): string => `\n@@ wgrad kernel ${place ?? 'end'}\n`;

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/**
 * Operations of a convolution or of one of its gradients, a multiply-add being two; 0 for other launches. Each weight multiplies once
 * at each pixel of the smaller of the two images: a stride, or its transpose, leaves out pixels of the other.
 */
export function flopsOf(label: string, shapes: Readonly<Record<string, readonly number[]>>): number {
  if (!/^conv(_|$)/.test(label)) return 0;
  const { dy, weight, dWeight } = shapes;
  const [x, other, weights] = [shapes.x ?? shapes.dx, dy ?? shapes.y, weight ?? dWeight];
  if (!x || !other || !weights) return 0;
  const pixels = Math.min(product(x.slice(0, -1)), product(other.slice(0, -1)));
  return 2 * pixels * product(weights.slice(-x.length)); // partial gradients have one more size, in front
}

const flopsOfLaunch = ({ kernel: { label, bindings }, args }: Launch): number =>
  flopsOf(label, Object.fromEntries(args.map(({ shape }, i) => [bindings[i]!.name, shape])));

/** Most times that a step is recorded again because its choices have changed. */
const mostRounds = 3;

function chooseMatrix(gpu: Gpu, settings: Record<string, unknown>): void {
  gpu.flags.tune = true;
  const chosen = new Set<string>();
  for (let round = 0; round < mostRounds; round++) {
    const jobs = jobsOfStep(gpu, settings).filter(({ key }) => !chosen.has(key));
    if (!jobs.length) return;
    for (const { key, candidates, build } of jobs) {
      chosen.add(key);
      const choice = candidates.find((each) => (each as { kernel?: string }).kernel === 'matrix');
      if (choice === undefined) continue;
      remember(gpu, { [key]: { choice, ms: 0, defaultMs: 0, hash: hashOf({ build }, candidates[0], choice) } });
    }
  }
}

async function main({ settings, matrix, only }: Order): Promise<void> {
  const gpu = await openDevice({ flags: { tune: false } });
  if (matrix) chooseMatrix(gpu, settings);
  const launches = scope(gpu, () => createTrainer(gpu, resolveConfig(settings)).step.launches());
  const uses = new Map<Kernel, Launch[]>();
  for (const launch of launches) {
    const { kernel } = launch;
    if (kernel.label.includes(only)) uses.set(kernel, [...(uses.get(kernel) ?? []), launch]);
  }
  const kernels: StepKernel[] = [];
  for (const [kernel, own] of uses) {
    writeSync(2, mark(kernels.length));
    const failed = await compiled(gpu, kernel);
    writeSync(2, mark());
    const sum = (of: (launch: Launch) => number): number => own.reduce((all, launch) => all + of(launch), 0);
    kernels.push({
      label: kernel.label,
      launches: own.length,
      threads: product(new WgslSizes(withoutComments(kernel.source)).workgroupSize()!),
      groups: sum(({ workgroups }) => product(workgroups)),
      bytes: sum(({ args }) => args.reduce((all, { bytes }) => all + bytes, 0)),
      flops: sum(flopsOfLaunch),
      ...(failed !== undefined && { failed }),
    });
  }
  const result: StepKernels = { on: measuredOn(gpu), launches: launches.length, kernels };
  process.stdout.write(JSON.stringify(result));
  gpu.close();
}

/** Compiles in the calling thread, so that what the driver prints meanwhile is about this kernel; returns what is wrong. */
async function compiled(gpu: Gpu, kernel: Kernel): Promise<string | undefined> {
  try {
    pipelineOf(gpu, kernel);
    await kernel.outcome!.done;
    return kernel.outcome!.error?.message;
  } catch (error) {
    return (error as Error).message;
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(JSON.parse(process.argv[2]!) as Order);
}
