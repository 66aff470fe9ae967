// y = x in another storage type. Between floats: rounded to the nearest; beyond f16's range it becomes infinite. One thread per element,
// or per four where the count is a multiple of four.
// To integers: towards zero, limited to what the type holds; NaN gives 0. From integers to floats: rounded to the nearest. One thread
// per four elements, since u8 is packed four to a word.
import { byteAt } from './classes.js';
import { enable, type Float, flatIndex, isNan, u32, wgsl } from './wgsl.js';

export function castShader(from: Float, to: Float, width: 1 | 4): string {
  const type = (dtype: Float): string => (width === 4 ? `vec4<${dtype}>` : dtype);
  return wgsl`enable f16;
@group(0) @binding(0) var<storage, read> x: array<${type(from)}>;
@group(0) @binding(1) var<storage, read_write> y: array<${type(to)}>;

@compute @workgroup_size(64)
fn convert_type(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i < arrayLength(&y)) { y[i] = ${type(to)}(x[i]); }
}`;
}

/** Any type of elements. */
export type Element = Float | 'u32' | 'i32' | 'u8';

/** Expression: v, of type f32, u32 or i32, as a number of type `to` (u8: a u32 of at most 255). */
function converted(v: string, from: 'f32' | 'u32' | 'i32', to: Element): string {
  if (to === 'f32' || to === 'f16') return `${to}(${from === 'f32' ? v : `f32(${v})`})`;
  if (from === 'f32') {
    // The conversions of WGSL stop at the last f32 below the limit.
    const most = { u32: '4294967295u', i32: '2147483647i', u8: '255u' }[to];
    const limit = { u32: '4294967296.0', i32: '2147483648.0', u8: '255.0' }[to];
    const within = to === 'i32' ? `i32(max(${v}, -2147483648.0))` : `u32(max(${v}, 0.0))`;
    return `select(select(${within}, ${most}, ${v} >= ${limit}), ${to === 'i32' ? '0i' : '0u'}, ${isNan(v, 'f32')})`;
  }
  const positive = from === 'i32' ? `u32(max(${v}, 0i))` : v;
  if (to === 'u8') return `min(${positive}, 255u)`;
  if (to === 'u32') return positive;
  return from === 'i32' ? v : `i32(min(${v}, 2147483647u))`;
}

/** Casts from or to integers of `size` elements. */
export function castElements(from: Element, to: Element, size: number): string {
  const held = (type: Element): string => (type === 'u8' ? 'u32' : type);
  const source = from === 'u8' ? byteAt('x', 'at') : from === 'f16' ? 'f32(x[at])' : 'x[at]';
  const V = from === 'u8' ? 'u32' : from === 'f16' ? 'f32' : from;
  return wgsl`${enable(from === 'f16' || to === 'f16' ? 'f16' : 'f32')}
@group(0) @binding(0) var<storage, read> x: array<${held(from)}>;
@group(0) @binding(1) var<storage, read_write> y: array<${held(to)}>;

@compute @workgroup_size(64)
fn cast_elements(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let first = 4u * ${flatIndex(64)};
  let end = min(first + 4u, ${u32(size)});
#if ${to === 'u8'}
  if (first >= end) { return; }
  var word = 0u;
  for (var at = first; at < end; at++) {
    let v = ${source};
    word |= ${converted('v', V, to)} << (8u * (at & 3u));
  }
  y[first / 4u] = word;
#else
  for (var at = first; at < end; at++) {
    let v = ${source};
    y[at] = ${converted('v', V, to)};
  }
#endif
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => {
  const all = ['f32', 'f16', 'u32', 'i32', 'u8'] as const;
  const isFloat = (type: Element): boolean => type === 'f32' || type === 'f16';
  return [
    ...([1, 4] as const).flatMap((width) => [castShader('f32', 'f16', width), castShader('f16', 'f32', width)]),
    ...all.flatMap((from) =>
      all.flatMap((to) => (from === to || (isFloat(from) && isFloat(to)) ? [] : [castElements(from, to, 1001)])),
    ),
  ];
};
