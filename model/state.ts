// A module's state as bytes: safetensors with PyTorch's names and layout of weights, so that Python reads them. No file access here, so
// that a browser saves and loads as Node does; the trainer's checkpoints are these bytes with a hash.
import { ShapeError, type Tensor } from '../engine/index.js';
import { isTransposed, type Module } from './module.js';
import { decodeSafetensors, encodeSafetensors, fromPyTorch, type NamedArray, toPyTorch } from './safetensors.js';

/** Reads tensors into named arrays, in PyTorch's layout. */
export async function arraysOf(tensors: ReadonlyMap<string, Tensor>): Promise<Map<string, NamedArray>> {
  const arrays = new Map<string, NamedArray>();
  for (const [name, t] of tensors) {
    const array = { shape: t.shape, data: Float32Array.from(await t.read()) };
    arrays.set(name, toPyTorch(array, { transposed: isTransposed(t) }));
  }
  return arrays;
}

/** "'decoder.weight' holds 16 of 72 values that are not finite, first NaN at 3": of the first array that has some; undefined if none has. */
export function nonFiniteIn(arrays: ReadonlyMap<string, Pick<NamedArray, 'data'>>): string | undefined {
  for (const [name, { data }] of arrays) {
    const first = data.findIndex((value) => !Number.isFinite(value));
    if (first < 0) continue;
    const count = data.reduce((sum, value) => sum + Number(!Number.isFinite(value)), 0);
    return `'${name}' holds ${count} of ${data.length} values that are not finite, first ${data[first]} at ${first}`;
  }
  return undefined;
}

/**
 * Writes arrays in PyTorch's layout into tensors of the same names and shapes: all of them or, through `refuse`, which gets the list of
 * what does not fit, none. Counters named `num_batches_tracked` may be left over.
 */
export function assignArrays(
  arrays: ReadonlyMap<string, NamedArray>,
  tensors: ReadonlyMap<string, Tensor>,
  refuse: (why: string) => never,
): void {
  const ours = new Map(
    [...arrays].map(([name, array]) => {
      const t = tensors.get(name);
      return [name, fromPyTorch(array, { transposed: t !== undefined && isTransposed(t) })] as const;
    }),
  );
  const wrong = [
    ...[...tensors].flatMap(([name, t]) => {
      const shape = ours.get(name)?.shape;
      if (!shape) return [`'${name}' is missing`];
      return shape.join() === t.shape.join() ? [] : [`'${name}' has shape [${shape}], expected [${t.shape}]`];
    }),
    ...[...ours.keys()]
      .filter((name) => !tensors.has(name) && !name.endsWith('num_batches_tracked'))
      .map((name) => `'${name}' is unknown`),
  ];
  if (wrong.length) {
    const more = wrong.length > 5 ? `, and ${wrong.length - 5} more` : '';
    refuse(`${wrong.slice(0, 5).join(', ')}${more}`);
  }
  for (const [name, t] of tensors) t.write(ours.get(name)!.data);
}

/**
 * A module's parameters and running statistics as the bytes of a safetensors file, float32 under PyTorch's names and in its layout.
 * Rejects with a ShapeError for values that are not finite.
 */
export async function saveState(module: Pick<Module, 'state'>): Promise<Uint8Array<ArrayBuffer>> {
  const arrays = await arraysOf(module.state);
  const wrong = nonFiniteIn(arrays);
  if (wrong) throw new ShapeError(`saveState: ${wrong} — expected finite numbers. Save an earlier state.`);
  return encodeSafetensors(arrays) as Uint8Array<ArrayBuffer>;
}

/**
 * Loads what `saveState`, the trainer or PyTorch saved into a module of the same architecture. Throws a SafetensorsError for bytes
 * that are no whole safetensors file, and a ShapeError for values that are not finite and for another architecture, with the names that
 * do not fit; the module then keeps its values.
 */
export function loadState(module: Pick<Module, 'state'>, bytes: Uint8Array): void {
  const { arrays } = decodeSafetensors(bytes);
  const wrong = nonFiniteIn(arrays);
  if (wrong) throw new ShapeError(`loadState: ${wrong} — expected finite numbers. Load an earlier state.`);
  assignArrays(arrays, module.state, (why) => {
    throw new ShapeError(`loadState: the bytes hold another architecture — ${why}. Build the module that was saved.`);
  });
}
