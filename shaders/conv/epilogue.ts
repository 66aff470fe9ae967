// The epilogue of a convolution kernel, written once for all families. It stores the sums, computes statistics for the norm that
// follows, or takes the derivative of an activation and adds up what its norm needs, after adding an earlier gradient (`base`).
// fusion.ts has the formulas. A family describes in `Results` how its threads hold their sums; vectors of channels are numbered q,
// as in `sum0`. Leave the white space of the texts alone: the tuner remembers a choice for exactly the text that it measured.
import type { Float } from '../wgsl.js';
import {
  activationFunction,
  type ConvFusion,
  dropoutBindings,
  factorsOf,
  groupOf,
  leakyReluDerivative,
  normalized,
} from './fusion.js';
import { type bindings, float, type Parts, vector, type WeightOrder } from './geometry.js';

/** What a launch of a forward kernel computes, whatever its family and tile. */
export interface KernelOptions {
  readonly weights: WeightOrder;
  readonly bias: boolean;
  readonly fusion?: ConvFusion;
  /** Element type of weight and bias, that of x if not given: a kernel on f16 tensors can read f32 master weights. */
  readonly parameters?: Float;
  /** Name of the entry point. */
  readonly name?: string;
}

/** One vector of output channels at one pixel inside the output, as WGSL expressions. */
interface Output {
  readonly q: number;
  readonly value: string;
  /** Its index in y, z and base, and its first channel, in whatever unit the family counts. */
  readonly at: string;
  readonly channel: string;
}

/** How the vectors of a family lie in memory. */
export interface Vectors {
  /** Their type. */
  readonly V: string;
  load(name: 'z' | 'base', at: string, channel: string): string;
  store(at: string, value: string, channel: string): string;
  /** Dropout factors of the vector at `at`. */
  factors(at: string): string;
  /** Row `row` of `zCoefficients` for the channels of vector q; of group `group` where there are several. */
  coefficient(row: number, q: number, group: string | undefined): string;
  /** Writes row `row` of part `part` of `partials`. */
  storePart(row: 0 | 1, q: number, value: string): string;
}

/** The sums of a thread. */
export interface Results extends Vectors {
  readonly parts: Parts;
  /** Vectors of channels that the thread has, by number; those of a set are finished together. */
  readonly sets: readonly (readonly number[])[];
  /** Statements that apply `body` to every output of a set. */
  each(set: readonly number[], body: (output: Output) => string): readonly string[];
  /** Statements that define `total`: the sum of `value` over the threads of the same channels, in a fixed order. */
  addUp(value: string, total: string): string;
  /** Condition under which a thread writes the part of its channels; if not given, every thread does. */
  readonly writesPart?: string;
  /** The statement sum += a · b. */
  addProduct(sum: string, a: string, b: string): string;
}

/** The extra bindings of a fused kernel, in order, and their functions. `loaded` and `stored`: elements of a vector of x and y. */
export function ridingAlong(
  binding: ReturnType<typeof bindings>,
  { onLoad, statistics = false, gradient, base = false }: ConvFusion,
  { dtype, loaded, stored }: { dtype: Float; loaded: number; stored: 1 | 2 | 4 },
): string[] {
  const drawn = onLoad?.dropout ? onLoad : gradient;
  return [
    ...(onLoad ? [binding('read', 'coefficients', float(loaded)), activationFunction(float(loaded), onLoad)] : []),
    ...(statistics || gradient ? [binding('read_write', 'partials', float(stored))] : []),
    ...(gradient ? [binding('read', 'z', vector(dtype, stored)), binding('read', 'zCoefficients', float(stored))] : []),
    ...(drawn ? dropoutBindings(drawn).map((name) => binding('read', name, 'u32')) : []),
    ...(base ? [binding('read', 'base', vector(dtype, stored))] : []),
    ...(onLoad?.dropout ? [factorsOf(onLoad, loaded)] : []),
    ...(gradient?.dropout ? [factorsOf(gradient, stored)] : []),
  ];
}

/** Statements that finish a kernel's sums. Where they write `partials`, they need `part`, the index of the thread's part. */
export function epilogue(
  { onLoad, statistics = false, gradient, base = false }: ConvFusion,
  results: Results,
): string[] {
  if (gradient && (onLoad || statistics)) {
    throw new TypeError(
      `epilogue: gradient and ${onLoad ? 'onLoad' : 'statistics'} — expected one of them. An input gradient applies nothing on load and writes no statistics.`,
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

/** Statistics of a set in two passes over its sums: the mean, then the squares around it. */
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
    let g = da * ${leakyReluDerivative('n', V, slope)}${dropout ? ` * ${factors('place')}` : ''};
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
