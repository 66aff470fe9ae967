// A module's state as bytes: safetensors with PyTorch's names and layout of weights, so that Python reads them. No file access here, so
// that a browser saves and loads as Node does; the trainer's checkpoints are these bytes with a hash.
import { ShapeError, type Tensor } from '../engine/index.js';
import { layoutOf, type Module } from './module.js';
import { decodeSafetensors, encodeSafetensors, fromPyTorch, type NamedArray, toPyTorch } from './safetensors.js';

/** Reads tensors into named arrays, in PyTorch's layout. */
export async function arraysOf(tensors: ReadonlyMap<string, Tensor>): Promise<Map<string, NamedArray>> {
  const arrays = new Map<string, NamedArray>();
  for (const [name, t] of tensors) {
    const array = { shape: t.shape, data: Float32Array.from(await t.read()) };
    arrays.set(name, toPyTorch(array, layoutOf(t)));
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

/** Arrays one after another along their first axis. */
function joined(arrays: readonly NamedArray[]): NamedArray {
  const [first] = arrays;
  if (arrays.length === 1) return first!;
  const data = new Float32Array(arrays.reduce((sum, array) => sum + array.data.length, 0));
  let at = 0;
  for (const array of arrays) {
    data.set(array.data, at);
    at += array.data.length;
  }
  return {
    shape: first!.shape.with(
      0,
      arrays.reduce((sum, { shape }) => sum + shape[0]!, 0),
    ),
    data,
  };
}

/** The names of a file, and those of the tensors that each holds one after another. Throws a ShapeError where they cannot lie so. */
function placesOf(
  op: string,
  tensors: ReadonlyMap<string, Tensor>,
  names: (name: string) => string,
): Map<string, string[]> {
  const places = new Map<string, string[]>();
  for (const [name, { shape }] of tensors) {
    const place = names(name);
    const before = places.get(place) ?? [];
    const first = before.length ? tensors.get(before[0]!)!.shape : shape;
    if (before.length && (shape.length > 3 || first.slice(1).join() !== shape.slice(1).join() || !shape.length)) {
      throw new ShapeError(
        `${op}: names give '${before[0]}' [${first}] and '${name}' [${shape}] one name, '${place}' — expected one to three axes that agree behind the first. Give them two names.`,
      );
    }
    places.set(place, [...before, name]);
  }
  return places;
}

/**
 * Writes arrays in PyTorch's layout into tensors of the same names and shapes: all of them or, through `refuse`, which gets the list of
 * what does not fit, none. Counters named `num_batches_tracked` may be left over. `names`: as `StateOptions`.
 */
export function assignArrays(
  arrays: ReadonlyMap<string, NamedArray>,
  tensors: ReadonlyMap<string, Tensor>,
  refuse: (why: string) => never,
  names = (name: string): string => name,
): void {
  const places = placesOf('loadState', tensors, names);
  const values = new Map<Tensor, Float32Array>();
  const wrong = [...places].flatMap(([name, ours]) => {
    const array = arrays.get(name);
    if (!array) return [`'${name}' is missing`];
    const members = ours.map((own) => tensors.get(own)!);
    const { shape, data } = fromPyTorch(array, layoutOf(members[0]!));
    const sizes = members[0]!.shape.map((n, axis) => (axis ? n : members.reduce((sum, t) => sum + t.shape[0]!, 0)));
    if (shape.join() !== sizes.join()) return [`'${name}' has shape [${shape}], expected [${sizes}]`];
    let at = 0;
    for (const t of members) values.set(t, data.subarray(at, (at += t.size)));
    return [];
  });
  wrong.push(
    ...[...arrays.keys()]
      .filter((name) => !places.has(name) && !name.endsWith('num_batches_tracked'))
      .map((name) => `'${name}' is unknown`),
  );
  if (wrong.length) {
    const more = wrong.length > 5 ? `, and ${wrong.length - 5} more` : '';
    refuse(`${wrong.slice(0, 5).join(', ')}${more}`);
  }
  for (const [t, data] of values) t.write(data);
}

/** Options of `saveState` and `loadState`. */
export interface StateOptions {
  /**
   * The name in the file of what the module calls so, such as `torchNames`; by default its own. Several tensors of one name lie one after
   * another along their first axis there, in the module's order.
   */
  names?: ((name: string) => string) | undefined;
}

/**
 * Names of PyTorch's own layers: those of this package, but that `nn.MultiheadAttention` keeps the projections of queries, keys and values
 * as one `in_proj_weight` and one `in_proj_bias`. Where modules have other names, too: `(name) => torchNames(name.replace(…))`.
 * @example
 * console.log(torchNames('encoder.0.k_proj.weight')); // encoder.0.in_proj_weight
 */
export const torchNames = (name: string): string => name.replace(/(^|\.)[qkv]_proj\.(weight|bias)$/, '$1in_proj_$2');

/**
 * A module's parameters and running statistics as the bytes of a safetensors file, float32 in PyTorch's layout, under their own names or
 * those that the option `names` gives them. Rejects with a ShapeError for values that are not finite.
 * @example
 * const bytes = await saveState(projection(gpu, { inputs: 4, hidden: 3, outputs: 2 }));
 * console.log([...decodeSafetensors(bytes).arrays.keys()]); // [projection.0.weight, projection.0.bias, projection.2.weight, projection.2.bias]
 */
export async function saveState(
  { state }: Pick<Module, 'state'>,
  { names = (name) => name }: StateOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const places = placesOf('saveState', state, names);
  const arrays = await arraysOf(state);
  const wrong = nonFiniteIn(arrays);
  if (wrong) throw new ShapeError(`saveState: ${wrong} — expected finite numbers. Save an earlier state.`);
  const placed = [...places].map(([name, ours]) => [name, joined(ours.map((own) => arrays.get(own)!))] as const);
  return encodeSafetensors(new Map(placed)) as Uint8Array<ArrayBuffer>;
}

/**
 * Loads what `saveState`, the trainer or PyTorch saved into a module of the same architecture. Throws a SafetensorsError for bytes
 * that are no whole safetensors file, and a ShapeError for values that are not finite and for another architecture, with the names that
 * do not fit; the module then keeps its values.
 * @example
 * const [to, from] = [1, 2].map((seed) => projection(gpu, { inputs: 4, seed }));
 * loadState(to, await saveState(from)); console.log((await to.parameters[0].read())[0] === (await from.parameters[0].read())[0]); // true
 */
export function loadState(module: Pick<Module, 'state'>, bytes: Uint8Array, { names }: StateOptions = {}): void {
  const { arrays } = decodeSafetensors(bytes);
  const wrong = nonFiniteIn(arrays);
  if (wrong) throw new ShapeError(`loadState: ${wrong} — expected finite numbers. Load an earlier state.`);
  const refuse = (why: string): never => {
    throw new ShapeError(`loadState: the bytes hold another architecture — ${why}. Build the module that was saved.`);
  };
  assignArrays(arrays, module.state, refuse, names);
}
