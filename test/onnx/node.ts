// What a row of the table gets: a test's inputs as tensors, its attributes, and wgrad's ops, whose calls are counted.

import type { Dtype, Gpu, Tensor } from '../../engine/index.js';
import * as wgrad from '../../engine/index.js';
import { type NodeTest, notOffered, type Values } from './vectors.js';

let calls = 0;

/** wgrad's functions; each call counts, be it an op or the making of a tensor. */
export const w = Object.fromEntries(
  Object.entries(wgrad).map(([name, value]) => {
    if (typeof value !== 'function') return [name, value];
    const counted = (...args: unknown[]): unknown => {
      calls++;
      return (value as (...args: unknown[]) => unknown)(...args);
    };
    return [name, counted];
  }),
) as unknown as typeof wgrad;

/** How many calls there were since it was last asked. */
export function takeCalls(): number {
  const count = calls;
  calls = 0;
  return count;
}

/** The type of a tensor that holds ONNX's numbers: integers of 64 bits and f64 are narrowed, small integers widened. */
export const dtypeOf: Record<string, Dtype> = {
  ...{ float: 'f32', double: 'f32', float16: 'f16', bool: 'u8', uint8: 'u8', uint16: 'u32', uint32: 'u32' },
  ...{ uint64: 'u32', int8: 'i32', int16: 'i32', int32: 'i32', int64: 'i32' },
};

/** Axes moved: axis i of the result is axis order[i]. */
export function moved(
  { shape, values }: Pick<Values, 'shape' | 'values'>,
  order: readonly number[],
): { shape: number[]; values: number[] } {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const sizes = order.map((axis) => shape[axis]!);
  const index = sizes.map(() => 0);
  const result = values.map(() => {
    const value = values[index.reduce((sum, n, axis) => sum + n * strides[order[axis]!]!, 0)]!;
    for (let axis = sizes.length - 1; axis >= 0 && ++index[axis]! === sizes[axis]; axis--) index[axis] = 0;
    return value;
  });
  return { shape: sizes, values: result };
}

/** A result whose channels come last, where ONNX has them second. */
export class ChannelsLast {
  readonly tensor: Tensor;
  constructor(tensor: Tensor) {
    this.tensor = tensor;
  }
}

/** An output: a tensor, or numbers that JavaScript has. */
export type Result = Tensor | ChannelsLast | readonly number[] | number;

/** A node whose inputs are on the device as soon as they are asked for. */
export class Node {
  readonly gpu: Gpu;
  readonly inputs: NodeTest['inputs'];
  /** How many outputs are asked for, and their type and shape. */
  readonly outputs: readonly Pick<Values, 'type' | 'shape'>[];
  readonly #attributes: NodeTest['attributes'];
  readonly #tensors = new Map<string, Tensor>();

  constructor(gpu: Gpu, { inputs, outputs, attributes }: NodeTest) {
    this.gpu = gpu;
    this.inputs = inputs;
    this.outputs = outputs;
    this.#attributes = attributes;
  }

  /** An attribute that is one number. */
  number(name: string, otherwise: number): number {
    return (this.#attributes.get(name) as number | undefined) ?? otherwise;
  }

  /** An attribute that is a list of numbers. */
  numbers(name: string): readonly number[] | undefined {
    return this.#attributes.get(name) as readonly number[] | undefined;
  }

  text(name: string, otherwise: string): string {
    return (this.#attributes.get(name) as string | undefined) ?? otherwise;
  }

  /** An attribute that is a tensor. */
  value(name: string): Values | undefined {
    return this.#attributes.get(name) as Values | undefined;
  }

  has(i: number): boolean {
    return this.inputs[i] !== undefined;
  }

  /** The numbers of an input that wgrad takes as JavaScript numbers: axes, sizes, limits. */
  given(i: number): readonly number[] | undefined {
    return this.inputs[i]?.values;
  }

  /** Input i as a tensor. */
  x(i = 0): Tensor {
    return this.#tensor(`${i}`, this.#input(i));
  }

  /** Input i to calculate with: integers of 8 bits are widened, too. */
  operand(i: number): Tensor {
    const input = this.#input(i);
    return input.type === 'uint8' ? this.#tensor(`${i} wide`, { ...input, type: 'uint32' }) : this.x(i);
  }

  /** Input i [N, C, …] or weights [O, I, …] with axis 1 moved to the end, as wgrad has them. */
  channelsLast(i = 0): Tensor {
    const input = this.#input(i);
    const { length } = input.shape;
    const order = [0, ...Array.from({ length: Math.max(0, length - 2) }, (_, axis) => axis + 2), 1];
    return this.#tensor(`${i} last`, { ...input, ...moved(input, order.slice(0, length)) });
  }

  /** Input 1 [I, O, …] as wgrad has the weights of a transposed convolution, [O, …, I]. */
  weightOfTransposed(): Tensor {
    const input = this.#input(1);
    const order = [1, ...input.shape.slice(2).map((_, i) => i + 2), 0];
    return this.#tensor('1 transposed', { ...input, ...moved(input, order) });
  }

  /** An attribute `axis` counted from the front. */
  axis(otherwise: number): number {
    const axis = this.number('axis', otherwise);
    return axis < 0 ? axis + this.inputs[0]!.shape.length : axis;
  }

  /** Numbers that a model holds as a constant, as a tensor. */
  constant(values: readonly number[], shape: readonly number[], dtype: Dtype = 'f32'): Tensor {
    return wgrad.tensor(this.gpu, [...values], shape, { dtype });
  }

  #input(i: number): Values {
    return this.inputs[i] ?? notOffered(`input ${i} left out`);
  }

  #tensor(key: string, { type, shape, values }: Values): Tensor {
    const known = this.#tensors.get(key);
    if (known) return known;
    if (values.length === 0) notOffered('tensors without elements');
    const made = wgrad.tensor(this.gpu, values, shape, { dtype: dtypeOf[type]! });
    this.#tensors.set(key, made);
    return made;
  }
}

/** How a row computes its outputs. */
export type Compute = (node: Node) => Result | readonly Result[];

/**
 * Rows by ONNX's name: how wgrad does it in one line, and the same as a program (none where there are no vectors to run it on); or, a
 * text alone, why wgrad does not.
 */
export type Rows = Readonly<Record<string, readonly [text: string, compute?: Compute] | string>>;
