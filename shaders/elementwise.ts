// y = expression(operands), elementwise with numpy's broadcasting. `V` in an expression is the working type, f32 or vec4f.
// One thread per element, or per four neighbours where every operand has four in a row (or one value for all four).
// Operands of y's own shape need no sizes in the text, so one pipeline serves all shapes. An operand that is a number is data in

// `numbers`, so one pipeline serves all numbers. Expressions may call the functions of `nanFunctions` and of division.ts, and those of
// functions.ts that are given.
import { divideFunction, divisorGradientFunction } from './division.js';
import { everyFunction, functionTexts } from './functions.js';

import { enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

/** Sizes of the loop over y, slowest first, and by operand name its strides in elements (0: repeated). */
export interface ElementwiseLayout {
  readonly sizes: readonly number[];
  readonly strides: Readonly<Record<string, readonly number[]>>;
}

/** Strides of broadcast operands over y. Axes that are contiguous in every operand are merged. */
export function elementwiseLayout(
  shape: readonly number[],
  operands: Readonly<Record<string, readonly number[]>>,
): ElementwiseLayout {
  const names = Object.keys(operands);
  const full = names.map((name) => {
    const sizes = operands[name]!;
    let stride = 1;
    const strides = new Array<number>(shape.length).fill(0);
    for (let i = sizes.length - 1; i >= 0; i--) {
      if (sizes[i]! > 1) strides[shape.length - sizes.length + i] = stride;
      stride *= sizes[i]!;
    }
    return strides;
  });
  const sizes: number[] = [];
  const merged = names.map((): number[] => []);
  shape.forEach((size, axis) => {
    if (size === 1) return;
    const last = sizes.length - 1;
    if (last >= 0 && full.every((strides, k) => merged[k]![last] === strides[axis]! * size)) {
      sizes[last]! *= size;
      for (const [k, strides] of full.entries()) merged[k]![last] = strides[axis]!;
    } else {
      sizes.push(size);
      for (const [k, strides] of full.entries()) merged[k]!.push(strides[axis]!);
    }
  });
  return { sizes, strides: Object.fromEntries(names.map((name, k) => [name, merged[k]!])) };
}

/**
 * `numbers` names the operands that are numbers, in the order in which the binding `numbers` holds them. `functions` defines those of
 * functions.ts that the expression calls.
 */
export function elementwiseShader(
  dtype: Float | 'i32' | 'u32',
  name: string,
  expression: string,
  { sizes, strides }: ElementwiseLayout,
  numbers: readonly string[] = [],
  functions?: (wide: boolean) => string,
): string {
  const names = Object.keys(strides);
  const inner = sizes.length - 1;
  const width = sizes.at(-1)! % 4 === 0 ? 4 : 1;
  const wide = (operand: string): boolean => width === 4 && strides[operand]![inner] === 1;
  const type = (isWide: boolean): string => (isWide ? `vec4<${dtype}>` : dtype);
  const work = (isWide: boolean): string => (isWide ? `vec4${dtype[0]}` : `${dtype[0]}32`); // f16 is computed as f32
  const coordinates: string[] = [];
  if (sizes.length > 1) {
    coordinates.push('var rest = i;');
    for (let axis = inner; axis >= 0; axis--) {
      const size = axis === inner ? sizes[axis]! / width : sizes[axis]!;
      coordinates.push(axis ? `let c${axis} = rest % ${u32(size)}; rest /= ${u32(size)};` : `let c${axis} = rest;`);
    }
  }
  const index = (operand: string): string => {
    const along = strides[operand]!;
    if (sizes.length === 1) return along[0] ? 'i' : '0u';
    const terms = along.flatMap((stride, axis) => {
      if (!stride) return [];
      const scaled = wide(operand) && axis !== inner ? stride / 4 : stride;
      return [`c${axis} * ${u32(scaled)}`];
    });
    return terms.join(' + ') || '0u';
  };
  const bindings = names.map(
    (operand, n) => `@group(0) @binding(${n}) var<storage, read> ${operand}_: array<${type(wide(operand))}>;`,
  );
  const loads = names.map((operand) => `let ${operand} = V(${work(wide(operand))}(${operand}_[${index(operand)}]));`);
  loads.push(...numbers.map((operand, n) => `let ${operand} = V(numbers[${n}]);`));
  const snippets = [
    /\b(is_nan|keep_nan|largest)\(/.test(expression) ? nanFunctions(width === 4) : '',
    /\bdivide\(/.test(expression) ? divideFunction() : '',
    /\bdivisor_gradient\(/.test(expression) ? divisorGradientFunction(width === 4) : '',
  ];
  return wgsl`${enable(dtype)}
alias V = ${work(width === 4)};
${snippets.join('')}${functions?.(width === 4) ?? ''}
${bindings.join('\n')}
@group(0) @binding(${names.length}) var<storage, read_write> result: array<${type(width === 4)}>;
#if ${numbers.length > 0}
@group(0) @binding(${names.length + 1}) var<storage, read> numbers: array<f32>;
#endif

@compute @workgroup_size(64)
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&result)) { return; }
  ${coordinates.join('\n  ')}
  ${loads.join('\n  ')}
  result[i] = ${type(width === 4)}(${expression});
}`;
}

const functionVariants = (dtype: Float): string[] =>
  everyFunction().flatMap((f) =>
    [[8], [7]].map((shape) => {
      const operands = { a: shape, ...(f.parameters === 2 && { b: shape }) };
      const call = `${f.name}(${Object.keys(operands).join(', ')})`;
      return elementwiseShader(
        dtype,
        `elementwise_${f.name}`,
        call,
        elementwiseLayout(shape, operands),
        [],
        functionTexts(f),
      );
    }),
  );

const integerVariants = (): string[] =>
  (['i32', 'u32'] as const).flatMap((dtype) =>
    [[8], [7]].map((shape) =>
      elementwiseShader(
        dtype,
        'elementwise_div',
        'select(a / b, V(0), b == V(0))',
        elementwiseLayout(shape, { a: shape, b: [] }),
      ),
    ),
  );

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => [
  ...integerVariants(),
  ...(['f32', 'f16'] as const).flatMap((dtype) => [
    ...(
      [
        [[4, 64], { a: [4, 64], b: [4, 64] }],
        [[257], { a: [257], b: [257] }],
        [[2, 3, 4, 16], { a: [2, 3, 4, 16], b: [16] }],
        [[2, 3, 4, 16], { a: [2, 1, 4, 1], b: [1, 3, 1, 16] }],
        [[2, 3, 5], { a: [3, 1], b: [] }],
        [[], { a: [], b: [] }],
      ] as [number[], Record<string, number[]>][]
    ).flatMap(([shape, operands]) => [
      elementwiseShader(dtype, 'elementwise_add', 'a + b', elementwiseLayout(shape, operands)),
      elementwiseShader(
        dtype,
        'elementwise_clamp',
        'keep_nan(a, clamp(a + b, low, high))',
        elementwiseLayout(shape, operands),
        ['low', 'high'],
      ),
      elementwiseShader(dtype, 'elementwise_div', 'divide(a, b)', elementwiseLayout(shape, operands)),
      elementwiseShader(
        dtype,
        'elementwise_div_backward',
        'divisor_gradient(dy, a, b)',
        elementwiseLayout(shape, { dy: shape, ...operands }),
      ),
    ]),
    ...functionVariants(dtype),
  ]),
];
