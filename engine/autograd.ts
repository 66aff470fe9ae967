// Define-by-run reverse mode. Each op leaves one node on its output: its inputs and a closure that records the launches
// from dy to the inputs' gradients. The closure keeps alive what it needs; nothing is declared twice. Autograd keeps two more things
// for each Gpu: whether ops are remembered, and the gradients of packed parameters.
import { accumulateShader } from '../shaders/accumulate.js';
import type { Parts } from '../shaders/conv/geometry.js';
import { fillShader } from '../shaders/fill.js';
import { showValue } from './arguments.js';
import { now } from './changes.js';
import { expectGpu, type Gpu, GpuError } from './device.js';
import type { Storage } from './memory.js';
import { packOf, placesIn } from './pack.js';
import { type Shape, ShapeError, sameShape, show } from './shape.js';
import { recordGradient, run } from './stream.js';
import { empty, type TapeNode, type Tensor } from './tensor.js';

/** Partial sums that a kernel wrote beside its output, [parts, 2, C]. */
export interface PartialSums {
  readonly partials: Tensor;
  readonly parts: Parts;
}

/**
 * The gradient of an activation a = d · l(n) with the activation's derivative taken: g = da · d · l'(n), and the sums Σ g and
 * Σ g·(z − μ) of each part (shaders/conv/fusion.ts). It is not a tensor, because it is not the gradient of a.
 */
export class ActivatedGradient {
  readonly g: Tensor;
  readonly sums: PartialSums;

  constructor(g: Tensor, sums: PartialSums) {
    this.g = g;
    this.sums = sums;
  }

  get shape(): Shape {
    return this.g.shape;
  }
}

/** What a backward closure may ask about the other gradients of its inputs (by their positions). */
export interface GradientFlow {
  /**
   * Whether the closure may return an ActivatedGradient: the op that made the input takes one, every other op that used the input
   * has given its gradient, and only that op will read the sum.
   */
  activated(input: number): boolean;
  /** Takes the sum so far, if there is one; the closure's result must then include it. */
  take(input: number): Tensor | undefined;
}

/** Records the launches of the gradients from dy, of type D; undefined for a gradient that is not wanted or does not exist. */
export type Backward<D = Tensor> = (
  dy: D,
  needs: boolean[],
  flow: GradientFlow,
) => (Tensor | ActivatedGradient | undefined)[];

type Closure =
  | { readonly takes: 'plain'; readonly backward: Backward }
  | { readonly takes: 'activated'; readonly backward: Backward<Tensor | ActivatedGradient> };

/** The one kind of node that tensors carry. */
class OpNode implements TapeNode {
  readonly id: number;
  readonly name: string;
  readonly inputs: readonly Tensor[];
  readonly closure: Closure;
  /** Time of recording, on the clock of changes.ts. */
  readonly time: number;

  constructor(id: number, name: string, inputs: readonly Tensor[], closure: Closure, time: number) {
    this.id = id;
    this.time = time;
    this.name = name;
    this.inputs = inputs;
    this.closure = closure;
  }
}

const nodeOf = (y: Tensor): OpNode | undefined => y.node as OpNode | undefined;

interface Tape {
  /** False under `noGrad`. */
  enabled: boolean;
  nodes: number;
  /** Gradients of the backward pass that is being recorded: by the packed parameters' storage, the flat tensor and its unused places. */
  packed: Map<Storage, { flat: Tensor; free: Map<Tensor, Tensor> }>;
}

const tapes = new WeakMap<Gpu, Tape>();

function tapeOf(gpu: Gpu): Tape {
  let tape = tapes.get(gpu);
  if (!tape) tapes.set(gpu, (tape = { enabled: true, nodes: 0, packed: new Map() }));
  return tape;
}

/**
 * Runs `work` without remembering how results on `gpu` were made (teacher, evaluation, optimizers). Throws a GpuError when `work`
 * is asynchronous: what it does after its first `await` would be remembered.
 * @example
 * const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * console.log(noGrad(gpu, () => square(x)).node); // undefined
 */
export function noGrad<T>(gpu: Gpu, work: () => T): T {
  expectGpu('noGrad', gpu);
  const tape = tapeOf(gpu);
  const before = tape.enabled;
  tape.enabled = false;
  let result: T;
  try {
    result = work();
  } finally {
    tape.enabled = before;
  }
  if (result instanceof Promise) {
    result.catch(() => {}); // the error below is the one to report
    throw new GpuError(
      'noGrad: the work is asynchronous — expected a function that does not wait. Record inside, and read the returned tensors afterwards.',
    );
  }
  return result;
}

const tracks = (x: Tensor): boolean => x.requiresGrad || x.node !== undefined;

/** Gradients, and what ops have made of them: a loss made of one would want the gradient of a gradient. */
const ofGradients = new WeakSet<Tensor>();

function remember(name: string, y: Tensor, inputs: readonly Tensor[], closure: Closure): Tensor {
  const tape = tapeOf(y.gpu);
  if (!tape.enabled) return y;
  if (inputs.some(tracks)) y.node = new OpNode(tape.nodes++, name, inputs, closure, now(y.gpu));
  if (inputs.some((x) => ofGradients.has(x))) ofGradients.add(y);
  return y;
}

/**
 * Tells autograd how `y` came from `inputs`. `backward` gets dy and, per input, whether a gradient is wanted; it returns gradients
 * of the inputs' shapes (undefined where none is wanted or none exists). Returns y.
 * @example
 * const twice = (x) => record('twice', noGrad(gpu, () => mul(x, 2)), [x], (dy) => [mul(dy, 2)]);
 * const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * console.log(await backward(sum(twice(x))).get(x).read()); // [2, 2]
 */
export const record = (name: string, y: Tensor, inputs: readonly Tensor[], backward: Backward): Tensor =>
  remember(name, y, inputs, { takes: 'plain', backward });

/** Like `record`, for an op that makes an activation: `backward` may get the gradient with the derivative taken. */
export const recordActivation = (
  name: string,
  y: Tensor,
  inputs: readonly Tensor[],
  backward: Backward<Tensor | ActivatedGradient>,
): Tensor => remember(name, y, inputs, { takes: 'activated', backward });

/**
 * A tensor for the gradient of x, f32: beside the others if x is packed and this is its first gradient, else a separate tensor.
 * @example
 * const w = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * console.log(gradientLike(w).shape); // [2]
 */
export function gradientLike(x: Tensor): Tensor {
  const pack = packOf(x);
  if (!pack?.tensors.includes(x)) return empty(x.gpu, x.shape, 'f32', `d${x.label}`);
  const { packed } = tapeOf(x.gpu);
  let gradients = packed.get(x.storage);
  if (!gradients) {
    const flat = empty(x.gpu, pack.flat.shape, 'f32', 'gradients');
    run(fillShader('f32', 0), { y: flat }, { threads: flat.size }); // no other launch writes the gaps between parameters
    const places = placesIn(flat, pack.tensors);
    gradients = { flat, free: new Map(pack.tensors.map((t, i) => [t, places[i]!])) };
    packed.set(x.storage, gradients);
  }
  const place = gradients.free.get(x);
  gradients.free.delete(x);
  return place ?? empty(x.gpu, x.shape, 'f32', `d${x.label}`);
}

/**
 * Gradients of leaves, and of results that were marked `requiresGrad`.
 * @example
 * const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * const gradients = backward(sum(square(x)));
 * console.log(gradients instanceof Gradients, await gradients.get(x).read()); // true [2, 4]
 */
export class Gradients {
  readonly #of = new Map<Tensor, Tensor>();

  /** The gradient of the loss with respect to `x`, of x's shape; undefined when the loss does not depend on it. */
  get(x: Tensor): Tensor | undefined {
    return this.#of.get(x);
  }

  /** @internal Gradients of packed parameters as one tensor of the same layout, by the parameters' storage. */
  packed: ReadonlyMap<Storage, { flat: Tensor }> = new Map();

  /** @internal */
  add(x: Tensor, dx: Tensor): void {
    const before = this.#of.get(x);
    if (!before) {
      this.#of.set(x, dx);
      return;
    }
    const sum = empty(x.gpu, x.shape, x.dtype, before.label);
    const width = x.size % 4 === 0 ? 4 : 1;
    run(accumulateShader(x.dtype as 'f32', width), { a: before, b: dx, sum }, { threads: x.size / width });
    this.#of.set(x, sum);
  }

  /** @internal */
  drop(x: Tensor): void {
    this.#of.delete(x);
  }

  /** @internal Marks what is there now as gradients. `seed`, which the caller made, is none. */
  seal(seed: Tensor): void {
    for (const dx of this.#of.values()) if (dx !== seed) ofGradients.add(dx);
  }
}

/**
 * Records the gradient of `loss` (shape []) with respect to every tensor between it and a parameter. `seed`, of the
 * loss's shape, dtype and device, replaces d(loss) = 1; then `loss` may have any shape. Throws a ShapeError when the loss is not
 * one number, depends on no parameter, is computed from a gradient (there are no gradients of gradients; `detach` makes one a
 * constant), or the seed does not fit it, and a GpuError when a tensor that a gradient is computed from was changed since (by `write`,
 * an optimizer's step, a captured step).
 * @example
 * const x = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * console.log(await backward(sum(square(x))).get(x).read()); // [2, 4]
 */
export function backward(loss: Tensor, seed?: Tensor): Gradients {
  if (!(loss as Partial<Tensor> | undefined)?.gpu) {
    throw new ShapeError(`backward: the loss is ${showValue(loss)} — expected the tensor that an op gave.`);
  }
  if (loss.size !== 1 && !seed) {
    throw new ShapeError(
      `backward: the loss must be one number — got ${show(loss.shape)}. Reduce it with mean() or sum().`,
    );
  }
  if (seed && (seed.gpu !== loss.gpu || seed.dtype !== loss.dtype || !sameShape(seed.shape, loss.shape))) {
    const where = seed.gpu === loss.gpu ? '' : ' on another device';
    throw new ShapeError(
      `backward: the seed is the gradient of the loss — got ${seed.dtype} ${show(seed.shape)}${where}, expected ${loss.dtype} ${show(loss.shape)} on the loss's device. Make it of the loss's shape and type.`,
    );
  }
  if (ofGradients.has(loss)) {
    throw new ShapeError(
      'backward: the loss is computed from a gradient, and there are no gradients of gradients. Where it is a constant, use detach(gradient).',
    );
  }
  if (!tracks(loss)) {
    throw new ShapeError(
      'backward: the loss depends on no parameter. Set requiresGrad, and do not call it under noGrad.',
    );
  }
  const { gpu } = loss;
  const tape = tapeOf(gpu);
  const gradients = new Gradients();
  tape.packed = new Map();
  try {
    noGrad(gpu, () => {
      if (!seed) {
        seed = empty(gpu, loss.shape, loss.dtype, 'dloss');
        run(fillShader(loss.dtype as 'f32', 1), { y: seed }, { threads: 1 });
      }
      gradients.add(loss, seed);
      walk(loss, seed, gradients);
      gradients.seal(seed);
    });
    gradients.packed = tape.packed;
  } finally {
    tape.packed = new Map();
  }
  return gradients;
}

/** Runs the closures of all ops behind `loss`, the latest op first. */
function walk(loss: Tensor, seed: Tensor, gradients: Gradients): void {
  const uses = new Map<Tensor, number>(); // uses whose closures have not run yet
  const reached = new Set<Tensor>();
  const stack = [loss];
  for (let y = stack.pop(); y; y = stack.pop()) {
    if (reached.has(y)) continue;
    reached.add(y);
    for (const x of y.node?.inputs ?? []) {
      if (!tracks(x)) continue;
      stack.push(x);
      uses.set(x, (uses.get(x) ?? 0) + 1);
    }
  }
  const activated = new Map<Tensor, ActivatedGradient>();
  const ordered = [...reached].filter((y) => y.node).sort((a, b) => b.node!.id - a.node!.id);
  for (const y of ordered) {
    const { name, inputs, closure, time } = nodeOf(y)!;
    const needs = inputs.map(tracks);
    const flow: GradientFlow = {
      activated: (i) => {
        const x = inputs[i]!;
        return uses.get(x) === 1 && !x.requiresGrad && nodeOf(x)?.closure.takes === 'activated';
      },
      take: (i) => {
        const sum = gradients.get(inputs[i]!);
        gradients.drop(inputs[i]!);
        return sum;
      },
    };
    const dy = gradients.get(y);
    if (!y.requiresGrad) gradients.drop(y);
    const g = activated.get(y);
    activated.delete(y);
    const dxs = recordGradient(y.gpu, { op: name, time, except: seed.storage }, (): ReturnType<Backward> => {
      if (closure.takes === 'activated') return (g ?? dy) ? closure.backward((g ?? dy)!, needs, flow) : [];
      return dy ? closure.backward(dy, needs, flow) : [];
    });
    dxs.forEach((dx, i) => {
      const x = inputs[i]!;
      if (!dx || !needs[i]) return;
      if (!sameShape(dx.shape, x.shape)) {
        throw new ShapeError(`${name}: gradient ${i} has shape ${show(dx.shape)}, its input has ${show(x.shape)}.`);
      }
      if (!(dx instanceof ActivatedGradient)) {
        gradients.add(x, dx);
      } else if (flow.activated(i) && !gradients.get(x)) {
        activated.set(x, dx);
      } else {
        throw new GpuError(
          `${name}: gradient ${i} has its activation's derivative taken, and is not the whole gradient of that activation. Return a tensor unless flow.activated(${i}), and take what there is.`,
        );
      }
    });
    for (const x of inputs) if (uses.has(x)) uses.set(x, uses.get(x)! - 1);
  }
}
