// Holds what `wgrad bench paper` estimated against what a card took: by how much the estimates are low as a whole, what a launch costs that
// does next to nothing, and which kernels are slower than both explain. Those are the ones to read next.
import { isDeepStrictEqual } from 'node:util';
import { UsageError } from '../../train/files/usage-error.js';
import { resolveConfig } from '../../train/settings/settings.js';
import { table } from '../harness.js';
import type { SavedMeasurement } from '../history.js';
import type { KernelShare, StepFigures } from '../step.js';
import { byName, type PaperKernel, type PaperReport } from './compile.js';

/** One kernel, all its launches together. */
export interface CalibratedKernel {
  readonly kernel: string;
  /** On paper, and on the card: a card may get other candidates, and so other launches. */
  readonly launches: readonly [number, number];
  readonly paperMs: number;
  readonly measuredMs: number;
  /** The estimate times the factor of the kernel's kind, and its launches. */
  readonly expectedMs: number;
  /** Measured over expected. */
  readonly ratio: number;
}

export interface Calibration {
  readonly card: string;
  readonly adapter: string;
  /** What the cheapest launch takes. */
  readonly launchMs: number;
  /** Measured, less launches, over paper; the sums of all kernels of a kind. */
  readonly factors: { readonly convolutions: number; readonly others: number };
  readonly paperMs: number;
  readonly measuredMs: number;
  /** Most milliseconds measured first. */
  readonly kernels: readonly CalibratedKernel[];
  readonly onlyPaper: readonly string[];
  readonly onlyMeasured: readonly string[];
}

/** Settings that decide which kernels a step has. */
const decisive = ['method', 'network', 'patch', 'features', 'batch', 'labeledBatch', 'classes', 'precision'] as const;

const stepOf = (settings: Record<string, unknown>): unknown[] => {
  const config = resolveConfig(settings);
  return decisive.map((key) => config[key]);
};

/** The newest of the saved results that is about the same step as `measured`, compiled for `gpu`. Throws a UsageError where there is none. */
export function paperFor(
  measured: StepFigures,
  gpu: string,
  matrix: boolean,
  saved: readonly SavedMeasurement[],
): PaperReport {
  const step = stepOf(measured.config);
  const found = saved.findLast(({ bench, adapter, settings }) => {
    if (bench !== 'paper' || adapter !== gpu || Boolean(settings.matrix) !== matrix || settings.only) return false;
    const { matrix: _, only, fuse, tune, ...config } = settings;
    return isDeepStrictEqual(stepOf(config), step);
  });
  if (found) return found.report as PaperReport;
  throw new UsageError(
    `bench paper: no saved result for ${gpu} is about this step — got ${decisive.map((key, i) => `${key} ${String(step[i])}`).join(', ')}. ` +
      'Make one with --save and the same settings.',
  );
}

const sumOf = <T>(values: readonly T[], of: (value: T) => number): number =>
  values.reduce((sum, value) => sum + of(value), 0);

/** Compares a report on paper with the profile of a card. */
export function calibrate({ card, kernels: compiled }: PaperReport, measured: StepFigures): Calibration {
  const paper = byName(compiled); // a report may have a row for each kernel
  if (!measured.kernels) {
    throw new UsageError('bench paper: the measured step has no times by kernel — its adapter had no timestamps.');
  }
  const times = new Map<string, KernelShare>(measured.kernels.map((each) => [each.kernel, each]));
  const both = paper.filter(({ kernel }) => times.has(kernel));
  const isConvolution = ({ flops }: PaperKernel): boolean => flops > 0;
  const launchMs = Math.min(...measured.kernels.map(({ ms, launches }) => ms / launches));
  const factorOf = (kernels: readonly PaperKernel[]): number =>
    sumOf(kernels, ({ kernel }) => times.get(kernel)!.ms - launchMs * times.get(kernel)!.launches) /
    sumOf(kernels, ({ ms }) => ms);
  const factors = {
    convolutions: factorOf(both.filter(isConvolution)),
    others: factorOf(both.filter((each) => !isConvolution(each))),
  };
  const kernels = both.map((each): CalibratedKernel => {
    const { launches, ms } = times.get(each.kernel)!;
    const factor = isConvolution(each) ? factors.convolutions : factors.others;
    const expectedMs = factor * each.ms + launches * launchMs;
    return {
      kernel: each.kernel,
      launches: [each.launches, launches],
      paperMs: each.ms,
      measuredMs: ms,
      expectedMs,
      ratio: ms / expectedMs,
    };
  });
  const known = new Set(paper.map(({ kernel }) => kernel));
  return {
    card,
    adapter: measured.adapter,
    launchMs,
    factors,
    paperMs: sumOf(paper, ({ ms }) => ms),
    measuredMs: sumOf(measured.kernels, ({ ms }) => ms),
    kernels: kernels.sort((a, b) => b.measuredMs - a.measuredMs),
    onlyPaper: paper.filter(({ kernel }) => !times.has(kernel)).map(({ kernel }) => kernel),
    onlyMeasured: measured.kernels.filter(({ kernel }) => !known.has(kernel)).map(({ kernel }) => kernel),
  };
}

/** A calibration as text. */
export function calibrationText(found: Calibration): string {
  const { card, adapter, launchMs, factors, kernels, paperMs, measuredMs, onlyPaper, onlyMeasured } = found;
  const heads = ['kernel', 'launches: paper', 'measured', 'ms: paper', 'expected', 'measured', 'ratio'];
  const rows = kernels.map((each) => [
    ...[each.kernel, ...each.launches.map(String)],
    ...[each.paperMs, each.expectedMs, each.measuredMs, each.ratio],
  ]);
  const factor = (of: number): string => (Number.isFinite(of) ? of.toFixed(2) : 'unknown: none is in both');
  const lines = [
    table([heads, ...rows]),
    '',
    `${adapter}: ${measuredMs.toFixed(2)} ms in kernels, at least ${paperMs.toFixed(2)} on ${card} on paper`,
    `expected: paper times a factor, convolutions ${factor(factors.convolutions)}, others ${factor(factors.others)}, and ${(1000 * launchMs).toFixed(1)} µs a launch`,
  ];
  if (onlyPaper.length) lines.push(`only on paper: ${onlyPaper.join(', ')}`);
  if (onlyMeasured.length) lines.push(`only measured: ${onlyMeasured.join(', ')}`);
  return lines.join('\n');
}
