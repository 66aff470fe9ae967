// Named parameters and buffers of a model. Names are PyTorch's (`encoder.in_conv.conv_conv.0.weight`), so that weights can be
// exchanged. The layout here is channels-last; it is converted where files are written.

import { sizeOf } from '../engine/custom.js';
import {
  ema,
  type Gpu,
  type Mode,
  noGrad,
  type Random,
  type Shape,
  type Tensor,
  tensor,
  uniformStream,
} from '../engine/index.js';
import type { Init } from './inits.js';

/**
 * Creates parameters and buffers under a prefix, all in one table.
 * @example
 * const parameters = new Parameters(gpu, 1337), weight = parameters.in('head').uniform('weight', [2, 3], 0.1);
 * console.log([...parameters.trainable.keys()], weight.shape); // [head.weight] [2, 3]
 */
export class Parameters {
  readonly gpu: Gpu;
  readonly seed: number;
  /** Trainable tensors, by name, in the order they were made. */
  readonly trainable: Map<string, Tensor>;
  /** Running statistics: part of the model's state, never trained. */
  readonly buffers: Map<string, Tensor>;
  readonly #prefix: string;

  constructor(gpu: Gpu, seed: number, parent?: Parameters, prefix = '') {
    this.gpu = gpu;
    this.seed = seed;
    this.trainable = parent?.trainable ?? new Map();
    this.buffers = parent?.buffers ?? new Map();
    this.#prefix = prefix;
  }

  /** The same table under a longer prefix. */
  in(name: string): Parameters {
    return new Parameters(this.gpu, this.seed, this, `${this.#prefix}${name}.`);
  }

  /** A trainable tensor, uniform in ±bound; every parameter draws from its own stream, fixed by the seed. */
  uniform(name: string, shape: Shape, bound: number): Tensor {
    const next = uniformStream(this.seed, this.trainable.size + 1);
    return this.#add(name, shape, () => (2 * next() - 1) * bound);
  }

  /** A trainable tensor filled with one value. */
  constant(name: string, shape: Shape, value: number): Tensor {
    return this.#add(name, shape, () => value);
  }

  /** A trainable tensor with these initial values; every parameter draws from its own stream, fixed by the seed. */
  initial(name: string, shape: Shape, init: Init): Tensor {
    const next = uniformStream(this.seed, this.trainable.size + 1);
    return this.#add(name, shape, init(shape, next));
  }

  #add(name: string, shape: Shape, value: () => number): Tensor {
    const label = this.#prefix + name;
    const data = Float32Array.from({ length: sizeOf(shape) }, value);
    const t = tensor(this.gpu, data, shape, { label, requiresGrad: true });
    this.trainable.set(label, t);
    return t;
  }

  /** A tensor that is saved with the model but not trained. */
  buffer(name: string, shape: Shape, value: number): Tensor {
    const label = this.#prefix + name;
    const t = tensor(this.gpu, value, shape, { label });
    this.buffers.set(label, t);
    return t;
  }
}

/** How PyTorch lays out weights. */
export interface WeightLayout {
  /** Weights of a convolution: [O, …kernel, I] here, [O, I, …kernel] in PyTorch. */
  kernel?: boolean;
  /** Of a transposed one: [O, …kernel, I/groups] here, [I, O/groups, …kernel] in PyTorch. */
  transposed?: boolean;
  groups?: number;
}

const layouts = new WeakMap<Tensor, WeightLayout>();

/** Marks weights of a convolution. */
export const markKernel = (weight: Tensor, layout: WeightLayout = {}): unknown =>
  layouts.set(weight, { kernel: true, ...layout });

/**
 * The layout of a parameter, which `toPyTorch` and `fromPyTorch` need to know.
 * @example
 * const parameters = new Parameters(gpu, 1337), layer = convLayer(parameters, 1, 2, 3);
 * console.log(layoutOf(parameters.trainable.get('weight')).kernel); // true
 */
export const layoutOf = (parameter: Tensor): WeightLayout => layouts.get(parameter) ?? {};

/**
 * Whether a tensor holds weights of a transposed convolution.
 * @example
 * const parameters = new Parameters(gpu, 1337), layer = convTransposeLayer(parameters, 1, 2);
 * console.log(isTransposed(parameters.trainable.get('weight'))); // true
 */
export const isTransposed = (weight: Tensor): boolean => layoutOf(weight).transposed ?? false;

/** The members of every model. */
export interface Module {
  readonly gpu: Gpu;
  /** Trainable tensors in a fixed order. */
  readonly parameters: Tensor[];
  /** Parameters and running statistics by name: what a checkpoint holds. */
  readonly state: ReadonlyMap<string, Tensor>;
}

/** Options of a model's call: `mode`, the source of dropout's numbers, and the groups of the norms. */
export interface ForwardOptions {
  /** 'train': batch statistics and dropout. 'eval' (the default): running statistics, no dropout. */
  mode?: Mode;
  /** Source of dropout's numbers; needed in train mode if any dropout rate is above 0. */
  random?: Random;
  /**
   * Number of items in each group of the batch, in order (labelled ones, unlabelled ones): in train mode every norm uses separate
   * statistics for each group. Not given: all items are one group.
   */
  groups?: readonly number[] | undefined;
  /** Indices of the groups that running statistics follow, one after another; all if not given, none if empty. */
  track?: readonly number[] | undefined;
}

/** A network that gives every pixel a class, as trainer, teacher and predictor see it. */
export interface Segmenter extends Module {
  /** Logits [N, …, classes] of images x [N, …, inChannels], with `rank` axes between. */
  (x: Tensor, options?: ForwardOptions): Tensor;
  /** Logits, and the last decoder features [N, …, features[0]] that they are computed from. */
  forward(x: Tensor, options?: ForwardOptions): { logits: Tensor; features: Tensor };
  readonly inChannels: number;
  readonly classes: number;
  /** Channels of each level, from full resolution down. */
  readonly features: readonly number[];
  readonly rank: 2 | 3;
}

/**
 * The members that complete a model's function: `Object.assign(forward, moduleOf(parameters))`.
 * @example
 * const parameters = new Parameters(gpu, 1337), layer = linearLayer(parameters, 3, 8);
 * console.log([...Object.assign(layer, moduleOf(parameters)).state.keys()]); // [weight, bias]
 */
export const moduleOf = ({ gpu, trainable, buffers }: Parameters): Module => ({
  gpu,
  parameters: [...trainable.values()],
  state: new Map([...trainable, ...buffers]),
});

/**
 * Number of trainable elements.
 * @example
 * const head = projection(gpu, { inputs: 4, hidden: 3, outputs: 2 });
 * console.log(countParameters(head)); // 23
 */
export const countParameters = (...modules: Module[]): number =>
  modules.reduce((sum, { parameters }) => sum + parameters.reduce((n, p) => n + p.size, 0), 0);

/**
 * Copies parameters and running statistics of `from` into `to`, a module of the same architecture, on the GPU.
 * @example
 * const [to, from] = [1, 2].map((seed) => projection(gpu, { inputs: 4, seed }));
 * copyState(to, from); console.log((await to.parameters[0].read())[0] === (await from.parameters[0].read())[0]); // true
 */
export function copyState(to: Module, from: Module): void {
  const zero = tensor(to.gpu, 0, [], { label: 'copy.decay' });
  noGrad(to.gpu, () => ema([...to.state.values()], [...from.state.values()], zero));
}
