// What ops tell each other about a tensor, so that work can ride along with a launch that touches the data anyway. All of it
// is optional: whoever does not ask gets the plain tensor.
import type { Activation, Parts } from '../../shaders/conv-fusion.js';
import type { Storage } from '../memory.js';
import { defer } from '../stream.js';
import type { Tensor } from '../tensor.js';

/** A tensor that is the activation of the norm of z. While its storage is deferred, a consumer may compute it on load. */
export interface ActivationOf {
  readonly z: Tensor;
  /** [4, C], see shaders/norm-activation.ts. */
  readonly coefficients: Tensor;
  readonly activation: Activation;
  /** Bound by kernels that draw dropout. */
  readonly draws: Record<string, Tensor>;
}

/** Partial sums that a kernel wrote beside its output, [parts, 2, C]. */
export interface PartialSums {
  readonly partials: Tensor;
  readonly parts: Parts;
}

/** A tensor that is columns `offset` … of the last axis of `source`, whose last axis has `row` elements. */
export interface SlotOf {
  readonly source: Tensor;
  readonly row: number;
  readonly offset: number;
}

/** Writes the tensor's values into a slot of another one. */
export type WriteInto = (slot: SlotOf) => void;

const activations = new WeakMap<Storage, ActivationOf>();
const statistics = new WeakMap<Storage, PartialSums>();
const gradientSums = new WeakMap<Storage, PartialSums>();
const slots = new WeakMap<Storage, SlotOf>();
const writers = new WeakMap<Storage, WriteInto>();

/** Set by normActivation: of what its output is the activation. */
export const setActivation = (a: Tensor, of: ActivationOf): unknown => activations.set(a.storage, of);
export const activationOf = (a: Tensor): ActivationOf | undefined => activations.get(a.storage);
/** The same as long as nobody has computed the output; with dropout only for a consumer that `draws` it again. */
export function activationToLoad(a: Tensor, draws = false): ActivationOf | undefined {
  const of = activations.get(a.storage);
  return a.storage.deferred && (draws || of?.activation.dropout === 0) ? of : undefined;
}

/** Set by conv: partial means and Σ (y − mean)² of its output. */
export const setStatistics = (y: Tensor, sums: PartialSums): unknown => statistics.set(y.storage, sums);
export const statisticsOf = (y: Tensor): PartialSums | undefined => statistics.get(y.storage);

/** Set by an op's backward: the gradient it gives is g, not da, of a normActivation, with these sums of g (norm-activation.ts). */
export const setGradientSums = (g: Tensor, sums: PartialSums): unknown => gradientSums.set(g.storage, sums);
export const gradientSumsOf = (g: Tensor): PartialSums | undefined => gradientSums.get(g.storage);

/** A tensor whose values are found in `slot` until somebody needs them in a row: `copy` records that. */
export function deferSlot(x: Tensor, slot: SlotOf, copy: () => void): Tensor {
  slots.set(x.storage, slot);
  defer(x.gpu, x.storage, [slot.source.storage], copy);
  return x;
}
export const waitingSlot = (x: Tensor): SlotOf | undefined => (x.storage.deferred ? slots.get(x.storage) : undefined);

/** Leaves computing `y` to its reader: `write` records the launch, into y itself or into the slot of a concatenation. */
export function deferWrite(y: Tensor, reads: readonly Tensor[], write: WriteInto): void {
  writers.set(y.storage, write);
  const channels = y.shape.at(-1)!;
  defer(
    y.gpu,
    y.storage,
    reads.map(({ storage }) => storage),
    () => write({ source: y, row: channels, offset: 0 }),
  );
}
export const waitingWriter = (y: Tensor): WriteInto | undefined =>
  y.storage.deferred ? writers.get(y.storage) : undefined;
