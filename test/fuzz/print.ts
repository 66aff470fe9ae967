// A program as code that runs: the leaves, the calls, and the number that is wrong.
import { shapesOf } from './expected.js';
import {
  type Argument,
  changes,
  hyperparameters,
  inPlace,
  isRef,
  type Leaf,
  opsOf,
  type Program,
  type Stepping,
  streamOf,
  weightsStream,
} from './program.js';
import type { Fault } from './run.js';

const show = (value: Argument, name: (id: number) => string): string => {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value !== 'object') return String(value);
  if (isRef(value)) return name(value.$);
  if (Array.isArray(value)) return `[${value.map((member) => show(member, name)).join(', ')}]`;
  if ('source' in value) return String(value.source);
  const members = Object.entries(value).map(([key, member]) => {
    const text = show(member as Argument, name);
    return text === key ? key : `${key}: ${text}`;
  });
  return `{ ${members.join(', ')} }`;
};

/** The lines of an optimizer's step. */
function steppingOf({ seeded }: Program, stepping: Stepping, list: (ids: readonly number[]) => string): string[] {
  const { parameters, clip, scaled, guarded, teacher } = stepping;
  const options = [
    ...(teacher?.by === 'average' ? [`average: { tensors: [${list(teacher.ids)}], decay }`] : []),
    ...(guarded && !seeded ? ['guard: loss'] : []),
    ...(scaled ? ['unscale'] : []),
  ].join(', ');
  const unscale = scaled ? ', { unscale }' : '';
  const clipped = `clipGradients(gradients, [${list(parameters)}], ${clip}${unscale}).gradients`;
  return [
    ...(scaled ? [`const unscale = lossScale.unscale(gradients, [${list(parameters)}]);`] : []),
    `optimizer.step(${clip === undefined ? 'gradients' : clipped}, lr${options && `, { ${options} }`});`,
  ];
}

/** JavaScript, to be run where the package is: it prints the numbers that the fault is about. */
export function codeOf(program: Program, { mode, step, at }: Fault): string {
  const { stepping } = program;
  const kinds = new Map(program.leaves.map((leaf) => [leaf.id, leaf.kind]));
  const name = (id: number): string =>
    `${kinds.has(id) ? { parameter: 'w', input: 'x', labels: 'labels', running: 'r', teacher: 't', table: 'table' }[kinds.get(id)!] : 'v'}${id}`;
  const list = (ids: readonly number[]): string => ids.map(name).join(', ');
  const ops = opsOf(program);
  const draws = ops.has('createRandom');
  const optimizer = stepping && (stepping.kind === 'sgd' ? 'createSgd' : 'createAdamW');
  const result = ((): string => {
    const [, kind, id] = /^(\w+)(?: of)? (\d+)$/.exec(at?.name ?? '') ?? [];
    if (kind === 'gradient') return `gradients.get(${name(Number(id))})`;
    return kind ? name(Number(id)) : '';
  })();
  const data = ({ id, kind, shape, low, high, rows }: Leaf, at: number): string =>
    rows
      ? JSON.stringify(rows)
      : `numbers(${streamOf(id, at)}, [${shape}], ${low}, ${high})${kind === 'labels' ? '.map(Math.floor)' : ''}`;
  const leaf = (each: Leaf): string => {
    const { id } = each;
    return `const ${name(id)} = ${made(each, 0)};`;
  };
  const made = (each: Leaf, at: number): string => {
    const options = {
      ...(each.kind === 'parameter' && { requiresGrad: true }),
      ...(each.kind === 'labels' && { dtype: 'u8' }),
      ...(each.kind === 'table' && { dtype: 'i32' }),
    };
    return `tensor(gpu, ${data(each, at)}, [${each.shape}], ${JSON.stringify(options)})`;
  };
  const body = [
    ...(draws && !mode.captured ? [`const random = createRandom(gpu, ${program.seed}); random.setStep(step);`] : []),
    ...program.calls.map(({ id, name: op, args, untracked, part }) => {
      const written = `${op}(${args.map((arg) => show(arg, name)).join(', ')})`;
      const own = inPlace.has(op) ? `(${written}, ${show(args[0]!, name)})` : written;
      const call = part === undefined ? own : `${own}[${JSON.stringify(part)}]`;
      const mark = program.wanted.includes(id) ? ` ${name(id)}.requiresGrad = true;` : '';
      return `const ${name(id)} = ${untracked ? `noGrad(gpu, () => ${call})` : call};${mark}`;
    }),
    ...(program.early && !mode.captured && program.reads.length
      ? [`for (const t of [${list(program.reads)}]) await t.read();`]
      : []),
    ...(program.seeded
      ? [`const gradients = backward(${name(program.outputs[0]!)}, weights[0]);`]
      : [
          `const loss = [${list(program.outputs)}].map((y, i) => sum(mul(y, weights[i]))).reduce((a, b) => add(a, b));`,
          `const gradients = backward(loss${stepping?.scaled ? ', lossScale.scale' : ''});`,
        ]),
    ...(stepping ? steppingOf(program, stepping, list) : []),
    ...(stepping?.teacher?.by === 'ema'
      ? [`ema([${list(stepping.teacher.ids)}], [${list(stepping.parameters)}], decay);`]
      : []),
    `return [${[...new Set([result, ...program.reads.map(name)])].filter(Boolean).join(', ')}];`,
  ];
  const used = new Set([
    ...ops,
    ...program.calls.filter(({ untracked }) => untracked).map(() => 'noGrad'),
    'backward',
    ...(program.seeded ? [] : ['add', 'mul', 'sum']),
    ...(mode.captured ? ['capture'] : []),
    'tensor',
    'uniformStream',
    ...(stepping?.packed || stepping?.teacher?.packed ? ['pack'] : []),
  ]);
  const shapes = shapesOf(program);
  const weights = program.outputs.map(
    (id, i) =>
      `  tensor(gpu, numbers(${weightsStream + i}, [${shapes.get(id)}], -1, 1), [${shapes.get(id)}]), // of ${name(id)}`,
  );
  const inputs = program.leaves.filter(changes);
  const passed = mode.captured && program.passed === true;
  const given = (at: number): string =>
    passed ? [hyperparameters.lr, ...inputs.map((x) => made(x, at))].join(', ') : '';
  const call = (at: number): string[] => [
    ...(at && !passed ? inputs.map((each) => `${name(each.id)}.write(${data(each, at)});`) : []),
    ...(draws && mode.captured ? [`random.setStep(${at});`] : []),
    `${at === step ? 'const results = ' : ''}${mode.captured ? `step(${given(at)})` : `await work(${at})`};`,
  ];
  return [
    `import { ${[...used].sort().join(', ')} } from 'wgrad';`,
    "import { openDevice } from 'wgrad/node';",
    'const gpu = await openDevice();',
    `Object.assign(gpu.flags, { fuse: ${mode.fuse}, pool: ${mode.pool}, poison: ${mode.poison} });`,
    'const numbers = (stream, shape, low, high) => {',
    `  const uniform = uniformStream(${program.seed}, stream);`,
    '  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => low + (high - low) * uniform());',
    '};',
    ...program.leaves.map(leaf),
    'const weights = [',
    ...weights,
    '];',
    ...(stepping?.packed ? [`pack([${list(stepping.parameters)}]);`] : []),
    ...(stepping?.teacher?.packed ? [`pack([${list(stepping.teacher.ids)}]);`] : []),
    ...(stepping
      ? [
          `const optimizer = ${optimizer}([${list(stepping.parameters)}], ${JSON.stringify(hyperparameters[stepping.kind])});`,
          ...(stepping.scaled
            ? [`const lossScale = createLossScale(gpu, { initial: ${hyperparameters.scale} });`]
            : []),
          `const [lr, decay] = [tensor(gpu, ${hyperparameters.lr}), tensor(gpu, ${hyperparameters.decay})];`,
        ]
      : []),
    ...(draws && mode.captured ? [`const random = createRandom(gpu, ${program.seed});`] : []),
    `const work = ${mode.captured ? `(${passed ? ['lr', ...inputs.map(({ id }) => name(id))].join(', ') : ''}) =>` : 'async (step) =>'} {`,
    ...body.map((line) => `  ${line}`),
    '};',
    ...(mode.captured ? ['const step = capture(gpu, work);'] : []),
    ...Array.from({ length: step + 1 }, (_, i) => call(i)).flat(),
    ...(at
      ? [`console.log((await results[0].read())[${at.index}]); // ${at.name}: expected ${at.expected}, was ${at.got}`]
      : ['for (const t of results) console.log(await t.read());']),
    'gpu.close();',
  ].join('\n');
}
