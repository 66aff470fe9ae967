// Arguments of a captured step. Inside the step each is a tensor over a slot: a storage that the recording reads like any other
// input. A call puts the buffer of the tensor it is given into the slot, which costs nothing if the last call was given the same one.
import { type Gpu, GpuError } from './device.js';
import type { Dtype, NestedNumbers } from './elements.js';
import { inherit } from './fate.js';
import { acquire, release, Storage } from './memory.js';
import type { Recording } from './stream.js';
import { empty, Tensor, tensor } from './tensor.js';
import { copyTensors } from './transfer.js';

/** What a call of a step gives where the step's function gets a tensor: a tensor, or numbers, of which the call makes one. */
export type StepArgument = Tensor | number | NestedNumbers;

/** Types of numbers by the name of their typed array; all others are f32. */
const dtypes: Record<string, Dtype> = {
  Uint8Array: 'u8',
  Uint8ClampedArray: 'u8',
  Uint32Array: 'u32',
  Int32Array: 'i32',
};

/**
 * The arguments of a call as tensors, for a function that names `count` parameters. Throws a GpuError for another number of them, and
 * a ShapeError for what is neither a tensor nor numbers.
 */
export function givenOf(gpu: Gpu, args: readonly unknown[], count: number): Tensor[] {
  // requestAnimationFrame passes a time, forEach an index, to functions that name no parameter, too.
  const meant = args.filter((arg) => count || arg instanceof Tensor || ArrayBuffer.isView(arg));
  if (meant.length !== count) {
    throw new GpuError(`capture: got ${meant.length} arguments, expected the ${count} that its function names.`);
  }
  return meant.map((arg, i) =>
    arg instanceof Tensor
      ? arg
      : tensor(gpu, arg as number, undefined, {
          dtype: dtypes[(arg as object)?.constructor.name] ?? 'f32',
          label: `argument ${i + 1}`,
        }),
  );
}

/** Calls of one key share a recording. */
export const keyOf = (given: readonly Tensor[]): string =>
  given.map(({ dtype, shape, requiresGrad }) => `${dtype} ${shape} ${requiresGrad}`).join(';');

/** Tensors over slots, which have no buffers yet. */
export const slotsFor = (given: readonly Tensor[]): Tensor[] =>
  given.map(({ gpu, shape, dtype, bytes, requiresGrad }, i) => {
    const slot = new Tensor(gpu, shape, dtype, new Storage(bytes, `argument ${i + 1}`));
    slot.storage.buffer = {} as GPUBuffer; // not undefined, or the planner would make one
    slot.requiresGrad = requiresGrad;
    return slot;
  });

/** Throws a GpuError if one of these storages is a slot, whose contents are the caller's. */
export function checkSlots(slots: readonly Tensor[], storages: ReadonlySet<Storage>): void {
  const slot = slots.find(({ storage }) => storages.has(storage));
  if (slot) throw new GpuError(`capture: the step returns or changes its ${slot.label}. Compute a new tensor from it.`);
}

/**
 * Gives the slots what a call was given; returns the tensors whose buffers they have. A tensor that the recording writes is copied:
 * no launch may read and write one buffer, and a later launch would read what an earlier one has written. Throws a GpuError for a
 * tensor without contents.
 */
export const fill = (
  gpu: Gpu,
  slots: readonly Tensor[],
  given: readonly Tensor[],
  { launches, temporaries, changes }: Recording,
): Tensor[] =>
  given.map((arg, i) => {
    const { storage: slot, label } = slots[i]!;
    const { dead, buffer } = arg.storage;
    const wrong =
      arg.gpu === gpu ? (dead ? 'died with its scope' : !buffer && 'was never written') : 'is on another device';
    if (wrong) throw new GpuError(`capture: ${label}, '${arg.label}', ${wrong}.`);
    let source = arg;
    if (arg.offset || temporaries.has(arg.storage) || changes.some(({ storage }) => storage === arg.storage)) {
      source = empty(gpu, arg.shape, arg.dtype, label);
      source.storage.buffer = acquire(gpu, source.bytes, label);
      copyTensors(gpu, [{ from: arg, to: source }]);
    }
    inherit(slot, source.storage);
    if (slot.buffer !== source.storage.buffer) {
      slot.buffer = source.storage.buffer;
      for (const launch of launches)
        if (launch.args.some(({ storage }) => storage === slot)) launch.bindGroup = undefined;
    }
    return source;
  });

/** Ends the life of a tensor that a call made; what was submitted with it runs. */
export function free({ gpu, storage }: Tensor): void {
  release(gpu, storage.buffer!);
  storage.buffer = undefined;
  storage.dead = true;
}
