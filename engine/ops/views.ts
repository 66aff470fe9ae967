// Views of a batch's items by a table of draws: items are mixed and turned, and images also change their intensities. Both ops read
// one table and take every pixel from the same place, so labels and features mixed by one match the images of the other.
import type { Triple } from '../../shaders/image-sizes.js';
import { mixedBackward, mixedForward, mixedLabels, strongViewsShader, viewColumns } from '../../shaders/views.js';
import { checkNoMore, checkOptions, showValue } from '../arguments.js';
import { noGrad, record } from '../autograd.js';
import { ShapeError, show, sizeOf } from '../shape.js';
import { run } from '../stream.js';
import { empty, type Tensor, tensor, view } from '../tensor.js';
import { cast } from './cast.js';
import { expectTensors, floatType } from './float-type.js';
import { type Image, imageSizes } from './image-sizes.js';
import { expectRandom, type Random } from './random.js';
import { mean } from './reduce.js';

/** The view of one item: a row of the table that `mixItems` and `strongViews` read. A field that is left out changes nothing. */
export interface View {
  /** Exponent of the intensities' size, above 0; default 1. */
  readonly gamma?: number;
  /** Factor of the distance from the item's mean; default 1. */
  readonly contrast?: number;
  /** Number that is added; default 0. */
  readonly brightness?: number;
  /** Standard deviation of the blur in pixels; default 0: none. */
  readonly blur?: number;
  /** Standard deviation of the noise; default 0. */
  readonly noise?: number;
  /**
   * Turn of the planes, 0 to 7: turn modulo 4 quarter turns counter-clockwise, then from 4 on a flip from left to right. Planes that
   * are not square make half turns only: there 1 and 3 act as 0 and 2. Default 0.
   */
  readonly turn?: number;
  /** The item that is shown inside the box, as its distance in the batch from this one; default 0: itself. */
  readonly partner?: number;
  /** The box: its first plane, row and column (default 0), and those after its last (default plane 1, row 0, column 0: an empty box). */
  readonly firstPlane?: number;
  readonly firstRow?: number;
  readonly firstColumn?: number;
  readonly endPlane?: number;
  readonly endRow?: number;
  readonly endColumn?: number;
}

type Column = (typeof viewColumns)[number];

const defaults: Partial<Record<Column, number>> = { gamma: 1, contrast: 1, endPlane: 1 };

/** What the number `name` of view `item` must be, if it is something else. */
function objection(name: Column, value: unknown, item: number, items: number): string | undefined {
  if (typeof value !== 'number' || !Number.isFinite(value)) return 'a finite number';
  if (name === 'gamma') return value > 0 ? undefined : 'a number above 0';
  if (name === 'contrast' || name === 'brightness') return undefined;
  if (name === 'blur' || name === 'noise') return value >= 0 ? undefined : 'a number of at least 0';
  const [least, most] =
    name === 'turn' ? [0, 7] : name === 'partner' ? [-item, items - 1 - item] : [0, Number.MAX_SAFE_INTEGER];
  if (Number.isInteger(value) && value >= least && value <= most) return undefined;
  return `a whole number ${most < Number.MAX_SAFE_INTEGER ? `from ${least} to ${most}` : 'of at least 0'}`;
}

/**
 * The rows of a table, [views, columns], for a tensor that `mixItems` and `strongViews` take as `draws`. Throws a ShapeError for a
 * number out of its range.
 * @example
 * console.log(viewTable([{ brightness: 2 }]).includes(2)); // true
 */
export function viewTable(views: readonly View[]): Float32Array<ArrayBuffer> {
  const table = new Float32Array(views.length * viewColumns.length);
  views.forEach((row, item) => {
    checkOptions('viewTable', row, viewColumns);
    viewColumns.forEach((name, column) => {
      const value = row[name] ?? defaults[name] ?? 0;
      const expected = objection(name, value, item, views.length);
      if (expected) {
        throw new ShapeError(
          `viewTable: ${name} of view ${item} is ${showValue(value)} — expected ${expected}. Correct it, or leave it out.`,
        );
      }
      table[item * viewColumns.length + column] = value;
    });
  });
  return table;
}

/** Throws a ShapeError unless `draws` has a row for each item. */
function expectDraws(op: string, draws: Tensor, items: number): void {
  expectTensors(op, draws);
  if (
    draws.dtype === 'f32' &&
    draws.shape.length === 2 &&
    draws.shape[0] === items &&
    draws.shape[1] === viewColumns.length
  )
    return;
  throw new ShapeError(
    `${op}: the draws are ${draws.dtype} ${show(draws.shape)}, expected f32 [${items},${viewColumns.length}]. Write viewTable(views), a row an item, into it.`,
  );
}

/** Sizes of labels u8 [N, H, W] or [N, D, H, W]. */
function labelSizes({ shape }: Tensor): Pick<Image, 'batch' | 'size'> {
  const [batch = 0, ...sides] = shape;
  if (sides.length !== 2 && sides.length !== 3) {
    throw new ShapeError(`mixItems: got labels ${show(shape)}, expected [N,H,W] or [N,D,H,W]. Reshape them first.`);
  }
  return { batch, size: (sides.length === 2 ? [1, ...sides] : sides) as unknown as Triple };
}

/**
 * Items as the views of `draws` (f32, one row for each item, from `viewTable`) show them. Each pixel comes from the item itself or,
 * inside its box, from its partner, turned as that source is. x: images or features [N, H, W, C] or [N, D, H, W, C], f32 or f16, or
 * labels u8 [N, H, W] or [N, D, H, W]. Values are copied bit for bit; the gradient of a pixel is the sum over all views that show it.
 * Throws a ShapeError for other shapes. A partner must lie in the batch, and a box in the image.
 * @example
 * const draws = tensor(gpu, viewTable([{ turn: 2 }]), [1, 13]);
 * console.log(await mixItems(tensor(gpu, [1, 2, 3, 4], [1, 2, 2, 1]), draws).read()); // [4, 3, 2, 1]
 */
export function mixItems(x: Tensor, draws: Tensor, ...others: never[]): Tensor {
  expectTensors('mixItems', x);
  checkNoMore('mixItems', others, 'x and the draws');
  if (x.dtype === 'u8') {
    const { batch, size } = labelSizes(x);
    expectDraws('mixItems', draws, batch);
    const y = empty(x.gpu, x.shape, 'u8', 'mixItems');
    run(mixedLabels(batch, size), { draws, x, y }, { threads: Math.ceil(x.size / 4) });
    return y;
  }
  const { batch, size, channels } = imageSizes('mixItems', x);
  expectDraws('mixItems', draws, batch);
  const sizes = { dtype: floatType('mixItems', x), batch, size, channels };
  const grid = { threads: x.size / (channels % 4 === 0 ? 4 : 1) };
  const y = empty(x.gpu, x.shape, x.dtype, 'mixItems');
  run(mixedForward(sizes), { draws, x, y }, grid);
  return record('mixItems', y, [x], (dy) => {
    const dx = empty(x.gpu, x.shape, x.dtype, 'dMixItems');
    run(mixedBackward(sizes), { draws, dy, dx }, grid);
    return [dx];
  });
}

/**
 * The strong views of images x [N, H, W, C] or [N, D, H, W, C]: mixed and turned as `mixItems` does by the same `draws`, with the
 * intensities of the item that each pixel comes from: blur in the plane, power, contrast about the item's mean, brightness, noise
 * (formulas in shaders/views.ts). Nothing is clipped. Pixels that a row does not change are copied bit for bit. Takes one stream of
 * `random` when it is recorded. No gradient. Throws a ShapeError for other shapes.
 * @example
 * const draws = tensor(gpu, viewTable([{ brightness: 2 }]), [1, 13]);
 * console.log(await strongViews(tensor(gpu, [1, 2, 3, 4], [1, 2, 2, 1]), draws, createRandom(gpu, 1)).read()); // [3, 4, 5, 6]
 */
export function strongViews(x: Tensor, draws: Tensor, random: Random, ...others: never[]): Tensor {
  expectTensors('strongViews', x);
  checkNoMore('strongViews', others, 'x, the draws and random');
  const { batch, size, channels } = imageSizes('strongViews', x);
  const dtype = floatType('strongViews', x);
  expectDraws('strongViews', draws, batch);
  expectRandom('strongViews', random);
  return noGrad(x.gpu, () => {
    const stream = tensor(x.gpu, [random.next()], [1], { dtype: 'u32', label: 'stream' });
    const means = cast(mean(view(x, [batch, sizeOf(size) * channels]), 1), 'f32');
    const y = empty(x.gpu, x.shape, dtype, 'strongViews');
    const source = strongViewsShader({ dtype, batch, size, channels });
    run(source, { random: random.state, stream, draws, x, means, y }, { threads: Math.ceil(x.size / 4) });
    return y;
  });
}
