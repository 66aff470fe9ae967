// y[c0, c1, …] = x[offset + Σ stride · cₖ]: permuted, flipped, repeated, strided and padded copies are one kernel. A stride may be
// negative or 0. An axis with a rule looks up its source coordinate first; outside of it, y has a given value.
// One thread per element of y, or per four where both sides have four in a row; u8 as words where words line up, else byte by byte.
import { type ElementType, elementAt, enableFor, storedType, storeElements, valueType } from './elements.js';
import { flatIndex, u32, wgsl } from './wgsl.js';

/** How coordinates of an axis of y become those of x, whose axis has `from` elements, `before` of y's being ahead of the first. */
export interface PadRule {
  readonly kind: 'constant' | 'edge' | 'reflect';
  readonly before: number;
  readonly from: number;
  /** 'constant' alone: coordinates of y from one element of x to the next; default 1. */
  readonly step?: number;
}

export interface MapAxis {
  readonly size: number;
  /** Elements of x from one coordinate to the next. */
  readonly stride: number;
  readonly rule?: PadRule;
}

export interface IndexMap {
  /** The axes of y, slowest first. */
  readonly axes: readonly MapAxis[];
  readonly offset: number;
}

/** Without axes of one element, and with neighbours merged that are one in x, too. */
function merged(axes: readonly MapAxis[]): MapAxis[] {
  const found: MapAxis[] = [];
  for (const axis of axes) {
    const last = found.at(-1);
    if (axis.size === 1 && !axis.rule) continue;
    if (last && !last.rule && !axis.rule && last.stride === axis.size * axis.stride) {
      found[found.length - 1] = { size: last.size * axis.size, stride: axis.stride };
    } else found.push(axis);
  }
  return found;
}

/** WGSL's wrapping u32 arithmetic adds negative strides as well. */
const wrapping = (n: number): string => u32(n < 0 ? n + 2 ** 32 : n);

/** Expression: the source coordinate of c; for 'constant' it wraps around where there is none. */
export function sourceOf(c: string, { kind, before, from, step = 1 }: PadRule): string {
  const moved = `(i32(${c}) - ${before})`;
  if (step !== 1) {
    const ahead = step > 0 ? `(${c} - ${u32(before)})` : `(${u32(before)} - ${c})`;
    const by = u32(Math.abs(step));
    return `select(4294967295u, ${ahead} / ${by}, ${ahead} % ${by} == 0u)`;
  }
  if (kind === 'constant') return `(${c} - ${u32(before)})`;
  if (kind === 'edge') return `u32(clamp(${moved}, 0, ${from - 1}))`;
  return `u32(${from - 1} - abs(${from - 1} - abs(${moved})))`;
}

/** The map in vectors of four, if it has such a form. */
function inFours({ axes, offset }: IndexMap): IndexMap | undefined {
  const list = merged(axes);
  const last = list.at(-1);
  if (last?.stride !== 1 || last.rule || last.size % 4 || offset % 4) return undefined;
  if (list.some(({ stride }, k) => k < list.length - 1 && stride % 4)) return undefined;
  return {
    axes: list.map(({ size, stride, rule }, k) =>
      k === list.length - 1 ? { size: size / 4, stride: 1 } : { size, stride: stride / 4, ...(rule && { rule }) },
    ),
    offset: offset / 4,
  };
}

/** Elements of y that one thread moves. */
export const mapWidth = (map: IndexMap, type: ElementType): number => (type === 'u8' || inFours(map) ? 4 : 1);

export function mapShader(map: IndexMap, of: ElementType): string {
  const four = inFours(map);
  const type = of === 'u8' && four ? 'u32' : of;
  const vector = four && of !== 'u8' ? `vec4<${type}>` : undefined;
  const { axes, offset } = four ?? { axes: merged(map.axes), offset: map.offset };
  const fills = axes.some(({ rule }) => rule?.kind === 'constant');
  const lines = [`var at = ${wrapping(offset)};`];
  if (axes.length > 1) lines.push('var rest = i;');
  for (let k = axes.length - 1; k >= 0; k--) {
    const { size, stride, rule } = axes[k]!;
    if (axes.length === 1) lines.push('let c0 = i;');
    else lines.push(k ? `let c${k} = rest % ${u32(size)}; rest /= ${u32(size)};` : 'let c0 = rest;');
    if (rule?.kind === 'constant')
      lines.push(`if (${sourceOf(`c${k}`, rule)} >= ${u32(rule.from)}) { return fill(); }`);
    if (stride) lines.push(`at += ${rule ? sourceOf(`c${k}`, rule) : `c${k}`} * ${wrapping(stride)};`);
  }
  const result = vector ?? valueType(type);
  const scalar = of === 'f16' && vector ? 'f16' : valueType(of);
  const fill = of === 'u8' && four ? 'u32(numbers[0]) * 0x01010101u' : `${result}(${scalar}(numbers[0]))`;
  const store = vector
    ? `
  if (i >= arrayLength(&y)) { return; }
  y[i] = value(i);`
    : storeElements('y', type);
  return wgsl`${enableFor([type])}
@group(0) @binding(0) var<storage, read> x: array<${vector ?? storedType(type)}>;
@group(0) @binding(1) var<storage, read_write> y: array<${vector ?? storedType(type)}>;
#if ${fills}
@group(0) @binding(2) var<storage, read> numbers: array<f32>; // what y is outside
fn fill() -> ${result} { return ${fill}; }
#endif

fn value(i: u32) -> ${result} {
  ${lines.join('\n  ')}
  return ${vector ? 'x[at]' : elementAt('x', 'at', type)};
}

@compute @workgroup_size(64)
fn map_index(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};${store}
}`;
}

/**
 * The gradient of padding the middle of [outer, from, inner] by the edge's elements or by reflection: dx[o, s, i] is dy at s and at
 * every padded coordinate whose source is s, in order. One thread per element of dx.
 */
export function padGradient(
  dtype: 'f32' | 'f16',
  { rule, outer, inner, size }: { rule: PadRule; outer: number; inner: number; size: number },
): string {
  const { before, from } = rule;
  return wgsl`${enableFor([dtype])}
@group(0) @binding(0) var<storage, read> dy: array<${dtype}>;
@group(0) @binding(1) var<storage, read_write> dx: array<${dtype}>;

@compute @workgroup_size(64)
fn pad_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(outer * from * inner)}) { return; }
  let s = i / ${u32(inner)} % ${u32(from)};
  let begin = i / ${u32(from * inner)} * ${u32(size * inner)} + i % ${u32(inner)};
  var sum = f32(dy[begin + (s + ${u32(before)}) * ${u32(inner)}]);
  for (var c = 0u; c < ${u32(size)}; c++) {
    if (c == ${u32(before)}) { c = ${u32(before + from)}; }
    if (c < ${u32(size)} && ${sourceOf('c', rule)} == s) { sum += f32(dy[begin + c * ${u32(inner)}]); }
  }
  dx[i] = ${dtype}(sum);
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => {
  const rule = (kind: PadRule['kind']): PadRule => ({ kind, before: 2, from: 5 });
  const maps: IndexMap[] = [
    {
      axes: [
        { size: 5, stride: 1 },
        { size: 3, stride: 5 },
      ],
      offset: 0,
    },
    {
      axes: [
        { size: 5, stride: -16 },
        { size: 3, stride: 0 },
        { size: 16, stride: 1 },
      ],
      offset: 64,
    },
    { axes: [{ size: 1, stride: 1 }], offset: 0 },
    { axes: [{ size: 8, stride: 1, rule: { ...rule('constant'), step: -2 } }], offset: 0 },
    ...(['constant', 'edge', 'reflect'] as const).flatMap((kind) => [
      { axes: [{ size: 8, stride: 1, rule: rule(kind) }], offset: 0 },
      {
        axes: [
          { size: 8, stride: 4, rule: rule(kind) },
          { size: 4, stride: 1 },
        ],
        offset: 0,
      },
    ]),
  ];
  return [
    ...maps.flatMap((map) => (['f32', 'f16', 'u32', 'i32', 'u8'] as const).map((type) => mapShader(map, type))),
    ...(['f32', 'f16'] as const).flatMap((dtype) =>
      (['edge', 'reflect'] as const).map((kind) =>
        padGradient(dtype, { rule: rule(kind), outer: 2, inner: 3, size: 9 }),
      ),
    ),
  ];
};
