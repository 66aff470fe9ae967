// Building blocks of kernels that stage in workgroup memory: folded grids, staging of x, vectors of four channels for any number of
// channels. Kernels whose threads multiply what is staged hold it as f32 for both element types, since a conversion at every load
// would cost more than the memory that f16 saves. Operands of a matrix unit have the unit's type.

import { type Float, wgsl } from '../wgsl.js';
import type { Vectors } from './epilogue.js';
import { type Activation, groupOf } from './fusion.js';
import {
  type bindings,
  type ConvGeometry,
  element,
  float,
  lines,
  product,
  range,
  type Triple,
  vector,
  widthOf,
} from './geometry.js';

const maxWorkgroups = 65535;
export const folded = (groups: number): Triple => {
  const x = Math.min(groups, maxWorkgroups);
  return [x, Math.ceil(groups / x), 1];
};
/** The index of a workgroup of a folded grid. */
export const block = '(group.y * groups.x + group.x)';

/** Where and how a workgroup stages a patch of x. */
interface Staging {
  readonly rows: number;
  readonly columns: number;
  readonly channels: number;
  readonly threads: number;
  /** Elements of a staged vector, and their type. */
  readonly width: 1 | 4;
  readonly type?: Float;
  readonly onLoad: Activation | undefined;
  /** Index in `staged_x` of vector `c` (of the chunk) of pixel (`row`, `column`). */
  readonly at: (c: string) => string;
}

/** Statements that stage vectors which exist where `inside` holds (everywhere if it is empty), and are 0 elsewhere. */
export function stageVectors(
  name: string,
  count: number,
  threads: number,
  { indices, inside, value }: { readonly indices: string; readonly inside: string; readonly value: string },
): string {
  return inBatches(count, { threads }, (index, u, beyond) => ({
    load: [
      wgsl`      var value${u}: vec4f;
      {
        let i = ${beyond ? `min(${index}, ${count - 1}u)` : index};
        ${indices}
        value${u} = ${inside ? `select(vec4f(0.0), ${value}, ${inside})` : value};
      }`,
    ],
    store: `${name}[${index}] = value${u};`,
  }));
}

/**
 * Statements that stage blocks of 4 × 4 numbers, transposed. A block's four vectors in memory are `row(0)` … `row(3)`; element e of
 * each together go to `at` + e · `step`. Blocks exist where `inside` holds (everywhere if it is empty), and are 0 elsewhere.
 */
export function stageBlocks(
  name: string,
  count: number,
  threads: number,
  { indices, inside, row, at, step }: StagedBlock,
): string {
  const rows = range(4);
  return inBatches(count, { threads, most: 1 }, (index, u, beyond) => ({
    load: [
      `      let i = ${beyond ? `min(${index}, ${count - 1}u)` : index};`,
      `        ${indices}`,
      ...rows.map((e) => `      let row${u}_${e} = vec4f(${row(e)});`),
      ...(inside ? [`      let inside${u} = ${inside};`] : []),
    ],
    store: rows
      .map((e) => {
        const value = `vec4f(${rows.map((r) => element(`row${u}_${r}`, 4, e)).join(', ')})`;
        const known = inside ? `select(vec4f(0.0), ${value}, inside${u})` : value;
        return `${name}[${at}${e ? ` + ${e * step}` : ''}] = ${known};`;
      })
      .join(' '),
  }));
}
interface StagedBlock {
  readonly indices: string;
  readonly inside: string;
  readonly row: (e: number) => string;
  readonly at: string;
  readonly step: number;
}

/** One of the elements that a thread stages: the statements that load it and those that store it. */
interface Staged {
  readonly load: readonly string[];
  readonly store: string;
}

/**
 * Statements that stage `count` elements, `local`, `local` + `threads`, …: a counted loop whose turns each start `most` loads before
 * the first of them is needed. `element` gets the element's index, a u32, a suffix for the names it defines, and whether the index
 * may be `count` or more.
 */
function inBatches(
  count: number,
  { threads, most = 4 }: { readonly threads: number; readonly most?: number },
  element: (index: string, suffix: string, beyond: boolean) => Staged,
): string {
  const each = Math.ceil(count / threads);
  const turns = Math.ceil(each / most);
  const batch = Math.ceil(each / turns);
  // All that is beyond is in the last element of a turn.
  const beyond = (u: number): boolean => u === batch - 1 && turns * batch * threads > count;
  const elements = range(batch).map((u) => element(`index${u}`, `${u}`, beyond(u)));
  const load = elements.flatMap((one, u) => [
    `      let index${u} = u32(local) + turn * ${threads}u + ${u * turns * threads}u;`,
    ...one.load,
  ]);
  return wgsl`
    for (var turn = 0u; turn < ${turns}u; turn++) {
${lines(load)}
${lines(elements.map((one, u) => `      ${beyond(u) ? `if (index${u} < ${count}u) ` : ''}{ ${one.store} }`))}
    }`;
}

/**
 * Fills `staged_x` with the patch whose first pixel is (`image`, `iz`, `iy0`, `ix0`) and whose first channel is `c0`, and applies
 * `onLoad`; 0 outside the image and beyond the channels. Needs `local`, the local index. No branch surrounds a load, so that several
 * are in flight: what lies outside reads x[0] and is replaced. Index arithmetic is unsigned, since a signed division takes longer.
 */
export function stageInput(
  g: ConvGeometry,
  { rows, columns, channels, threads, width, type = 'f32', onLoad, at }: Staging,
): string {
  const [depth, height, imageWidth] = g.input;
  const loaded = widthOf(g.inputs);
  const vectors = Math.ceil(channels / loaded);
  const all = g.inputs / loaded;
  const V = float(loaded);
  const group = onLoad && groupOf(onLoad);
  // A thread keeps to one vector of channels where their number divides the threads; its coefficients are then loaded once.
  const fixed = threads % vectors === 0;
  const beyond = g.inputs % channels !== 0;
  const channel = (u: string, index: string): string[] => [
    `      let lane${u} = i32(${index} % ${vectors}u);`,
    `      let channel${u} = c0 / ${loaded} + lane${u};`,
    ...(onLoad
      ? range(3).map(
          (row) =>
            `      let k${u}_${row} = coefficients[${group ? 'ofGroup + ' : ''}${row * all} + ${beyond ? `min(channel${u}, ${all - 1})` : `channel${u}`}];`,
        )
      : []),
  ];
  const converted = (value: string): string => (type === 'f32' ? value : `${vector(type, width)}(${value})`);
  const own = (u: string): string => (fixed ? 'Own' : u);
  const inside = (u: string): string =>
    [
      ...(g.kernel[0] > 1 ? [`u32(iz) < ${depth}u`] : []),
      `u32(iy0 + patchRow${u}) < ${height}u && u32(ix0 + patchColumn${u}) < ${imageWidth}u`,
      ...(beyond ? [`channel${own(u)} < ${all}`] : []),
    ].join(' && ');
  const loads = (index: string, u: string): string[] => [
    ...(fixed ? [] : channel(u, index)),
    `      let patchColumn${u} = i32(${index} / ${vectors}u % ${columns}u);`,
    `      let patchRow${u} = i32(${index} / ${vectors * columns}u);`,
    `      let inside${u} = ${inside(u)};`,
    `      let at${u} = select(0, origin + (patchRow${u} * ${imageWidth} + patchColumn${u}) * ${all} + channel${own(u)}, inside${u});`,
    `      let x${u} = x[at${u}];`,
    ...(onLoad?.masked ? [`      let kept${u} = kept_at(u32(at${u}));`] : []),
  ];
  const activated = (u: string): string => {
    const [x, k] = [`${V}(x${u})`, `k${own(u)}`];
    if (!onLoad) return x;
    const factors = onLoad.masked ? ` * kept_factors(kept${u})` : onLoad.dropout ? ` * factors_at(u32(at${u}))` : '';
    return `tail(${x}, ${k}_0, ${k}_1, ${k}_2)${factors}`;
  };
  const store = (u: string): string => wgsl`
        let lane = lane${own(u)};
        let column = patchColumn${u};
        let row = patchRow${u};
        let value = select(${V}(0.0), ${activated(u)}, inside${u});
${
  width === loaded
    ? `        staged_x[${at('lane')}] = ${converted('value')};`
    : lines(range(4).map((e) => `        staged_x[${at(`(lane * 4 + ${e})`)}] = ${converted(element('value', 4, e))};`))
}
     `;
  return wgsl`
    { // Stages x.
${group ? `      let ofGroup = i32(${group}) * ${4 * all};` : ''}
      let origin = (((image * ${depth} + iz) * ${height} + iy0) * ${imageWidth} + ix0) * ${all};
${lines(fixed ? channel('Own', 'u32(local)') : [])}
${inBatches(rows * columns * vectors, { threads, most: onLoad?.dropout && !onLoad.masked ? 2 : 4 }, (index, u) => ({ load: loads(index, u), store: store(u) }))}
    }`;
}

/** Loads four neighbouring channels of `name` at `at`, the first being `channel`, as a vec4f; 0 beyond `channels`. */
export const loadFour = (name: string, at: string, channels: number, channel: string): string =>
  channels % 4 === 0
    ? `vec4f(${name}[u32(${at}) / 4u])`
    : `vec4f(${range(4)
        .map(
          (e) =>
            `select(0.0, f32(${name}[min(${channel} + ${e}, ${channels - 1}) + ${at} - ${channel}]), ${channel} + ${e} < ${channels})`,
        )
        .join(', ')})`;

export const storeFour = (
  name: string,
  at: string,
  value: string,
  type: Float,
  channels: number,
  channel: string,
): string =>
  channels % 4 === 0
    ? `${name}[u32(${at}) / 4u] = ${vector(type, 4)}(${value});`
    : range(4)
        .map(
          (e) => `if (${channel} + ${e} < ${channels}) { ${name}[${at} + ${e}] = ${type}(${element(value, 4, e)}); }`,
        )
        .join(' ');

/** Index of the weight of tap (`kz`, `ky`, `kx`), input channel `c`, output channel `o`, in the order of an input gradient. */
export function weightAt(g: ConvGeometry): string {
  const [, height, width] = g.kernel;
  const tap = `((kz * ${height} + ky) * ${width} + kx)`;
  return `(c * ${product(g.kernel)} + ${product(g.kernel) - 1} - ${tap}) * ${g.outputs} + o`;
}

/** The vectors of four output channels that a thread of these kernels has; `channelOf` is the first channel of each. */
export function fourChannels(
  { outputs }: ConvGeometry,
  { dtype, ragged, channelOf }: { dtype: Float; ragged: boolean; channelOf: (q: number) => string },
): Vectors & { ofChannels(name: string, row: number, q: number, group?: string): string } {
  const inside = (q: number): string => `${channelOf(q)} < ${outputs}`;
  // A row of a tensor [rows, outputs], or [groups, 4, outputs]; 0 where whole vectors lie beyond the channels.
  const ofChannels = (name: string, row: number, q: number, group?: string): string => {
    const first = `${group ? `i32(${group}) * ${4 * outputs} + ` : ''}${row ? `${row * outputs} + ` : ''}`;
    const value = loadFour(name, `${first}${channelOf(q)}`, outputs, channelOf(q));
    return ragged ? `select(vec4f(0.0), ${value}, ${inside(q)})` : value;
  };
  return {
    V: 'vec4f',
    ofChannels,
    load: (name, at, channel) => loadFour(name, at, outputs, channel),
    store: (at, value, channel) => storeFour('y', at, value, dtype, outputs, channel),
    factors: (at) =>
      outputs % 4 === 0
        ? `factors_at(u32(${at}) / 4u)`
        : `vec4f(${range(4).map((e) => `factors_at(u32(${at} + ${e}))`)})`,
    coefficient: (row, q, group) => ofChannels('zCoefficients', row, q, group),
    storePart: (row, q, value) => {
      const at = `(i32(part) * 2 + ${row}) * ${outputs} + ${channelOf(q)}`;
      const body = storeFour('partials', at, value, 'f32', outputs, channelOf(q));
      return ragged ? `    if (${inside(q)}) { ${body} }` : `    ${body}`;
    },
  };
}

/** The first bindings of all kernels that stage: x, weight, y and, if there is one, bias. */
export const operands = (
  binding: ReturnType<typeof bindings>,
  g: ConvGeometry,
  { dtype, parameters, bias, weightWidth = widthOf(g.outputs) }: Operands,
): string[] => [
  binding('read', 'x', vector(dtype, widthOf(g.inputs))),
  binding('read', 'weight', vector(parameters, weightWidth)),
  binding('read_write', 'y', vector(dtype, widthOf(g.outputs))),
  ...(bias ? [binding('read', 'bias', vector(parameters, widthOf(g.outputs)))] : []),
];
interface Operands {
  readonly dtype: Float;
  readonly parameters: Float;
  readonly bias: boolean;
  readonly weightWidth?: 1 | 4;
}

/** What a device offers a workgroup. */
export interface WorkgroupLimits {
  /** Bytes of workgroup memory; every device has 16 384. */
  readonly storage: number;
  /** Threads; every device has 256. */
  readonly threads: number;
}
