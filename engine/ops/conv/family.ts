// Families of kernels: direct, tiled and matrix kernels compute the same results in different ways. A family lists the candidates
// for a shape and makes a kernel from one. To add a family, write its file and add it to forward.ts.
import { type ConvGeometry, paddingOf } from '../../../shaders/conv/geometry.js';
import type { MatrixUnit } from '../../../shaders/conv/matrix-unit.js';
import type { WorkgroupLimits } from '../../../shaders/conv/staging.js';
import type { Float } from '../../../shaders/wgsl.js';
import type { Gpu } from '../../device.js';
import type { Tensor } from '../../tensor.js';
import { floatType } from '../float-type.js';

/** Element types of tensors and of parameters: both the same, or f16 tensors with f32 master weights. */
export interface ConvTypes {
  readonly dtype: Float;
  readonly parameters: Float;
}

/** f32 or f16 throughout, or f16 activations with f32 masters. */
export function typesOf(op: string, x: Tensor, weight: Tensor, bias?: Tensor): ConvTypes {
  const parameters = floatType(op, ...(bias ? [weight, bias] : [weight]));
  const dtype = parameters === 'f32' && x.dtype === 'f16' ? 'f16' : floatType(op, x, weight);
  return { dtype, parameters };
}

/** A convolution that a kernel is wanted for. */
export interface Wanted {
  readonly gpu: Gpu;
  readonly types: ConvTypes;
  readonly g: ConvGeometry;
  /** The input gradient of stride 1 instead of the forward pass. */
  readonly backwards: boolean;
}

/** What is tuned: a tile, and whatever else decides the kernel. */
interface Tiled {
  readonly tile: object;
}

/** One family. */
export interface Family<Kernel, Candidate extends Tiled = Tiled> {
  /** Candidates for a shape, the likely best first. */
  candidates(wanted: Wanted): readonly Candidate[];
  kernel(wanted: Wanted, candidate: Candidate): Kernel;
}

const names = ['direct', 'tiled', 'matrix'] as const;

/** What the tuner chooses between: a candidate and its family's name. */
export interface Choice extends Tiled {
  readonly kernel: (typeof names)[number];
  /** Of a matrix kernel. */
  readonly unit?: MatrixUnit;
}

/** Matrix units are there where the tuner is. */
export type Families<Kernel> = Readonly<Partial<Record<Choice['kernel'], Family<Kernel>>>>;

/**
 * The candidates of all families, the default first: tiled on a GPU, where a tile fits; direct on a CPU, whose threads share caches
 * anyway. Matrix units are experimental and come last: only what checks their results (tuned.ts) may choose them.
 */
export function candidatesOf<Kernel>(families: Families<Kernel>, wanted: Wanted): Choice[] {
  const order = wanted.gpu.adapter.software ? names : (['tiled', 'direct', 'matrix'] as const);
  return order.flatMap(
    (kernel) => families[kernel]?.candidates(wanted).map((candidate) => ({ kernel, ...candidate })) ?? [],
  );
}

/** The tuner's key for the choice of a kernel. Padding and output are part of it where they are not those of a call without a padding. */
export function keyOf(pass: string, { dtype, parameters }: ConvTypes, g: ConvGeometry): string {
  const { batch, input, output, inputs, outputs, kernel, padding, stride } = g;
  const usual = paddingOf(kernel).map((before, axis) =>
    pass === 'inputGradient' ? kernel[axis]! - 1 - before : before,
  );
  const isUsual = [0, 1, 2].every(
    (axis) => padding[axis] === usual[axis] && output[axis] === Math.ceil(input[axis]! / stride),
  );
  const places = isUsual ? '' : ` p${padding.join('x')}>${output.join('x')}`;
  return `conv.${pass} ${dtype}${parameters === dtype ? '' : `/${parameters}`} b${batch} ${input.join('x')} ${inputs}>${outputs} k${kernel.join('x')} s${stride}${places}`;
}

/** What the device offers a workgroup. */
export const workgroupLimits = ({ limits }: Gpu): WorkgroupLimits => ({
  storage: limits.maxComputeWorkgroupStorageSize,
  threads: Math.min(256, limits.maxComputeInvocationsPerWorkgroup),
});

/** The largest of `sizes` that divides n. */
export const divisor = <T extends number>(n: number, sizes: readonly T[]): T => sizes.find((size) => n % size === 0)!;
