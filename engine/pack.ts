// Packs: tensors that lie one after another in one buffer, so that one launch reaches all of a model's parameters.
import { showValue } from './arguments.js';
import { GpuError } from './device.js';
import { release, type Storage } from './memory.js';
import { ShapeError, show } from './shape.js';
import { Tensor, tensor, viewAt } from './tensor.js';
import { copyTensors } from './transfer.js';

/** Tensors that lie one after another in one f32 tensor, each at a multiple of 256 bytes; the gaps between them are 0. */
export interface Pack {
  readonly flat: Tensor;
  readonly tensors: readonly Tensor[];
}

const packs = new WeakMap<Storage, Pack>();
const alignment = 64; // elements: a binding begins at a multiple of 256 bytes

const packedSizes = (tensors: readonly Tensor[]): number[] =>
  tensors.map(({ size }) => Math.ceil(size / alignment) * alignment);

/**
 * Moves f32 tensors made with `tensor()` into one buffer, so that one launch reaches them all. They stay the same tensors with the
 * same values. Call it before anything uses them. Throws a ShapeError for other types and for tensors that are packed already.
 * @example
 * const { flat } = pack([tensor(gpu, [1, 2]), tensor(gpu, [3])]); // each begins at a multiple of 256 bytes
 * console.log(flat.shape); // [128]
 */
export function pack(tensors: readonly Tensor[], label = 'pack'): Pack {
  const first = tensors[0]!;
  if (!tensors.length) throw new ShapeError('pack: got no tensors.');
  for (const t of tensors) {
    if (!(t instanceof Tensor)) throw new ShapeError(`pack: got ${showValue(t)} — expected tensors.`);
    if (t.gpu !== first.gpu) throw new GpuError(`pack: '${t.label}' is on another device than '${first.label}'.`);
    if (t.dtype !== 'f32' || !t.storage.buffer || t.storage.external || t.offset > 0 || packs.has(t.storage)) {
      throw new ShapeError(
        `pack: '${t.label}' is ${t.dtype} ${show(t.shape)} — expected f32 made with tensor(), not packed yet.`,
      );
    }
  }
  const { gpu } = first;
  const sizes = packedSizes(tensors);
  const flat = tensor(gpu, 0, [sizes.reduce((a, b) => a + b)], { label });
  const places = placesIn(flat, tensors);
  copyTensors(
    gpu,
    tensors.map((from, i) => ({ from, to: places[i]! })),
  );
  tensors.forEach((t, i) => {
    release(gpu, t.storage.buffer!);
    t.storage.buffer = undefined;
    t.storage = flat.storage;
    t.offset = places[i]!.offset;
  });
  const made = { flat, tensors: [...tensors] };
  packs.set(flat.storage, made);
  return made;
}

/** The pack that a tensor is in. */
export const packOf = (x: Tensor): Pack | undefined => packs.get(x.storage);

/** Views of `flat`, a tensor of the pack's size, at the places of the pack's tensors. */
export function placesIn(flat: Tensor, tensors: readonly Tensor[]): Tensor[] {
  let at = 0;
  return packedSizes(tensors).map((size, i) => {
    const t = viewAt(flat, tensors[i]!.shape, 4 * at);
    at += size;
    return t;
  });
}
