// The checked `wgsl` tag, number literals and the few snippets that every kernel shares. A shader is a function that
// returns WGSL text; that text is the contract: the engine binds tensors by the names declared in it.
import { wgsl as preprocess } from 'wgsl-preprocessor/wgsl-preprocessor.js';

/** Storage types a kernel can be generated for. Arithmetic is always f32: load with `f32(x[i])`, store with `${dtype}(v)`. */
export type Float = 'f32' | 'f16';

/**
 * Tagged template for WGSL with `#if ${…}`, `#elif ${…}`, `#else`, `#endif`.
 * Refuses undefined, null, NaN and infinite values, and numbers that are not integers (write those with `f32()`).
 */
export function wgsl(strings: TemplateStringsArray, ...values: (string | number | boolean)[]): string {
  values.forEach((value, i) => {
    const bad =
      value === undefined ||
      value === null ||
      (typeof value === 'number' && !Number.isInteger(value)) ||
      value === 'false';
    if (bad) {
      const before = strings[i]!.split('\n').at(-1);
      throw new TypeError(`wgsl: value ${i} is ${String(value)} after "${before}". Use f32() or u32() for numbers.`);
    }
  });
  for (const text of strings) {
    const unknown = /#(?!if\s|elif\s|else\b|endif\b)[a-z]+/i.exec(text);
    if (unknown) throw new TypeError(`wgsl: unknown directive "${unknown[0]}"; known are #if, #elif, #else, #endif.`);
    if (/#(else|endif)[^\s]/.test(text)) throw new TypeError('wgsl: #else and #endif must be followed by white space.');
  }
  return preprocess(strings, ...values);
}

/** An optional line of a text. Append it directly to the line before, so that the text without it does not change. */
export const also = (isWanted: boolean, text: string): string => (isWanted ? `\n${text}` : '');

/**
 * A WGSL f32 literal that parses back to the same number: `f32(2)` is `2.0f`. Each value makes a text, and so a kernel, of its own.
 * Use it for numbers that follow from the sizes or are fixed with a model or a run: slope and dropout rate of a fused activation,
 * ε and momentum of norms (a driver rounds a mean with a constant weight differently), constants of the optimizers (with guard,
 * scale and teacher a launch binds all eight buffers that WebGPU guarantees), limits of the loss scale, ε of Dice losses, and
 * temperature, momentum and quantile of prototypes and thresholds. Bind a number that a caller may change from call to call as data:
 * `run` binds an array of numbers as `array<f32>`.
 */
export function f32(value: number): string {
  if (!Number.isFinite(Math.fround(value))) {
    throw new TypeError(`wgsl: an f32 literal must be finite in f32, got ${value}. Bind other numbers as data.`);
  }
  const text = String(Math.fround(value));
  return `${/[.e]/.test(text) ? text : `${text}.0`}f`;
}

/** A WGSL u32 literal: `u32(3)` is `3u`. */
export function u32(value: number): string {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new TypeError(`wgsl: u32 literal must be an integer in [0, 2^32), got ${value}.`);
  }
  return `${value}u`;
}

/** The directive a kernel needs for its storage type (first line of the shader). */
export const enable = (dtype: Float | 'i32' | 'u32'): string => (dtype === 'f16' ? 'enable f16;' : '');

/**
 * Flat element index for one-thread-per-element kernels. Grids longer than 65 535 workgroups are folded into y by the
 * engine, so use it with `@builtin(global_invocation_id) id` and `@builtin(num_workgroups) groups`.
 * @example
 * console.log(flatIndex(64)); // (id.y * groups.x * 64u + id.x)
 */
export const flatIndex = (workgroupSize: number): string => wgsl`(id.y * groups.x * ${u32(workgroupSize)} + id.x)`;

/** Expression: the sum of 2, 4, 8 … expressions, added up two by two, so that little is lost and all can be loaded at once. */
export const pairs = (items: readonly string[]): string => {
  if (items.length === 1) return items[0]!;
  const half = items.length / 2;
  return `(${pairs(items.slice(0, half))} + ${pairs(items.slice(half))})`;
};

/** The type of the bits of f32 or vec2f to vec4f: u32, vec2u to vec4u. */
export const bitsOf = (V: string): string => V.replace(/f32$/, 'u32').replace(/f$/, 'u');

/** Expression: where v, of type V, is NaN. Tests the bits, since compilers may assume that no NaN exists and drop comparisons. */
export const isNan = (v: string, V: string): string =>
  `((bitcast<${bitsOf(V)}>(${v}) & ${bitsOf(V)}(0x7fffffffu)) > ${bitsOf(V)}(0x7f800000u))`;

/** Expression: NaN, from any v of type f32. WGSL has no literal for it. */
export const nanFrom = (v: string): string => `bitcast<f32>(bitcast<u32>(${v}) | 0x7fc00000u)`;

/** Expression: whether v, of type f32, is NaN or infinite, by the bits. */
export const isNotFinite = (v: string): string => `((bitcast<u32>(${v}) & 0x7f800000u) == 0x7f800000u)`;

/**
 * Defines, for the alias `V` (vec4f if `wide`, else f32): `is_nan(v)`; `keep_nan(v, y)`, which is v where v is NaN, else y; and
 * `largest(a, b)`, the maximum, NaN if one is.
 */
export const nanFunctions = (wide: boolean): string => wgsl`
fn is_nan(v: V) -> ${wide ? 'vec4<bool>' : 'bool'} { return ${isNan('v', wide ? 'vec4f' : 'f32')}; }
fn keep_nan(v: V, y: V) -> V { return select(y, v, is_nan(v)); }
fn largest(a: V, b: V) -> V { return keep_nan(a, keep_nan(b, max(a, b))); }`;
