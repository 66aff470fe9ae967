// Every kernel of the training step on its own: milliseconds by timestamps, GB/s, GFLOP/s, and how near that is to what the
// adapter can do at most, which is measured in the same run.

import { verifyDevice } from '../engine/debug.js';
import { type Gpu, scope } from '../engine/index.js';
import { openDevice } from '../engine/node.js';
import { UsageError } from '../train/files/usage-error.js';
import { describeCommand } from '../train/settings/command-line.js';
import { resolveConfig } from '../train/settings/settings.js';
import { table } from './harness.js';
import { adapterName, commonFlags, measuredOn, openHistory } from './history.js';
import { type KernelCase, type KernelSizes, kernelCases } from './kernel-cases.js';
import { measureRoofline, profiledMs, type Roofline, type Share, shareOf } from './roofline.js';

export interface KernelResult extends Share {
  readonly kernel: string;
  readonly ms: number;
  readonly launches: number;
  /** That must move: inputs read once, outputs written once. */
  readonly bytes: number;
  readonly flops: number;
}

export interface KernelsReport {
  readonly adapter: string;
  readonly sizes: KernelSizes;
  readonly roofline: Roofline;
  readonly results: KernelResult[];
}

/** Cases whose tensors are on the device at one time: as many as move a gigabyte, at least one. */
function inBatches(cases: readonly KernelCase[]): KernelCase[][] {
  const batches: KernelCase[][] = [];
  let left = 0;
  for (const each of cases) {
    if (each.bytes > left) {
      batches.push([]);
      left = 2 ** 30;
    }
    batches.at(-1)!.push(each);
    left -= each.bytes;
  }
  return batches;
}

/** Times every case whose name holds `only`; `report` gets each as it is known. */
export async function measureKernels(
  gpu: Gpu,
  sizes: KernelSizes,
  { repeats, only = '', copyBytes }: { repeats: number; only?: string; copyBytes?: number },
  report: (row: KernelResult) => void = () => {},
): Promise<KernelsReport> {
  const cases = scope(gpu, () => kernelCases(gpu, sizes)).filter(({ name }) => name.includes(only));
  if (!cases.length) throw new UsageError(`bench: no kernel's name contains '${only}'. Leave --only out to see all.`);
  const roofline = await measureRoofline(gpu, repeats, copyBytes);
  const results: KernelResult[] = [];
  for (const together of inBatches(cases)) {
    await scope(gpu, async () => {
      const steps = together.map(({ prepare }) => prepare(gpu));
      await Promise.all(steps.map((step) => step.prepare())); // compiles them side by side
      for (const [i, { name, bytes, flops }] of together.entries()) {
        const { ms, launches } = await profiledMs(steps[i]!, repeats);
        const row = { kernel: name, ms, launches, bytes, flops, ...shareOf({ bytes, flops, ms }, roofline) };
        results.push(row);
        report(row);
      }
    });
  }
  await gpu.settled();
  return { adapter: adapterName(gpu), sizes, roofline, results };
}

/** The report as a table. */
export function kernelsTable({ adapter, roofline, results }: KernelsReport): string {
  const heads = ['kernel', 'launches', 'ms', 'GB/s', 'GFLOP/s', '% of roofline', 'bound by'];
  const rows = results.map((r) => [
    ...[r.kernel, String(r.launches), r.ms, r.gigabytesPerSecond, r.gflops],
    ...[100 * r.share, r.bound],
  ]);
  const most = `${roofline.gigabytesPerSecond.toFixed(1)} GB/s copied, ${roofline.gflops.toFixed(1)} GFLOP/s of multiply-adds`;
  return `${table([heads, ...rows])}\n${adapter}: ${most} (above 100 %: from caches)`;
}

export const command = describeCommand({
  name: 'bench kernels',
  about: "Measures every kernel of the training step against the adapter's roofline.",
  flags: {
    size: { type: 'integer', min: 2, default: 64, help: 'pixels per side' },
    features: { type: 'string', value: 'LIST', default: '16,32,64,128', help: 'UNet channels per level' },
    batch: { type: 'integer', min: 2, default: 4, help: 'images per batch' },
    classes: { type: 'integer', min: 2, max: 16, default: 4, help: 'number of classes' },
    repeats: { type: 'integer', min: 1, default: 9, help: 'runs of each kernel; the median counts' },
    only: {
      type: 'string',
      value: 'TEXT',
      help: "measure only kernels whose name contains TEXT, for instance 'weight gradient'",
    },
    ...commonFlags,
  },
  notes:
    'The roofline is measured in the same run: a plain copy of a large buffer, and chains of multiply-adds in registers.',
});

/** `wgrad bench kernels`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const { repeats, only } = flags;
  const { patch, features, batch, classes } = resolveConfig({
    size: flags.size,
    features: flags.features,
    batch: flags.batch,
    classes: flags.classes,
  });
  const sizes: KernelSizes = { size: patch[0]!, features, batch, classes };
  const history = openHistory('kernels', args);
  const gpu = await openDevice({ adapter: flags.adapter });
  try {
    await verifyDevice(gpu);
    const report = await measureKernels(gpu, sizes, { repeats, ...(only !== undefined && { only }) }, (row) =>
      console.error(`${row.kernel}: ${row.ms.toFixed(3)} ms, ${(100 * row.share).toFixed(0)} %`),
    );
    history.publish(measuredOn(gpu), flags, {
      settings: { ...sizes, repeats, only },
      rows: Object.fromEntries(report.results.map(({ kernel, ms }) => [kernel, ms])),
      report,
      text: kernelsTable(report),
    });
    return 0;
  } finally {
    gpu.close();
  }
}
