// y = expression(operands) where types differ: comparisons, which give bytes, and choices. The layout is that of elementwise.ts.
// One thread per element of y, or per word of four where y is u8. f32 and f16 operands are f32 in the expression, u8 and u32 are u32.
import { type ElementType, elementAt, enableFor, storedType, storeElements, valueType } from './elements.js';
import type { ElementwiseLayout } from './elementwise.js';
import { flatIndex, isNan, u32, wgsl } from './wgsl.js';

/**
 * `types` holds the type of each operand by name, and `result` that of y; `numbers` names operands that are numbers. Expressions may
 * call `ordered(v)` of an f32: whole numbers in the order of v, by its bits, equal for ±0; and `is_nan(v)`. So comparisons do not
 * depend on what a driver does with NaN, infinities and subnormal numbers.
 */
export function typedElementwiseShader(
  name: string,
  result: ElementType,
  expression: string,
  { sizes, strides }: ElementwiseLayout,
  types: Readonly<Record<string, ElementType>>,
  numbers: readonly string[] = [],
): string {
  const names = Object.keys(strides);
  const coordinates: string[] = [];
  if (sizes.length > 1) {
    coordinates.push('var rest = i;');
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      const size = u32(sizes[axis]!);
      coordinates.push(axis ? `let c${axis} = rest % ${size}; rest /= ${size};` : `let c${axis} = rest;`);
    }
  }
  const index = (operand: string): string => {
    const along = strides[operand]!;
    if (sizes.length === 1) return along[0] ? 'i' : '0u';
    return along.flatMap((stride, axis) => (stride ? [`c${axis} * ${u32(stride)}`] : [])).join(' + ') || '0u';
  };
  const loads = names.map((key) => `let ${key} = ${elementAt(`${key}_`, index(key), types[key]!)};`);
  loads.push(...numbers.map((key, n) => `let ${key} = numbers[${n}];`));
  const bindings = names.map(
    (key, n) => `@group(0) @binding(${n}) var<storage, read> ${key}_: array<${storedType(types[key]!)}>;`,
  );
  return wgsl`${enableFor([result, ...names.map((key) => types[key]!)])}
${bindings.join('\n')}
@group(0) @binding(${names.length}) var<storage, read_write> result: array<${storedType(result)}>;
#if ${numbers.length > 0}
@group(0) @binding(${names.length + 1}) var<storage, read> numbers: array<f32>;
#endif

fn is_nan(v: f32) -> bool { return ${isNan('v', 'f32')}; }
fn ordered(v: f32) -> i32 {
  let bits = bitcast<i32>(v);
  return select(bits, (-2147483647 - 1) - bits, bits < 0);
}
fn value(i: u32) -> ${valueType(result)} {
  ${coordinates.join('\n  ')}
  ${loads.join('\n  ')}
  return ${expression};
}

@compute @workgroup_size(64)
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};${storeElements('result', result)}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => {
  const layouts: ElementwiseLayout[] = [
    { sizes: [257], strides: { a: [1], b: [0] } },
    { sizes: [2, 3, 5], strides: { a: [5, 0, 1], b: [0, 5, 1] } },
    { sizes: [], strides: { a: [], b: [] } },
  ];
  return layouts.flatMap((layout) => [
    ...(['u32', 'i32', 'u8'] as const).map((type) =>
      typedElementwiseShader('compare_less', 'u8', 'select(0u, 1u, a < b)', layout, { a: type, b: type }),
    ),
    ...(['f32', 'f16'] as const).map((type) =>
      typedElementwiseShader(
        'compare_less',
        'u8',
        'select(0u, 1u, !is_nan(a) && !is_nan(b + c) && ordered(a) < ordered(b))',
        layout,
        { a: type, b: type },
        ['c'],
      ),
    ),
    ...(['f32', 'f16', 'u32', 'i32', 'u8'] as const).map((type) =>
      typedElementwiseShader('choose', type, 'select(b, b, a != 0u)', layout, { a: 'u8', b: type }),
    ),
  ]);
};
