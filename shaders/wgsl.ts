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

/** A WGSL f32 literal that parses back to the same number: `f32(2)` is `2.0f`. */
export function f32(value: number): string {
  if (!Number.isFinite(value)) throw new TypeError(`wgsl: f32 literal must be finite, got ${value}.`);
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
export const enable = (dtype: Float): string => (dtype === 'f16' ? 'enable f16;' : '');

/**
 * Flat element index for one-thread-per-element kernels. Grids longer than 65 535 workgroups are folded into y by the
 * engine, so use it with `@builtin(global_invocation_id) id` and `@builtin(num_workgroups) groups`.
 */
export const flatIndex = (workgroupSize: number): string => wgsl`(id.y * groups.x * ${u32(workgroupSize)} + id.x)`;
