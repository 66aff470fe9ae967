// The tuner: only what computes the same may win, and what was measured is remembered exactly as long as it holds. The family
// here is a matrix times a vector; candidates repeat their work, so that which one is fastest is no accident.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { adapterIdentity, canonical, fnv1a, remember, remembered } from '../../engine/choices.js';
import { memoryOf } from '../../engine/debug.js';
import { capture, type Gpu, GpuError, mul, tensor } from '../../engine/index.js';
import { trim } from '../../engine/memory.js';
import { type OpenOptions, openDevice, saveTuning, tuningFile } from '../../engine/node.js';
import { askedFor, choose, type Job, type Measure, recall, type Trial, tune } from '../../engine/tune.js';
import { winner } from '../../engine/tuner.js';
import { withCache } from '../cache-folder.js';
import { lacking, testGpu } from '../gpu.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('tuner');
const noHalf = await lacking('shader-f16');
const testHalf = unless(noHalf, test);
const testNoHalf = unless(noHalf ? undefined : 'this adapter has shader-f16', test);

type Fault =
  | 'drops a term'
  | 'skips a row'
  | 'NaN'
  | 'infinity'
  | 'a little off'
  | 'syntax'
  | 'too many threads'
  | 'small binding';
interface Tile {
  readonly repeat: number;
  /** Sums from the last column to the first. */
  readonly backwards?: boolean;
  readonly fault?: Fault;
}

const rows = 64;

/** What is stored in place of `sum`: wrong in the last row. */
const spoiled: Readonly<Record<string, string>> = {
  NaN: 'select(sum, bitcast<f32>(0x7fc00000u | (row & 1u)), row == 63u)',
  infinity: 'select(sum, bitcast<f32>(0x7f800000u | (row & 0u)), row == 63u)',
  'a little off': 'select(sum, sum + 0.002 * sign(sum), row == 63u)',
};

/** y = A·x for A [rows, columns]; `repeat` times over. */
function source(columns: number, { repeat, backwards = false, fault }: Tile, type: 'f32' | 'f16' = 'f32'): string {
  const column = backwards ? `${columns - 1}u - k` : 'k';
  const first = fault === 'drops a term' ? 1 : 0;
  return `${type === 'f16' ? 'enable f16;' : ''}
    @group(0) @binding(0) var<storage, read> matrix: array<${fault === 'small binding' ? 'mat4x4f' : type}>;
    @group(0) @binding(1) var<storage, read> x: array<${type}>;
    @group(0) @binding(2) var<storage, read_write> y: array<${type}>;
    @compute @workgroup_size(${fault === 'too many threads' ? 1_000_000 : 16})
    fn matrix_vector(@builtin(global_invocation_id) id: vec3u) {
      let row = id.x;
      if (row >= ${rows}u${fault === 'skips a row' ? ' || row == 17u' : ''}) { return; }
      var sum = 0.0;
      for (var turn = 0u; turn < ${repeat}u; turn++) {
        sum = 0.0;
        for (var k = ${first}u; k < ${columns}u; k++) {
          let c = ${column};
          sum += ${fault === 'small binding' ? 'matrix[row * 64u + c][0][0]' : `f32(matrix[row * ${columns}u + c])`} * f32(x[c]);
        }
        if (sum == 12345.0) { break; }
      }
      y[row] = ${type}(${spoiled[fault ?? ''] ?? 'sum'})${fault === 'syntax' ? ' +' : ''};
    }`;
}

const measure = (columns: number, type: 'f32' | 'f16' = 'f32', reference: Tile = { repeat: 1 }): Measure<Tile> => ({
  reference,
  terms: columns,
  build: (tile) => ({
    launches: [
      {
        source: source(columns, tile, type),
        args: {
          matrix: { shape: [rows, columns], dtype: type },
          x: { shape: [columns], dtype: type },
          y: { shape: [rows], dtype: type },
        },
        grid: { threads: rows },
      },
    ],
    outputs: ['y'],
  }),
});

const job = (key: string, candidates: readonly Tile[], columns = 256): Job =>
  ({ key, candidates, ...measure(columns) }) as Job;

const quick = { turns: 3, turnMs: 2 };

async function withDevice(work: (gpu: Gpu) => Promise<void>, options: OpenOptions = {}): Promise<void> {
  const gpu = await openDevice({ quiet: true, ...options });
  try {
    await work(gpu);
  } finally {
    gpu.close();
  }
}

test('the fastest correct candidate wins; wrong ones never do, however fast, and say why', async () => {
  const gpu = await testGpu();
  const candidates: Tile[] = [
    { repeat: 300 }, // milliseconds, so that a busy machine does not hide the differences
    { repeat: 150 },
    { repeat: 1, backwards: true },
    { repeat: 1500 },
    { repeat: 0 },
    { repeat: 1, fault: 'drops a term' },
    { repeat: 1, fault: 'skips a row' },
    { repeat: 1, fault: 'NaN' },
    { repeat: 1, fault: 'infinity' },
    { repeat: 1, fault: 'a little off' },
    { repeat: 1, fault: 'syntax' },
    { repeat: 1, fault: 'too many threads' },
  ];
  const family = measure(256);
  assert.is(choose(gpu, 'toy', candidates, family), candidates[0], 'the default, as long as nothing is measured');
  const jobs = askedFor(gpu).jobs.filter(({ key }) => key === 'toy');
  assert.is(jobs.length, 1);
  let told = 0;
  const [result] = await tune(gpu, jobs, { ...quick, onResult: () => told++ });
  assert.is(told, 1);
  assert.is(result!.problem, undefined);
  const why = result!.candidates.map(({ excluded }) => excluded);
  assert.equal(why.slice(0, 4), [undefined, undefined, undefined, undefined]);
  assert.match(why[4]!, /^is wrong: 'y'\[0\] is 0, expected /);
  assert.match(why[5]!, /^is wrong: 'y'\[\d+\] is .* ± /);
  assert.match(why[6]!, /^is wrong: 'y'\[17\] is NaN/);
  assert.match(why[7]!, /^is wrong: 'y'\[63\] is NaN/);
  assert.match(why[8]!, /^is wrong: 'y'\[63\] is Infinity/);
  assert.match(why[9]!, /^is wrong: 'y'\[63\] is [-\d.]+, expected [-\d.]+ ± [-.e\d]+$/);
  assert.match(why[10]!, /^does not compile: line \d+: /);
  assert.match(why[11]!, /^cannot be launched: .* a workgroup of \d+×1×1 threads — this GPU allows/);
  for (const { ms, excluded } of result!.candidates) assert.is(ms === undefined, excluded !== undefined);
  assert.is(result!.candidates[3]!.hopeless, true);
  assert.is(result!.candidates[0]!.hopeless, false, 'the default is timed to the end');
  const { choice, ms, defaultMs } = result!.tuning!;
  assert.equal(choice, candidates[2]);
  assert.ok(ms < 0.5 * defaultMs, `${ms} of ${defaultMs} ms`);
  assert.is(choose(gpu, 'toy', candidates, family), candidates[2], 'remembered');
  assert.equal([...(await mul(tensor(gpu, [1, 2]), 2).read())], [2, 4], 'the device is as good as before');
});

test('a launch that the GPU refuses excludes its candidate and leaves the device alone', () =>
  withDevice(async (gpu) => {
    const build = (tile: Tile) => ({
      launches: [
        {
          source: source(1, tile),
          args: { matrix: { shape: [1] }, x: { shape: [1] }, y: { shape: [rows] } },
          grid: { threads: rows },
        },
      ],
      outputs: ['y'],
    });
    const candidates: Tile[] = [{ repeat: 1 }, { repeat: 1, fault: 'small binding' }];
    const [result] = await tune(
      gpu,
      [{ key: 'refused', candidates, reference: candidates[0], terms: 1, build } as Job],
      quick,
    );
    assert.is(result!.candidates[0]!.excluded, undefined);
    assert.match(result!.candidates[1]!.excluded!, /^cannot be launched: .* needs at least/);
    assert.equal([...(await mul(tensor(gpu, [1, 2]), 2).read())], [2, 4]);
  }));

test('a wrong default loses its place even to a slow candidate', async () => {
  const gpu = await testGpu();
  const candidates: Tile[] = [{ repeat: 1, fault: 'drops a term' }, { repeat: 8 }];
  const [result] = await tune(gpu, [job('wrong default', candidates)], quick);
  assert.equal(result!.tuning!.choice, candidates[1]);
  assert.is(choose(gpu, 'wrong default', candidates, measure(256)), candidates[1]);
});

test('a reference that fails, or shows nothing, measures nothing: the default stays', async () => {
  const gpu = await testGpu();
  const candidates: Tile[] = [{ repeat: 4 }, { repeat: 1 }];
  const tuned = async (reference: Tile): Promise<string> => {
    const [result] = await tune(gpu, [{ ...measure(256, 'f32', reference), key: 'no reference', candidates } as Job]);
    assert.is(result!.tuning, undefined);
    assert.is(choose(gpu, 'no reference', candidates, measure(256)), candidates[0]);
    return result!.problem!;
  };
  assert.match(await tuned({ repeat: 1, fault: 'NaN' }), /^the reference leaves a NaN/);
  assert.match(await tuned({ repeat: 1, fault: 'syntax' }), /^the reference does not compile: line/);
  assert.match(await tuned({ repeat: 0 }), /^the reference writes only zeros to 'y'/);
});

test('an adapter that computes nothing is refused', () =>
  withDevice((gpu) => refuses(() => tune(gpu, []), GpuError, /^tune: the null adapter computes nothing/), {
    adapter: 'null',
  }));

for (const type of ['f32', 'f16'] as const) {
  for (const columns of [1, 3, 256, 20_000]) {
    (type === 'f16' ? testHalf : test)(
      `${type}, ${columns} terms: another order of summing passes, a missing term does not`,
      async (): Promise<void> => {
        const gpu = await testGpu();
        const candidates: Tile[] = [
          { repeat: 1 },
          { repeat: 1, backwards: true },
          { repeat: 1, fault: 'drops a term' },
        ];
        const sums = { ...measure(columns, type), key: `order ${type} ${columns}`, candidates } as Job;
        const [result] = await tune(gpu, [sums], { turns: 1, turnMs: 1 });
        const excluded = result!.candidates.map((candidate) => candidate.excluded !== undefined);
        assert.equal(excluded, [false, false, true], result!.problem ?? JSON.stringify(result!.candidates));
      },
    );
  }
}

testNoHalf('f16 on an adapter without it is a problem of the job', async () => {
  const candidates: Tile[] = [{ repeat: 1 }];
  const job = { ...measure(3, 'f16'), key: 'no f16', candidates } as Job;
  const [result] = await tune(await testGpu(), [job], { turns: 1, turnMs: 1 });
  assert.match(result!.problem!, /^the reference cannot be launched: matrix_vector: works on f16/);
});

test('a second pass belongs to its candidate: launches share tensors by name, and times add up', async () => {
  const gpu = await testGpu();
  const columns = 64;
  const half = (from: number): string => `
    @group(0) @binding(0) var<storage, read> matrix: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(16) fn half_sum(@builtin(global_invocation_id) id: vec3u) {
      var sum = 0.0;
      for (var k = ${from}u; k < ${from + columns / 2}u; k++) { sum += matrix[id.x * ${columns}u + k]; }
      y[id.x] = sum;
    }`;
  const addition = `
    @group(0) @binding(0) var<storage, read> left: array<f32>;
    @group(0) @binding(1) var<storage, read> right: array<f32>;
    @group(0) @binding(2) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(16) fn add_halves(@builtin(global_invocation_id) id: vec3u) { y[id.x] = left[id.x] + right[id.x]; }`;
  const whole = half(0).replace(`k < ${columns / 2}u`, `k < ${columns}u`);
  const matrix = { shape: [rows, columns] };
  const [sums, grid] = [{ shape: [rows] }, { threads: rows }];
  const build = (passes: unknown): Trial => ({
    launches:
      passes === 1
        ? [{ source: whole, args: { matrix, y: sums }, grid }]
        : [
            { source: half(0), args: { matrix, y: { ...sums, name: 'left' } }, grid },
            { source: half(columns / 2), args: { matrix, y: { ...sums, name: 'right' } }, grid },
            {
              source: passes === 2 ? addition : addition.replace('+', '-'),
              args: { left: sums, right: sums, y: sums },
              grid,
            },
          ],
    outputs: ['y'],
  });
  const [result] = await tune(
    gpu,
    [{ key: 'passes', candidates: [1, 2, -2], reference: 1, terms: columns, build }],
    quick,
  );
  assert.equal(
    result!.candidates.map(({ excluded }) => excluded?.slice(0, 8)),
    [undefined, undefined, 'is wrong'],
  );
});

test('what a launch updates in place starts the same for every candidate', async () => {
  const gpu = await testGpu();
  const source = (times: number): string => `
    @group(0) @binding(0) var<storage, read_write> total: array<f32>;
    @group(0) @binding(1) var<storage, read> x: array<f32>;
    @compute @workgroup_size(16) fn accumulate(@builtin(global_invocation_id) id: vec3u) {
      total[id.x] = total[id.x] + ${times}.0 * x[id.x];
    }`;
  const build = (times: number) => ({
    launches: [
      {
        source: source(times),
        args: { total: { shape: [rows], values: [1, 2, 3] }, x: { shape: [rows], values: [0.5, -1] } },
        grid: { threads: rows },
      },
    ],
    outputs: ['total'],
  });
  const candidates = [1, 1, 2];
  const [result] = await tune(gpu, [{ key: 'in place', candidates, reference: 1, terms: 2, build } as Job], quick);
  assert.is(result!.candidates[0]!.excluded, undefined);
  assert.is(result!.candidates[1]!.excluded, undefined);
  assert.match(result!.candidates[2]!.excluded!, /'total'\[0\] is 2, expected 1.5/);
});

for (const dtype of ['f32', 'f16', 'u32', 'i32'] as const) {
  (dtype === 'f16' ? testHalf : test)(
    `${dtype}: one wrong or unwritten element of many is found, the last one, too`,
    async () => {
      const gpu = await testGpu();
      const size = 300_001; // more than one element for each thread, and half a word at the end
      // Every element is the same, so that f16 holds the sum and its last place is known.
      const source = (wrong: number, by: string): string => `${dtype === 'f16' ? 'enable f16;' : ''}
        @group(0) @binding(0) var<storage, read_write> y: array<${dtype}>;
        @compute @workgroup_size(64) fn same(@builtin(global_invocation_id) id: vec3u) {
          if (id.x >= ${size}u) { return; }
          ${by === 'unwritten' ? `if (id.x == ${wrong}u) { return; }` : ''}
          y[id.x] = ${dtype}(3)${by === 'unwritten' ? '' : ` + select(${dtype}(0), ${dtype}(${by}), id.x == ${wrong}u)`};
        }`;
      const build = ([wrong, by]: readonly [number, string]): Trial => ({
        launches: [{ source: source(wrong, by), args: { y: { shape: [size], dtype } }, grid: { threads: size } }],
        outputs: ['y'],
      });
      const [little, allowed] = {
        f32: ['0.00001', '0.0000005'],
        f16: ['0.00390625', '0.001953125'],
        u32: ['1'],
        i32: ['-1'],
      }[dtype] as [string, string?];
      const wrong: (readonly [number, string])[] = [0, 150_000, size - 1].flatMap((at) => [
        [at, little],
        [at, 'unwritten'],
      ]);
      const candidates = [[0, '0'], ...wrong, ...(allowed ? [[7, allowed]] : [])] as typeof wrong;
      const family = { key: `one of many ${dtype}`, candidates, reference: candidates[0]!, terms: 1, build } as Job;
      const [result] = await tune(gpu, [family], { turns: 1, turnMs: 1 });
      const why = result!.candidates.map(({ excluded }) => excluded);
      assert.is(result!.problem, undefined);
      assert.is(why[0], undefined);
      wrong.forEach(
        ([at], i) => void assert.match(why[i + 1]!, new RegExp(`^is wrong: 'y'\\[${at}\\] is .*, expected 3 ± `)),
      );
      if (allowed) assert.is(why[wrong.length + 1], undefined, 'rounding is allowed');
    },
  );
}

test('the default keeps its place unless another is 3 % faster', () => {
  const decide = (...times: (number | undefined)[]): unknown => {
    const candidates = times.map((_, i) => ({ repeat: i + 1 }));
    const results = times.map((ms, i) => ({
      candidate: candidates[i],
      ms,
      excluded: ms === undefined ? 'is wrong' : undefined,
      hopeless: false,
    }));
    const tuning = winner(job('decide', candidates), results);
    return tuning && [(tuning.choice as Tile).repeat - 1, tuning.ms, tuning.defaultMs];
  };
  assert.equal(decide(100, 98), [0, 100, 100]);
  assert.equal(decide(100, 97), [0, 100, 100]);
  assert.equal(decide(100, 96.9), [1, 96.9, 100]);
  assert.equal(decide(100, 96, 95), [2, 95, 100]);
  assert.equal(decide(100, 200), [0, 100, 100]);
  assert.equal(decide(undefined, 200, 100), [2, 100, 100]);
  assert.is(decide(undefined, undefined), undefined);
});

test('an adapter without timestamps is timed by the clock', () =>
  withDevice(async (gpu) => {
    Object.defineProperty(gpu, 'features', { value: new Set() });
    const [result] = await tune(gpu, [job('clock', [{ repeat: 300 }, { repeat: 1 }])], quick);
    assert.equal(result!.tuning!.choice, { repeat: 1 });
    const { ms, defaultMs } = result!.tuning!;
    assert.ok(ms > 0 && ms < defaultMs, `${ms} of ${defaultMs} ms`);
  }));

test('buffers of the measurement are given back', async () => {
  const gpu = await testGpu();
  await tensor(gpu, [1]).read();
  trim(gpu);
  const before = memoryOf(gpu).bytes;
  await tune(gpu, [job('memory', [{ repeat: 1 }, { repeat: 1, fault: 'syntax' }], 4096)], quick);
  // What other tests left behind may be collected and freed meanwhile.
  assert.ok(memoryOf(gpu).bytes <= before, `${memoryOf(gpu).bytes} bytes, ${before} before`);
});

test('a step that is recorded after tuning uses the choice', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1, 2]);
  const step = () =>
    capture(gpu, () => mul(x, (choose(gpu, 'factor', [{ factor: 2 }, { factor: 3 }]) as { factor: number }).factor));
  assert.equal([...(await step()().read())], [2, 4]);
  remember(gpu, { factor: { choice: { factor: 3 }, ms: 1, defaultMs: 2, hash: '' } });
  assert.equal([...(await step()().read())], [3, 6]);
  assert.ok(askedFor(gpu).keys.includes('factor'));
  assert.not.ok(
    askedFor(gpu).jobs.some(({ key }) => key === 'factor'),
    'it never said how to measure',
  );
});

test('a choice holds while it is a candidate and the text of its kernels is the same', async () => {
  const gpu = await testGpu();
  const candidates: Tile[] = [{ repeat: 3 }, { repeat: 1 }];
  const build = measure(8).build;
  const texts = candidates.flatMap((tile) => build(tile).launches.map((launch) => launch.source));
  const holds = (key: string, tiles: readonly Tile[], kernels: Measure<Tile>): boolean => {
    remember(gpu, { [key]: { choice: { repeat: 1 }, ms: 1, defaultMs: 2, hash: fnv1a(texts.join('\0')) } });
    const chosen = choose(gpu, key, tiles, kernels).repeat === 1;
    const same = { key, candidates: tiles, ...kernels } as Job;
    assert.is(recall(gpu, same) !== undefined, chosen, 'recall and choose agree');
    return chosen;
  };
  assert.ok(holds('a', candidates, measure(8)));
  assert.ok(holds('a', [...candidates, { repeat: 2 }], measure(8)), 'more candidates do no harm');
  assert.not.ok(holds('b', [{ repeat: 3 }, { repeat: 2 }], measure(8)));
  assert.not.ok(holds('c', candidates, measure(9)), 'another text');
  gpu.flags.tune = false;
  try {
    assert.is(choose(gpu, 'a', candidates, measure(8)), candidates[0], 'WGRAD_TUNE=0');
    assert.is(choose(gpu, 'never asked', candidates), candidates[0]);
  } finally {
    gpu.flags.tune = true;
  }
  assert.not.ok(askedFor(gpu).keys.includes('never asked'));
  assert.is(choose(gpu, 'a', candidates, measure(8)), candidates[1]);
});

test('candidates are compared whatever the order of their names', () => {
  assert.is(canonical({ b: 1, a: { d: [2, 1], c: true } }), '{"a":{"c":true,"d":[2,1]},"b":1}');
  assert.is(fnv1a(''), '811c9dc5');
  assert.is(fnv1a('foobar'), 'bf9cf968'); // the function's published test value
});

test('it refuses to run inside a step', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, [1]);
  let inside: Promise<unknown> | undefined;
  capture(gpu, () => {
    inside = tune(gpu, []);
    inside.catch(() => {});
    return mul(x, 2);
  })();
  await refuses(() => inside, GpuError, /^tune: inside a captured step/);
});

const tuning = (repeat: number) => ({ choice: { repeat }, ms: 1, defaultMs: 2, hash: '0' });

test('the disk keeps choices: what is saved is there when a device is opened, unless --no-tune', () =>
  withCache(async (folder) => {
    await withDevice(async (gpu) => {
      assert.is(remembered(gpu)['on disk'], undefined);
      const file = saveTuning(gpu, { 'on disk': tuning(1), other: tuning(2) });
      assert.is(file, tuningFile(gpu.adapter));
      assert.is(dirname(file), join(folder, 'wgrad'));
      saveTuning(gpu, { 'on disk': tuning(3) });
      assert.equal(readdirSync(dirname(file)), [file.slice(dirname(file).length + 1)], 'no halves are left');
    });
    await withDevice(async (gpu) => {
      assert.equal(remembered(gpu)['on disk'], tuning(3), 'the later one');
      assert.equal(remembered(gpu).other, tuning(2), 'what was there before is kept');
      assert.is(choose(gpu, 'on disk', [{ repeat: 9 }, { repeat: 3 }]).repeat, 3);
    });
    await withDevice(async (gpu) => assert.is(remembered(gpu)['on disk'], undefined), { flags: { tune: false } });
  }));

test('a damaged or foreign file is ignored, with a line under WGRAD_DEBUG', () =>
  withCache(async () => {
    const { adapter } = await testGpu();
    const file = tuningFile(adapter);
    await withDevice(async (gpu) => void saveTuning(gpu, { key: tuning(1) }));
    const good = readFileSync(file, 'utf8');
    const saved = JSON.parse(good) as Record<string, unknown>;
    const said: string[] = [];
    const { error } = console;
    const opened = async (text: string): Promise<{ found: boolean; lines: string[] }> => {
      writeFileSync(file, text);
      said.length = 0;
      console.error = (line: string) => void said.push(line);
      try {
        let found = false;
        await withDevice(async (gpu) => void (found = 'key' in remembered(gpu)), { flags: { debug: 1 } });
        return { found, lines: said.filter((line) => line.startsWith('tuner:')) };
      } finally {
        console.error = error;
      }
    };
    assert.equal(await opened(good), { found: true, lines: [] });
    const bad: Record<string, [string, RegExp]> = {
      truncated: [good.slice(0, -20), /JSON/],
      empty: ['', /JSON/],
      foreign: [JSON.stringify({ ...saved, adapter: 'another' }), /it is of another/],
      'of another format': [JSON.stringify({ ...saved, format: 99 }), /its layout is another one/],
      'an array': ['[]', /its layout is another one/],
      'without times': [JSON.stringify({ ...saved, choices: { key: { choice: {} } } }), /its layout is another one/],
    };
    for (const [name, [text, message]] of Object.entries(bad)) {
      const { found, lines } = await opened(text);
      assert.is(found, false, name);
      assert.is(lines.length, 1, name);
      assert.ok(lines[0]!.startsWith(`tuner: ${file} is ignored: `), lines[0]);
      assert.match(lines[0]!, message, name);
    }
    await withDevice(async (gpu) => void saveTuning(gpu, { key: tuning(1) }));
    assert.is(readFileSync(file, 'utf8'), good, 'and written anew');
  }));

test('adapters and driver versions have files of their own', async () => {
  const { adapter } = await testGpu();
  const newer = { ...adapter, description: `${adapter.description}1` };
  assert.is.not(adapterIdentity(adapter), adapterIdentity(newer));
  assert.is.not(tuningFile(adapter), tuningFile(newer));
  assert.not.ok(existsSync(tuningFile(newer)));
});

test.run();
