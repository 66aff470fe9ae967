// Crops of volumes that stay on the GPU, and the way back: crops added up where they were taken from. Where a crop lies is data, a row of a
// table, so that one recorded launch serves volumes of every size.
import { addCropsShader, cropColumns, cropShader } from '../../shaders/crop.js';
import type { Triple } from '../../shaders/image-sizes.js';
import { checkNoMore, checkOptions, showValue } from '../arguments.js';
import { ShapeError, sameShape, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { type Dtype, empty, type Tensor } from '../tensor.js';
import { expectTensors, floatType } from './float-type.js';

/** Where a crop lies: a row of the table that `crop` and `addCrops` read. */
export interface Crop {
  /** The first voxel of its volume among those that lie one after another; default 0. */
  readonly start?: number;
  /** Sides of its volume, [height, width] or [depth, height, width]. */
  readonly sides: readonly number[];
  /** Its first corner in the volume, along the same axes; what lies outside the volume is 0. */
  readonly first: readonly number[];
  /**
   * Turn of its planes as a `View` has it, 0 to 7: so many quarter turns counter-clockwise (turn modulo 4), then from 4 on a flip from left
   * to right. 8 more turn the order of planes round. Crops that are no squares turn by half turns only: 1 and 3 are 0 and 2 there. Default 0.
   */
  readonly turn?: number;
}

/**
 * The rows of a table i32 [crops, 8] for `crop` and `addCrops`. A row of zeros is an empty crop: it shows zeros and adds nothing. Throws a
 * ShapeError for a number that no crop has.
 * @example
 * const table = cropTable([{ sides: [4, 4], first: [1, 2] }]);
 * console.log(table.length); // 8
 */
export function cropTable(crops: readonly Crop[]): Int32Array<ArrayBuffer> {
  const table = new Int32Array(crops.length * cropColumns.length);
  crops.forEach((each, i) => {
    checkOptions('cropTable', each, ['start', 'sides', 'first', 'turn']);
    const { start = 0, sides, first, turn = 0 } = each;
    const refuse = (name: string, value: unknown, expected: string): never => {
      throw new ShapeError(
        `cropTable: ${name} of crop ${i} is ${showValue(value)} — expected ${expected}. Correct it, or leave the crop out.`,
      );
    };
    const areWhole = (xs: unknown, least: number): boolean =>
      Array.isArray(xs) && xs.every((n) => Number.isInteger(n) && n >= least && n < 2 ** 31);
    if (!areWhole(sides, 1) || (sides.length !== 2 && sides.length !== 3))
      refuse('sides', sides, 'two or three whole numbers from 1 on');
    if (!areWhole(first, -(2 ** 31)) || first.length !== sides.length)
      refuse('first', first, `${sides.length} whole numbers`);
    if (!areWhole([start], 0) || start + sizeOf(sides) > 2 ** 31)
      refuse('start', start, 'a whole number from 0 on, the volume ending below 2^31');
    if (!areWhole([turn], 0) || turn > 15) refuse('turn', turn, 'a whole number from 0 to 15');
    const solid = sides.length === 3 ? [...sides, ...first] : [1, ...sides, 0, ...first];
    table.set([start, ...solid, turn], i * cropColumns.length);
  });
  return table;
}

const dtypes: readonly Dtype[] = ['f32', 'f16', 'u8'];

/** Throws a ShapeError unless `at` is a table of crops. */
function expectTable(op: string, at: Tensor): void {
  expectTensors(op, at);
  if (at.dtype === 'i32' && at.shape.length === 2 && at.shape[1] === cropColumns.length) return;
  throw new ShapeError(
    `${op}: the table is ${at.dtype} ${show(at.shape)}, expected i32 [crops,${cropColumns.length}]. Write cropTable(crops), a row a crop, into it.`,
  );
}

/** Sides of crops as a triple, depth 1 in 2-D. */
function tripleOf(op: string, sides: readonly number[]): Triple {
  if (
    !Array.isArray(sides) ||
    (sides.length !== 2 && sides.length !== 3) ||
    !sides.every((n) => Number.isInteger(n) && n > 0)
  ) {
    throw new ShapeError(`${op}: got crops of ${showValue(sides)}, expected [height,width] or [depth,height,width].`);
  }
  return (sides.length === 2 ? [1, ...sides] : sides) as unknown as Triple;
}

/**
 * Crops of `sides` ([h, w] or [d, h, w]) from volumes that lie one after another in x, [voxels] or [voxels, C], each row-major; where each
 * lies is a row of `at` (i32 [B, 8], from `cropTable`). Gives [B, …sides] or [B, …sides, C]; 0 outside a volume. x is f32, f16 or u8; the
 * result has its type unless `dtype` says f32 or f16 (a u8 level becomes that number). `into`: writes there instead, in place. Moves bits.
 * No gradient. Throws a ShapeError for other shapes and types.
 * @example
 * const at = tensor(gpu, cropTable([{ sides: [2, 3], first: [0, 1] }]), [1, 8], { dtype: 'i32' });
 * console.log(await crop(tensor(gpu, [1, 2, 3, 4, 5, 6]), at, [2, 2]).read()); // [2, 3, 5, 6]
 */
export function crop(
  x: Tensor,
  at: Tensor,
  sides: readonly number[],
  options: { readonly dtype?: 'f32' | 'f16' | undefined; readonly into?: Tensor | undefined } = {},
): Tensor {
  expectTensors('crop', x);
  expectTable('crop', at);
  checkOptions('crop', options, ['dtype', 'into']);
  const size = tripleOf('crop', sides);
  const { into, dtype = into?.dtype ?? x.dtype } = options;
  const isKnown = dtypes.includes(x.dtype) && dtypes.includes(dtype);
  if (!isKnown || (dtype === 'u8' && x.dtype !== 'u8')) {
    throw new ShapeError(
      `crop: cannot make ${showValue(dtype)} of ${x.dtype} — expected f32, f16 or u8 of its own or as floats.`,
    );
  }
  if (x.shape.length !== 1 && x.shape.length !== 2) {
    throw new ShapeError(
      `crop: x is ${show(x.shape)}, expected [voxels] or [voxels,C], volumes one after another. Reshape it first.`,
    );
  }
  const channels = x.shape[1] ?? 1;
  const shape = [at.shape[0]!, ...sides, ...x.shape.slice(1)];
  if (into && (!sameShape(into.shape, shape) || into.dtype !== dtype)) {
    throw new ShapeError(
      `crop: 'into' is ${into.dtype} ${show(into.shape)}, the crops are ${dtype} ${show(shape)}. Make it of that shape and type.`,
    );
  }
  const y = into ?? empty(x.gpu, shape, dtype, 'crop');
  type Cropped = 'f32' | 'f16' | 'u8';
  const source = cropShader(x.dtype as Cropped, dtype as Cropped, { size, channels });
  run(source, { x, at, y }, { threads: dtype === 'u8' ? Math.ceil(y.size / 4) : y.size });
  return y;
}

/**
 * Adds crops [B, …sides, C] to `sums` (f32 [voxels, C], in place) at the places that `at` says they were taken from, turned back; what lies
 * outside a volume is left out. `weights`: one row of numbers for each side of a crop, in the order of the sides; what a crop says of a
 * voxel is multiplied by the product of its place's. Default 1. Crops are added in the order of their rows, whatever the batch they come in:
 * the same bits. Crops of one volume name one `start`. No gradient. Throws a ShapeError for other shapes.
 * @example
 * const at = tensor(gpu, cropTable([{ sides: [2, 3], first: [0, 1] }]), [1, 8], { dtype: 'i32' });
 * const sums = tensor(gpu, 0, [6, 1]);
 * addCrops(sums, tensor(gpu, 1, [1, 2, 2, 1]), at);
 * console.log(await sums.read()); // [0, 1, 1, 0, 1, 1]
 */
export function addCrops(
  sums: Tensor,
  crops: Tensor,
  at: Tensor,
  options: { readonly weights?: readonly (readonly number[])[] | undefined } = {},
  ...others: never[]
): void {
  expectTensors('addCrops', sums, crops);
  expectTable('addCrops', at);
  checkOptions('addCrops', options, ['weights']);
  checkNoMore('addCrops', others, 'sums, crops, the table and options');
  const dtype = floatType('addCrops', crops);
  const [batch, ...sides] = crops.shape;
  const channels = sides.pop();
  const size = tripleOf('addCrops', sides);
  if (batch !== at.shape[0]) {
    throw new ShapeError(`addCrops: got ${batch} crops and ${at.shape[0]} rows that say where, expected as many.`);
  }
  if (sums.dtype !== 'f32' || sums.shape.length !== 2 || sums.shape[1] !== channels) {
    throw new ShapeError(
      `addCrops: the sums are ${sums.dtype} ${show(sums.shape)}, expected f32 [voxels,${channels}] for crops ${show(crops.shape)}.`,
    );
  }
  const weights = options.weights ?? sides.map((side) => new Array<number>(side).fill(1));
  if (weights.length !== sides.length || weights.some((row, axis) => row.length !== sides[axis])) {
    throw new ShapeError(
      `addCrops: got weights for ${showValue(weights.map((row) => row.length))}, expected a number for each place along ${show(sides)}.`,
    );
  }
  const rows = sides.length === 2 ? [[1], ...weights] : weights;
  run(
    addCropsShader(dtype, { size, channels: channels! }),
    { y: crops, at, weights: rows.flat(), sums },
    { threads: crops.size },
  );
}
