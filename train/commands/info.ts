// wgrad info: the adapter, its driver, and what it can do.

import { verifyDevice } from '../../engine/debug.js';
import type { Gpu, MatrixSize } from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { environmentOf } from '../run/environment.js';
import { describeCommand } from '../settings/command-line.js';

export const command = describeCommand({
  name: 'info',
  about: 'Opens the GPU that training would use, and prints its adapter, driver, features, limits and all versions.',
  flags: {
    adapter: {
      type: 'string',
      value: 'NAME',
      help: "swiftshader, lavapipe, null, or part of a GPU's name (default: the best available)",
    },
    check: {
      type: 'boolean',
      help: 'also run a launch with a known answer, and exit with code 1 if the GPU gets it wrong',
    },
    json: { type: 'boolean', help: 'print one JSON document' },
  },
});

const shownLimits = [
  ['maxBufferSize', 'bytes'],
  ['maxStorageBufferBindingSize', 'bytes'],
  ['maxStorageBuffersPerShaderStage', ''],
  ['maxComputeWorkgroupStorageSize', 'bytes'],
  ['maxComputeInvocationsPerWorkgroup', ''],
  ['maxComputeWorkgroupsPerDimension', ''],
] as const;

const withUnit = (value: number, unit: string): string => {
  if (unit !== 'bytes') return String(value);
  const [divisor, name] = value >= 2 ** 20 ? [2 ** 20, 'MiB'] : [2 ** 10, 'KiB'];
  return `${Math.round((value / divisor) * 10) / 10} ${name}`;
};

const matrixSize = ({ M, N, K, componentType, resultComponentType }: MatrixSize): string =>
  `${M}×${N}×${K} ${componentType} to ${resultComponentType}`;

const describe = (gpu: Gpu) => ({
  ...environmentOf(gpu),
  features: [...gpu.features].sort(),
  subgroupSizes: gpu.subgroupSizes,
  matrixSizes: gpu.matrixSizes,
  limits: Object.fromEntries(shownLimits.map(([name]) => [name, gpu.limits[name]])),
});

/** Runs `wgrad info`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const gpu = await openDevice({ adapter: flags.adapter });
  try {
    if (flags.check) await verifyDevice(gpu);
    const about = { ...describe(gpu), ...(flags.check && { check: 'passed' }) };
    if (flags.json) {
      console.log(JSON.stringify(about, null, 2));
      return 0;
    }
    const { adapter } = gpu;
    const rows: [string, string][] = [
      [
        'adapter',
        [adapter.description || adapter.device, adapter.vendor, adapter.architecture].filter(Boolean).join(', '),
      ],
      ['driver', `${adapter.driver}${adapter.software ? ' (software: runs on the CPU)' : ''}`],
      ['card', adapter.device || 'not named'],
      ['features', about.features.join(' ')],
      ['subgroups', [...new Set(Object.values(gpu.subgroupSizes))].join(' to ')],
      ['matrix units', gpu.matrixSizes.map(matrixSize).join(', ') || 'none'],
      ...shownLimits.map(([name, unit]): [string, string] => [name, withUnit(gpu.limits[name], unit)]),
    ];
    const { versions, platform, cpu } = about;
    rows.push(['wgrad', versions.wgrad], ['webgpu (Dawn)', versions.webgpu ?? 'unknown'], ['node', versions.node]);
    rows.push(['platform', platform], ['cpu', cpu]);
    if (flags.check) rows.push(['check', 'passed: a test launch gave the known answer']);
    for (const [name, value] of rows) console.log(`${name.padEnd(34)} ${value}`);
    return 0;
  } finally {
    gpu.close();
  }
}
