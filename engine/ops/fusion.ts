// Facts about a tensor that ops tell each other, so that a launch which touches the data anyway can do more of the work. A fact
// belongs to one tensor: a view of it, or whatever else shares its memory, has none.
//
// | fact                                | set by                      | read by                               | an op that ignores it gets      |
// |-------------------------------------|-----------------------------|---------------------------------------|---------------------------------|
// | activation: a is d·l(norm z)        | normActivation, leakyRelu,  | convolutions, maxPool and projections | a, computed by its first reader |
// |                                     | dropout of whole channels   | of prototypes, both ways; add         |                                 |
// | statistics: partial moments of y    | convolutions, when asked    | normActivation                        | a pass that computes them       |
// | slot: x is some columns of a source | concat's backward           | upsample's and maxPool's backward     | a contiguous copy               |
// | writer: y can be computed elsewhere | normActivation, upsample    | concat                                | y, which concat then copies     |
// | derivative taken: g in place of da  | convolutions' and maxPool's | the op that made the activation       | nothing: autograd refuses       |
// |                                     | backward                    |                                       |                                 |
//
// A fact ends when the tensor's contents change. The last fact changes what a tensor means, so it is a type, `ActivatedGradient`
// (autograd.ts), and not a note beside a tensor. Ops return one where `flow.activated` allows it, and autograd neither adds it to
// another gradient nor gives it to another op.
import type { Activation } from '../../shaders/conv/fusion.js';
import type { PartialSums } from '../autograd.js';
import { changedSince, now } from '../changes.js';
import { defer } from '../stream.js';
import type { Tensor } from '../tensor.js';

/** A tensor that is the activation of the norm of z. While its storage is deferred, a consumer may compute it on load. */
export interface ActivationOf {
  readonly z: Tensor;
  /** [groups, 4, C], see shaders/norm-activation.ts. */
  readonly coefficients: Tensor;
  readonly activation: Activation;
  /** Tensors that kernels bind to draw dropout. */
  readonly draws: Record<string, Tensor>;
  /** Adds two activations that wait: `addActivations`. The op that defers one brings it, so that `add` alone does not carry it. */
  readonly add: (a: Tensor, b: Tensor, ofA: ActivationOf, ofB: ActivationOf) => Tensor;
}

/** A tensor that is columns `offset` … of the last axis of `source`, whose last axis has `row` elements. */
export interface SlotOf {
  readonly source: Tensor;
  readonly row: number;
  readonly offset: number;
}

/** Writes the tensor's values into a slot of another one. */
export type WriteInto = (slot: SlotOf) => void;

const activations = new WeakMap<Tensor, ActivationOf & { time: number }>();
const statistics = new WeakMap<Tensor, PartialSums & { time: number }>();
const slots = new WeakMap<Tensor, SlotOf>();
const writers = new WeakMap<Tensor, WriteInto>();

/** Notes that `a` is an activation. The op that notes it must accept an ActivatedGradient of `a` (`recordActivation`). */
export const setActivation = (a: Tensor, of: ActivationOf): unknown => activations.set(a, { ...of, time: now(a.gpu) });
export function activationOf(a: Tensor): ActivationOf | undefined {
  const of = activations.get(a);
  const from = of && [a, of.z, of.coefficients, ...Object.values(of.draws)];
  return from?.some((x) => changedSince(x, of!.time)) ? undefined : of;
}
/** The same while `a` is deferred. An activation with dropout is given only to a consumer that `draws` it again. */
export function deferredActivation(a: Tensor, draws = false): ActivationOf | undefined {
  const of = activations.get(a);
  return a.storage.deferred && (draws || of?.activation.dropout === 0) ? of : undefined;
}

/** Notes the partial means and Σ (y − mean)² of y. */
export const setStatistics = (y: Tensor, sums: PartialSums): unknown =>
  statistics.set(y, { ...sums, time: now(y.gpu) });
export function statisticsOf(y: Tensor): PartialSums | undefined {
  const sums = statistics.get(y);
  return sums && changedSince(y, sums.time) ? undefined : sums;
}

/** Defers x, whose values lie in `slot`. `copy` makes them contiguous; it is called when an op needs that. */
export function deferSlot(x: Tensor, slot: SlotOf, copy: () => void): Tensor {
  slots.set(x, slot);
  defer(x.gpu, x.storage, [slot.source.storage], copy);
  return x;
}
export const deferredSlot = (x: Tensor): SlotOf | undefined => (x.storage.deferred ? slots.get(x) : undefined);

/** Defers y until its first reader. `write` records the launch that computes it, into y itself or into a concatenation's slot. */
export function deferWrite(y: Tensor, reads: readonly Tensor[], write: WriteInto): void {
  writers.set(y, write);
  const channels = y.shape.at(-1)!;
  defer(
    y.gpu,
    y.storage,
    reads.map(({ storage }) => storage),
    () => write({ source: y, row: channels, offset: 0 }),
  );
}
export const deferredWriter = (y: Tensor): WriteInto | undefined => (y.storage.deferred ? writers.get(y) : undefined);
