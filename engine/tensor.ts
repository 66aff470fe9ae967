// A tensor: a shape and an element type over a storage. Ops make temporaries with `empty`, users make inputs, parameters
// and state with `tensor`. Freed by scope, or when nothing refers to it any more; there is no dispose.
import { checkOptions, showValue } from './arguments.js';
import { expectGpu, type Gpu, GpuError } from './device.js';
import {
  bytesOf,
  checkCount,
  checkDtype,
  type Dtype,
  decodeElements,
  type ElementsOf,
  encodeElements,
  type NestedNumbers,
  rowOf,
} from './elements.js';
import { acquire, releaseWhenCollected, Storage } from './memory.js';
import { checkShape, type Shape, ShapeError, show, sizeOf } from './shape.js';
import { closeScope, enroll, flush, isCapturing, openScope } from './stream.js';
import { download, upload } from './transfer.js';

export {
  bytesOf,
  type Dtype,
  type ElementsOf,
  fromHalf,
  type NestedNumbers,
  type TypedArray,
  toHalf,
} from './elements.js';

/** What autograd remembers of the op that made a tensor. */
export interface TapeNode {
  readonly id: number;
  readonly name: string;
  readonly inputs: readonly Tensor[];
}

/**
 * An array of numbers on one device; made by `tensor`, `fromBuffer` and ops. `Tensor<'u8'>` is known to hold u8; `Tensor` alone is
 * any, and reads as a Float32Array, because that is what almost every op computes.
 * @example
 * console.log(tensor(gpu, [1, 2]) instanceof Tensor); // true
 */
// biome-ignore lint/suspicious/noExplicitAny: a tensor of any type is given where a type is asked for; ops check when they are called
export class Tensor<D extends Dtype = any> {
  readonly gpu: Gpu;
  readonly shape: Shape;
  readonly dtype: D;
  /** @internal After `pack`, shared with other tensors; this one begins at byte `offset`. */
  storage: Storage;
  /** @internal */
  offset = 0;
  /** Marks a leaf as a parameter, for which gradients are wanted. */
  requiresGrad = false;
  /** How an op made it; undefined for leaves, and under `noGrad`. */
  node: TapeNode | undefined;

  /** @internal */
  constructor(gpu: Gpu, shape: Shape, dtype: D, storage: Storage) {
    this.gpu = gpu;
    this.shape = shape;
    this.dtype = dtype;
    this.storage = storage;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Bytes on the GPU: a multiple of 4. */
  get bytes(): number {
    return bytesOf(this.shape, this.dtype);
  }

  /** The name in errors and reports. */
  get label(): string {
    return this.storage.label;
  }

  /**
   * Copies `data` (as many numbers as there are elements) into a tensor made with `tensor()`. Not inside a captured step. Throws a
   * ShapeError for another count, and for a value that the dtype cannot hold.
   */
  write(data: number | NestedNumbers): void {
    if (isCapturing(this.gpu)) {
      throw new GpuError('capture: write() inside a captured step. Write before calling the step.');
    }
    const { values } = typeof data === 'number' ? { values: [data] } : rowOf('write', this.label, data);
    if (values.length !== this.size) {
      throw new ShapeError(
        `write: '${this.label}' has ${this.size} elements ${show(this.shape)} — got ${values.length}. Inputs keep their size.`,
      );
    }
    const bytes = encodeElements('write', this.label, values, this.dtype);
    flush(this.gpu); // launches recorded before must see the old values
    upload(this, bytes);
  }

  /**
   * The elements, after everything recorded so far has run. f16 comes back as f32. Not inside a captured step. Rejects with the
   * error of the launch that should have written them, or of one that they were computed from; other tensors are not affected.
   */
  read(): Promise<ElementsOf<D>> {
    const reading = download(this).then((bytes) => decodeElements(bytes, this.dtype, this.size) as ElementsOf<D>);
    if (isCapturing(this.gpu)) reading.catch(() => {}); // the step throws that error
    return reading;
  }

  /** The one element of a tensor of size 1. */
  item(): Promise<number> {
    if (this.size !== 1) {
      return Promise.reject(new ShapeError(`item: '${this.label}' has ${this.size} elements, expected 1. Use read().`));
    }
    const reading = this.read().then((values) => values[0]!);
    if (isCapturing(this.gpu)) reading.catch(() => {});
    return reading;
  }

  /** One line: `Tensor f32 [2,3] 'weight'`. Its elements are what `read` gives. */
  toString(): string {
    return `Tensor ${this.dtype} ${show(this.shape)} '${this.label}'`;
  }

  /** What `console.log` shows under Node, Bun and Deno. @internal */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}

function newStorage(shape: Shape, dtype: Dtype, label: string): Storage {
  checkShape(label, shape);
  return new Storage(bytesOf(shape, dtype), label);
}

/** Gives a new storage to the innermost scope; without a scope it lives as long as something refers to it. */
function own(gpu: Gpu, storage: Storage): void {
  if (!enroll(gpu, storage)) releaseWhenCollected(gpu, storage);
}

/**
 * A temporary of an op: it has no buffer until it is planned, and its contents are undefined until a launch writes them.
 * @example
 * const y = empty(gpu, [2]); // no contents before a launch writes them
 * run(`@group(0) @binding(0) var<storage, read_write> y: array<f32>; ${perElement('one', 'y', 'y[i] = 1.0;')}`, { y }, { threads: 2 });
 * console.log(await y.read()); // [1, 1]
 */
export function empty<D extends Dtype = 'f32'>(
  gpu: Gpu,
  shape: Shape,
  dtype: D = 'f32' as D,
  label = 'temporary',
): Tensor<D> {
  expectGpu('empty', gpu);
  checkDtype('empty', dtype);
  const t = new Tensor<D>(gpu, [...shape], dtype, newStorage(shape, dtype, label));
  own(gpu, t.storage);
  return t;
}

/**
 * A tensor with data of its own: an input, a parameter, state. A single number fills the whole shape (default []); nested arrays give
 * the shape, and a row of numbers has one axis, unless `shape` is given. `dtype` is f32 if not given; f32 and f16 round. Throws a
 * ShapeError if the number of values is not the shape's, and for a value that the dtype cannot hold: 256, −1 or 1.5 as u8.
 * @example
 * const x = tensor(gpu, [[1, 2], [3, 4]], undefined, { label: 'x' });
 * console.log(x, await x.read()); // Tensor f32 [2,2] 'x' [1, 2, 3, 4]
 */
export function tensor<D extends Dtype = 'f32'>(
  gpu: Gpu,
  data: number | NestedNumbers,
  shape?: Shape,
  options: { dtype?: D; label?: string; requiresGrad?: boolean } = {},
): Tensor<D> {
  expectGpu('tensor', gpu);
  checkOptions('tensor', options, ['dtype', 'label', 'requiresGrad']);
  const { dtype = 'f32' as D, label = 'tensor', requiresGrad = false } = options;
  checkDtype('tensor', dtype);
  if (shape !== undefined && !Array.isArray(shape)) {
    throw new ShapeError(
      `tensor: the shape is ${showValue(shape)} — expected an array of sizes. Options come after the shape.`,
    );
  }
  const row = typeof data === 'number' ? undefined : rowOf('tensor', label, data);
  const sizes = shape ?? row?.shape ?? [];
  checkShape('tensor', sizes);
  const values = row ? row.values : new Float64Array(sizeOf(sizes)).fill(data as number);
  checkCount('tensor', sizes, values.length);
  const bytes = encodeElements('tensor', label, values, dtype);
  const t = new Tensor<D>(gpu, [...sizes], dtype, newStorage(sizes, dtype, label));
  t.storage.buffer = acquire(gpu, t.bytes, label);
  t.requiresGrad = requiresGrad;
  upload(t, bytes);
  own(gpu, t.storage);
  return t;
}

/** The same elements under another shape: no copy, no launch. Use `reshape` for the op with a gradient. */
export function view<D extends Dtype>(x: Tensor<D>, shape: Shape): Tensor<D> {
  checkShape('reshape', shape);
  if (sizeOf(shape) !== x.size) {
    throw new ShapeError(`reshape: ${show(shape)} has ${sizeOf(shape)} elements, ${show(x.shape)} has ${x.size}.`);
  }
  return viewAt(x, shape, 0);
}

/** The elements of x from byte `offset` on, with the given shape: no copy. */
export function viewAt<D extends Dtype>(x: Tensor<D>, shape: Shape, offset: number): Tensor<D> {
  const t = new Tensor<D>(x.gpu, [...shape], x.dtype, x.storage);
  t.offset = x.offset + offset;
  return t;
}

/** Every storage in a result: tensors, arrays, maps and plain objects of them, at any depth. */
export function storagesIn(value: unknown, found = new Set<Storage>(), seen = new Set<object>()): Set<Storage> {
  if (value instanceof Tensor) {
    found.add(value.storage);
  } else if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !seen.has(value)) {
    seen.add(value);
    const members = value instanceof Map || value instanceof Set ? value.values() : Object.values(value);
    for (const member of members) storagesIn(member, found, seen);
  }
  return found;
}

/**
 * Runs `work`; every tensor created in it dies at its end, except those in what it returns (at any depth of arrays and
 * plain objects). May be asynchronous; then it ends when the promise settles.
 * @example
 * const y = scope(gpu, () => add(square(tensor(gpu, [1, 2])), 1)); // the square is freed
 * console.log(await y.read()); // [2, 5]
 */
export function scope<T>(gpu: Gpu, work: () => T): T {
  expectGpu('scope', gpu);
  const opened = openScope(gpu);
  const end = (result: unknown): void => {
    for (const storage of closeScope(gpu, opened, storagesIn(result))) releaseWhenCollected(gpu, storage);
  };
  let result: T;
  try {
    result = work();
  } catch (error) {
    end(undefined);
    throw error;
  }
  if (!(result instanceof Promise)) {
    end(result);
    return result;
  }
  return result.then(
    (value: unknown) => {
      end(value);
      return value;
    },
    (error: unknown) => {
      end(undefined);
      throw error;
    },
  ) as T;
}
