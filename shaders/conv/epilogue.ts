// What rides along with a convolution's kernel and what follows its sums, once for all families: storing, statistics for a norm,
// the derivative of an activation with its norm's sums, an earlier gradient (`base`) that is added. The formulas are in fusion.ts.
// A family says in `Results` how its threads hold their sums; vectors of channels are numbered q, as in `sum0`. White space in the
// texts is kept as it is: a choice that the tuner remembered counts only for the very text that was measured.
import type { Float } from '../wgsl.js';
import { activatedGradient, type ConvFusion, dropoutFactors, groupOf, normalized, tailFunction } from './fusion.js';
import { type bindings, float, type Parts, vector, type WeightOrder } from './geometry.js';

/** What a launch of a forward kernel computes, whatever its family and tile. */
export interface KernelOptions {
  readonly weights: WeightOrder;
  readonly bias: boolean;
  readonly fusion?: ConvFusion;
  /** Storage of weight and bias, that of x if not given: f32 masters serve f16 activations as they are. */
  readonly parameters?: Float;
  /** Of the entry point. */
  readonly name?: string;
}

/** One vector of output channels of one pixel that lies inside the output, in WGSL expressions. */
interface Output {
  readonly q: number;
  readonly value: string;
  /** Where it lies in y, z and base, as the family counts, and its first channel. */
  readonly at: string;
  readonly channel: string;
}

/** How the vectors of a family lie in memory. */
export interface Vectors {
  /** Their type. */
  readonly V: string;
  load(name: 'z' | 'base', at: string, channel: string): string;
  store(at: string, value: string, channel: string): string;
  /** What dropout multiplies the vector at `at` by. */
  factors(at: string): string;
  /** Of the vector's channels: a row of `zCoefficients`, of those of group `group` if there are several. */
  coefficient(row: number, q: number, group: string | undefined): string;
  /** Writes a row of the part `part` of `partials`. */
  storePart(row: 0 | 1, q: number, value: string): string;
}

/** The sums of a thread. */
export interface Results extends Vectors {
  readonly parts: Parts;
  /** Vectors of channels that the thread has, by number; those of a set are finished together. */
  readonly sets: readonly (readonly number[])[];
  /** Statements that do `body` with every output of a set. */
  each(set: readonly number[], body: (output: Output) => string): readonly string[];
  /** Statements that define `total`: the sum of `value` over the threads of the same channels, in a fixed order. */
  addUp(value: string, total: string): string;
  /** The condition of the threads that write the part of their channels; all do if not given. */
  readonly writesPart?: string;
  /** The statement sum += a · b. */
  addProduct(sum: string, a: string, b: string): string;
}

/** What else a kernel binds, in this order, and the functions for it. `loaded` and `stored` are elements of a vector of x and y. */
export function ridingAlong(
  binding: ReturnType<typeof bindings>,
  { load, statistics = false, gradient, base = false }: ConvFusion,
  { dtype, loaded, stored }: { dtype: Float; loaded: number; stored: 1 | 2 | 4 },
): string[] {
  const draws = Boolean(load?.dropout || gradient?.dropout);
  return [
    ...(load ? [binding('read', 'coefficients', float(loaded)), tailFunction(float(loaded), load)] : []),
    ...(statistics || gradient ? [binding('read_write', 'partials', float(stored))] : []),
    ...(gradient ? [binding('read', 'z', vector(dtype, stored)), binding('read', 'zCoefficients', float(stored))] : []),
    ...(draws ? [binding('read', 'random', 'u32'), binding('read', 'stream', 'u32')] : []),
    ...(base ? [binding('read', 'base', vector(dtype, stored))] : []),
    ...(load?.dropout ? [dropoutFactors(load.dropout, loaded)] : []),
    ...(gradient?.dropout ? [dropoutFactors(gradient.dropout, stored)] : []),
  ];
}

/** What a kernel does with its sums. Needs `part`, the number of its part of `partials`, where there are any. */
export function epilogue({ load, statistics = false, gradient, base = false }: ConvFusion, results: Results): string[] {
  if (gradient && (load || statistics)) {
    throw new TypeError(
      `epilogue: gradient and ${load ? 'load' : 'statistics'} — expected one of them. An input gradient loads and leaves plain numbers.`,
    );
  }
  if (gradient) {
    const group = groupOf(gradient);
    const sets = results.sets.flatMap((set) => gradientOf(gradient, base, results, set));
    return group ? [`  let zGroup = ${group};`, ...sets] : sets;
  }
  if (!statistics) {
    return results.sets.flatMap((set) =>
      results.each(set, ({ at, value, channel }) => results.store(at, value, channel)),
    );
  }
  return [
    `  let pixelCount = f32(${results.parts.pixelsOf});`,
    ...results.sets.flatMap((set) => statisticsOf(results, set)),
  ];
}

/** From the sums, in two passes: mean, then squares around it. */
function statisticsOf(results: Results, set: readonly number[]): string[] {
  const { V, each, store, addUp, addProduct } = results;
  return [
    ...set.map((q) => `  var sum${q} = ${V}(0.0);`),
    ...each(set, ({ q, at, value, channel }) => `${store(at, value, channel)} sum${q} += ${value};`),
    ...set.map((q) => `${addUp(`sum${q}`, `total${q}`)}\n  let average${q} = total${q} / pixelCount;`),
    ...set.map((q) => `  var squares${q} = ${V}(0.0);`),
    ...each(
      set,
      ({ q, value }) => `{ let apart = ${value} - average${q}; ${addProduct(`squares${q}`, 'apart', 'apart')} }`,
    ),
    ...set.map((q) => addUp(`squares${q}`, `spread${q}`)),
    ...partOf(results, set, 'average', 'spread'),
  ];
}

function gradientOf(
  { slope, dropout, groups }: NonNullable<ConvFusion['gradient']>,
  base: boolean,
  results: Results,
  set: readonly number[],
): string[] {
  const { V, each, load, store, factors, coefficient, addUp, addProduct } = results;
  const derivative = ({ q, value, at, channel }: Output): string => `{
    let place = ${at};
    let da = ${base ? `${value} + ${load('base', 'place', channel)}` : value};
    let centered = ${load('z', 'place', channel)} - mean${q};
    let n = ${normalized('centered', `${V}(0.0)`, `scale${q}`, `shift${q}`)};
    let g = da * ${activatedGradient('n', V, slope)}${dropout ? ` * ${factors('place')}` : ''};
    sum${q} += g;
    ${addProduct(`product${q}`, 'g', 'centered')}
    ${store('place', 'g', channel)}
  }`;
  return [
    ...set.flatMap((q) => [
      ...['mean', 'scale', 'shift'].map(
        (name, row) => `  let ${name}${q} = ${coefficient(row, q, groups && 'zGroup')};`,
      ),
      `  var sum${q} = ${V}(0.0);`,
      `  var product${q} = ${V}(0.0);`,
    ]),
    ...each(set, derivative),
    ...set.flatMap((q) => [addUp(`sum${q}`, `total${q}`), addUp(`product${q}`, `moment${q}`)]),
    ...partOf(results, set, 'total', 'moment'),
  ];
}

function partOf(results: Results, set: readonly number[], first: string, second: string): string[] {
  const { writesPart, storePart } = results;
  const rows = set.flatMap((q) => [storePart(0, q, `${first}${q}`), storePart(1, q, `${second}${q}`)]);
  return writesPart === undefined ? rows : [`  if (${writesPart}) {`, ...rows, '  }'];
}
