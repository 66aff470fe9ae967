// Staging for the matrix kernels: operands lie in workgroup memory as vectors of 16 bytes, 8 components f16 or 4 f32, which a thread
// writes and a subgroup reads at once. Loops are counted, and several loads are under way before the first is used. A thread keeps to
// one vector of channels, so that it loads the coefficients of an activation once.

import { type Float, u32, wgsl } from '../wgsl.js';
import { type Activation, groupOf } from './fusion.js';
import { type ConvGeometry, lines, product, range, vector, type WeightOrder, widthOf } from './geometry.js';
import { vectorWidth } from './matrix-unit.js';
import { loadFour } from './staging.js';

interface Staging {
  /** Channels of a chunk, and the vectors from row to row in workgroup memory. */
  readonly channels: number;
  readonly row: number;
  readonly threads: number;
  readonly component: Float;
  /** Items that a thread loads before it stores them; 4 if not given. */
  readonly together?: number;
}

/** Loads of a thread that are under way together. */
const most = 4;

/** Turns of `threads` threads over `items` rows of `channels` channels: threads for a vector of each row, turns of a loop, items of a turn. */
function turnsOf(
  { channels, threads, component, together = most }: Staging,
  items: number,
): { per: number; turns: number; batch: number } {
  const vectors = channels / vectorWidth(component);
  if (threads % vectors !== 0) {
    throw new TypeError(
      `staging: ${threads} threads, ${channels} channels — expected whole rows of threads. Stage 2ⁿ channels.`,
    );
  }
  const per = threads / vectors;
  const all = Math.ceil(items / per);
  const batch = Math.min(together, all);
  return { per, turns: Math.ceil(all / batch), batch };
}

/** Runs `load` for each item of a batch, then `store`; an item's number is `item` and its position in the batch. */
function batches(staging: Staging, items: number, load: (b: number) => string, store: (b: number) => string): string {
  const { per, turns, batch } = turnsOf(staging, items);
  const lanes = staging.channels / vectorWidth(staging.component);
  return wgsl`
    for (var turn = 0u; turn < ${u32(turns)}; turn++) {
${lines(range(batch).map((b) => `      let item${b} = index / ${u32(lanes)} + turn * ${u32(batch * per)} + ${u32(b * per)};\n${load(b)}`))}
${lines(range(batch).map((b) => `      ${items % (turns * batch * per) ? `if (item${b} < ${u32(items)}) { ${store(b)} }` : store(b)}`))}
    }`;
}

/** A vector of 16 bytes of one or two vec4f. */
const packed = (component: Float, values: readonly string[]): string =>
  component === 'f16'
    ? `vec4u(${values.map((value) => `bitcast<vec2u>(vec4<f16>(${value}))`).join(', ')})`
    : values.join();

/** A patch of an image of x or dy, in WGSL expressions: its plane, first row, first column and first channel. */
interface Patch {
  readonly name: 'x' | 'dy';
  readonly plane: string;
  readonly y: string;
  readonly x: string;
  readonly c: string;
  /** A condition on the plane. */
  readonly known?: string;
  /** Rows and columns of an image, and its channels. */
  readonly image: readonly [number, number];
  readonly of: number;
}
/** Of x, under a tile of output pixels. */
export const patchOfX = (g: ConvGeometry): Patch => ({
  name: 'x',
  plane: `image * ${g.input[0]} + iz`,
  ...{ y: 'iy0', x: 'ix0', c: 'c0' },
  ...(g.kernel[0] > 1 && { known: `u32(iz) < ${u32(g.input[0])}` }),
  ...{ image: [g.input[1], g.input[2]], of: g.inputs },
});
/** Of dy, a tile of output pixels. */
export const patchOfDy = (g: ConvGeometry): Patch => ({
  ...{ name: 'dy', plane: 'plane', y: 'tileY', x: 'tileX', c: 'o0' },
  ...{ image: [g.output[1], g.output[2]], of: g.outputs },
});

/**
 * Fills `staged_x` or `staged_dy` with rows × columns pixels, a row of workgroup memory for each, and applies `onLoad`; 0 outside
 * the image and beyond the channels. Needs `index`, the local index (u32).
 */
export function stagePatch(
  { name, plane, y, x, c, known, image: [height, width], of }: Patch,
  { rows, columns, onLoad, ...staging }: Staging & { rows: number; columns: number; onLoad?: Activation | undefined },
): string {
  const { channels, row, component } = staging;
  const loaded = widthOf(of);
  const group = onLoad && groupOf(onLoad);
  const fours = range(vectorWidth(component) / 4);
  const V = vector(component, 4);
  const coefficient = (n: number, more: number): string =>
    `coefficients[${group ? 'ofGroup + ' : ''}${u32((n * of) / loaded + more)} + c]`;
  const factors = (at: string): string => (onLoad?.dropout ? ` * factors_at(${at})` : '');
  const ragged = of % channels !== 0;
  const scalar = (b: number, e: number): string => {
    const element = `f32(${name}[at${b} + ${e}u])`;
    const value = onLoad
      ? `tail(${element}, ${[0, 1, 2].map((n) => coefficient(n, e)).join(', ')})${factors(`at${b} + ${e}u`)}`
      : element;
    return `select(0.0, ${value}, inside${b} && c + ${e}u < ${u32(of)})`;
  };
  /** Four channels of item b. */
  const value = (b: number, four: number): string => {
    if (loaded === 1) return `vec4f(${range(4).map((e) => scalar(b, 4 * four + e))})`;
    const known = `inside${b}${ragged ? ` && c + ${four}u < ${u32(of / 4)}` : ''}`;
    const raw = `raw${b}_${four}`;
    if (!onLoad) return `select(${V}(), ${V}(${raw}), ${known})`;
    const dropped = onLoad.masked ? ` * kept_factors(kept${b}_${four})` : factors(`at${b} + ${four}u`);
    const a = `tail(vec4f(${raw}), mean${four}, scale${four}, shift${four})${dropped}`;
    return `select(vec4f(), ${a}, ${known})`;
  };
  const load = (b: number): string => wgsl`
      let row${b} = ${y} + i32(item${b} / ${u32(columns)});
      let column${b} = ${x} + i32(item${b} % ${u32(columns)});
      let inside${b} = inPlane && u32(row${b}) < ${u32(height)} && u32(column${b}) < ${u32(width)};
      let at${b} = select(0u, u32((firstRow + row${b}) * ${width} + column${b}) * ${u32(of / loaded)} + c, inside${b});
#if ${loaded === 4}
${lines(
  fours.flatMap((four) => [
    `      let raw${b}_${four} = ${name}[at${b} + ${four}u];`,
    ...(onLoad?.masked ? [`      let kept${b}_${four} = kept_at(at${b} + ${four}u);`] : []),
  ]),
)}
#endif`;
  const activation = fours.flatMap((four) =>
    ['mean', 'scale', 'shift'].map((word, n) => `    let ${word}${four} = ${coefficient(n, four)};`),
  );
  return wgsl`
    {
    let lane = index % ${u32(channels / (4 * fours.length))};
    let c = u32(${c}) / ${u32(loaded)} + lane * ${u32((4 * fours.length) / loaded)};
    let inPlane = ${known ?? 'true'};
    let firstRow = (${plane}) * ${height};
#if ${Boolean(group)}
    let ofGroup = u32(${group ?? 0}) * ${u32((4 * of) / loaded)};
#endif
#if ${Boolean(onLoad) && loaded === 4}
${lines(activation)}
#endif${batches(
    staging,
    rows * columns,
    load,
    (b) =>
      `staged_${name}[item${b} * ${u32(row)} + lane] = ${packed(
        component,
        fours.map((four) => value(b, four)),
      )};`,
  )}
    }`;
}

/**
 * Fills `staged_weights` with the weights of all taps of kernel depth `kz`, input channels from `c0` and output channels from `o0`:
 * a row for each output channel, tap by tap. Weights whose output channels lie together are transposed on the way.
 */
export function stageWeights(
  g: ConvGeometry,
  order: WeightOrder,
  { outputs, ...staging }: Staging & { outputs: number },
): string {
  const { channels, row, component } = staging;
  const width = vectorWidth(component);
  const [vectors, taps, allTaps] = [channels / width, g.kernel[1] * g.kernel[2], product(g.kernel)];
  const conditions = (o: string, c: string): string[] => [
    ...(g.outputs % outputs ? [`${o} < ${u32(g.outputs)}`] : []),
    ...(g.inputs % channels ? [`${c} < ${u32(g.inputs)}`] : []),
  ];
  /** Defines `name`: the four weights from `at` on, whose first channel is `channel` of `count`; 0 unless all of `inside` hold. */
  const four = (name: string, at: string, count: number, channel: string, inside: readonly string[]): string => {
    if (inside.length === 0) return `      let ${name} = ${loadFour('weight', at, count, channel)};`;
    return wgsl`      let ${name}Known = ${inside.join(' && ')};
      let ${name}At = select(${channel}, ${at}, ${name}Known);
      let ${name} = select(vec4f(), ${loadFour('weight', `${name}At`, count, channel)}, ${name}Known);`;
  };
  const store = (o: string, tap: string, values: readonly string[]): string =>
    `staged_weights[(${o}) * ${u32(row)} + ${tap} * ${u32(vectors)} + lane] = ${packed(component, values)};`;
  const parts = range(width / 4);
  const outputsFirst = (): string =>
    batches(
      { ...staging, together: most / parts.length },
      outputs * taps,
      (b) => wgsl`      let output${b} = u32(o0) + item${b} / ${u32(taps)};
      let tap${b} = item${b} % ${u32(taps)};
      let first${b} = (output${b} * ${u32(allTaps)} + u32(kz) * ${u32(taps)} + tap${b}) * ${u32(g.inputs)} + c;
${lines(parts.map((i) => four(`weight${b}_${i}`, `(first${b} + ${4 * i}u)`, g.inputs, `(c + ${4 * i}u)`, conditions(`output${b}`, `c + ${4 * i}u`))))}`,
      (b) =>
        store(
          `item${b} / ${u32(taps)}`,
          `tap${b}`,
          parts.map((i) => `weight${b}_${i}`),
        ),
    );
  const fours = outputs / 4;
  const gradient = (): string =>
    batches(
      { ...staging, together: 1 },
      fours * taps,
      (b) => wgsl`      let o = u32(o0) + item${b} % ${u32(fours)} * 4u;
      let tap = item${b} / ${u32(fours)};
      let turned = ${u32(allTaps - 1)} - u32(kz) * ${u32(taps)} - tap;
${lines(range(width).map((e) => four(`weight${e}`, `((c + ${e}u) * ${u32(allTaps)} + turned) * ${u32(g.outputs)} + o`, g.outputs, 'o', conditions('o', `c + ${e}u`))))}`,
      (b) =>
        lines(
          (['x', 'y', 'z', 'w'] as const).map((e, i) =>
            store(
              `item${b} % ${u32(fours)} * 4u + ${i}u`,
              'tap',
              parts.map((part) => `vec4f(${range(4).map((n) => `weight${4 * part + n}.${e}`)})`),
            ),
          ),
        ),
    );
  return wgsl`
    {
    let lane = index % ${u32(vectors)};
    let c = u32(c0) + lane * ${u32(width)};${order === 'gradient' ? gradient() : outputsFirst()}
    }`;
}
