// What ops tell each other about a tensor, so that work can ride along with a launch that touches the data anyway. A fact
// belongs to one tensor: a view of it, or whatever else shares its memory, has none of its own.
//
// | fact                               | set by                      | read by                               | who ignores it gets             |
// |------------------------------------|-----------------------------|---------------------------------------|---------------------------------|
// | activation: a is d·l(norm z)       | normActivation, leakyRelu,  | convolutions and maxPool, forward,    | a, computed by its first reader |
// |                                    | dropout of whole channels   | backward; add                         |                                 |
// | statistics: partial moments of y   | convolutions, when asked    | normActivation                        | a pass of their own             |
// | slot: x is columns of a source     | concat's backward           | upsample's and maxPool's backward     | a copy in a row                 |
// | writer: y can be computed elsewhere | normActivation, upsample    | concat                                | y, which concat then copies     |
// | derivative taken: g, not da        | backward of these           | the op that made the activation       | nothing: autograd refuses       |
//
// A fact ends when the contents that it is about change. The last one changes what a tensor means, so it is no note beside a tensor but a type, `ActivatedGradient` (autograd.ts): ops
// return one where `flow.activated` allows it, and autograd neither adds it to another gradient nor gives it to another op.
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
  /** Bound by kernels that draw dropout. */
  readonly draws: Record<string, Tensor>;
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

/** Says of what `a` is the activation. The op that says so takes an ActivatedGradient of `a` (`recordActivation`). */
export const setActivation = (a: Tensor, of: ActivationOf): unknown => activations.set(a, { ...of, time: now(a.gpu) });
export function activationOf(a: Tensor): ActivationOf | undefined {
  const of = activations.get(a);
  const from = of && [a, of.z, of.coefficients, ...Object.values(of.draws)];
  return from?.some((x) => changedSince(x, of!.time)) ? undefined : of;
}
/** The same as long as nobody has computed `a`; with dropout only for a consumer that `draws` it again. */
export function activationToLoad(a: Tensor, draws = false): ActivationOf | undefined {
  const of = activations.get(a);
  return a.storage.deferred && (draws || of?.activation.dropout === 0) ? of : undefined;
}

/** Says what the partial means and Σ (y − mean)² of y are. */
export const setStatistics = (y: Tensor, sums: PartialSums): unknown =>
  statistics.set(y, { ...sums, time: now(y.gpu) });
export function statisticsOf(y: Tensor): PartialSums | undefined {
  const sums = statistics.get(y);
  return sums && changedSince(y, sums.time) ? undefined : sums;
}

/** A tensor whose values are found in `slot` until somebody needs them in a row: `copy` records that. */
export function deferSlot(x: Tensor, slot: SlotOf, copy: () => void): Tensor {
  slots.set(x, slot);
  defer(x.gpu, x.storage, [slot.source.storage], copy);
  return x;
}
export const waitingSlot = (x: Tensor): SlotOf | undefined => (x.storage.deferred ? slots.get(x) : undefined);

/** Leaves computing `y` to its reader: `write` records the launch, into y itself or into the slot of a concatenation. */
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
export const waitingWriter = (y: Tensor): WriteInto | undefined => (y.storage.deferred ? writers.get(y) : undefined);
